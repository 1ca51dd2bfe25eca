"""Clicks that come twice or late, another window in front, and keys behind the one that quits."""

import asyncio
from typing import Any

import pytest
from textual import events
from textual.geometry import Offset, Size
from textual.pilot import Pilot
from textual.widgets import Input

from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.snapshot import Snapshot
from llmval_tui.tui.data.watcher import SnapshotTaken
from llmval_tui.tui.screens.dialog import Choices, Dialog, DialogBody
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.widgets.bars import Bar
from llmval_tui.tui.widgets.jump_bar import JumpBar
from llmval_tui.tui.widgets.prompt import Prompt
from tests.helpers.tui_pilot import WIDE, Make, ready, until
from tests.tui.test_key_queue import SLASH, burst


def click_bar(app: Dashboard, *names: str) -> None:
    for name in names:
        app.main.post_message(Bar.Pressed(app.main.key_bar, name))


async def opened_note(pilot: Pilot[Any], app: Dashboard) -> None:
    burst(app, "t")
    await until(pilot, lambda: isinstance(app.screen, TextDialog) and isinstance(app.focused, Input), "the note")


async def test_two_clicks_on_an_answer_close_one_dialog(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "c")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and app.screen.query(Choices))
        answer = app.screen.query_one(Choices)
        answer.post_message(Choices.Selected(answer.choices[-1]))
        answer.post_message(Choices.Selected(answer.choices[-1]))
        await until(pilot, lambda: app.screen is app.main)
        await pilot.pause()
        await opened_note(pilot, app)


async def test_two_clicks_on_a_key_open_one_dialog_and_the_second_answers_nothing(
    dashboard: Make, commands: Any
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "j")
        for names in (("options", "options"), ("palette", "palette"), ("complete", "complete", "open")):
            click_bar(app, *names)
            await until(pilot, lambda: app.screen is not app.main and not app._key_queue.busy, names[0])
            await pilot.pause()
            assert len(app.screen_stack) == 2 and commands.calls == []
            burst(app, "escape")
            await until(pilot, lambda: app.screen is app.main)


async def test_a_click_on_a_key_ends_an_open_prompt(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, SLASH)
        await until(pilot, lambda: isinstance(app.focused, Prompt))
        first = app.focused
        click_bar(app, "find")
        await until(pilot, lambda: isinstance(app.focused, Prompt) and app.focused is not first, "another prompt")
        await until(pilot, lambda: len(app.main.query(Prompt)) == 1, "the end of the first one")


async def test_a_click_on_a_tab_leaves_the_jump_bar(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, ("semicolon", ";"))
        await until(pilot, lambda: isinstance(app.focused, JumpBar))
        app.main.post_message(Bar.Pressed(app.main.tabs, "log"))
        await until(pilot, lambda: not app.main.query(JumpBar) and app.main.key_bar.display)
        assert app.main.pane == "log" and app.focused is app.main.log_pane


async def test_another_window_in_front_takes_no_focus(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, SLASH, "a")
        await until(pilot, lambda: app.main.state.filter == "a")
        app.post_message(events.AppBlur())
        await pilot.pause()
        app.post_message(events.AppFocus())
        await pilot.pause()
        assert isinstance(app.focused, Prompt) and app.focused.value == "a"
        burst(app, "escape")
        app.post_message(events.AppBlur())  # and a dialog opens behind the other window
        await until(pilot, lambda: app.focused is app.main.steps)
        await opened_note(pilot, app)


async def test_a_mouse_that_is_outside_takes_no_focus(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        x, y = Size(*WIDE)
        app.post_message(events.MouseUp(None, x, y, 0, 0, 1, False, False, False, x, y))
        await pilot.pause()
        assert app.focused is app.main.steps


async def test_a_press_on_a_widget_that_was_just_removed_ends_nothing(
    dashboard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        monkeypatch.setattr(app.main, "get_widget_and_offset_at", lambda x, y: (JumpBar(), Offset(0, 0)))
        app.post_message(events.MouseDown(None, 1, 1, 0, 0, 1, False, False, False, 1, 1))
        await pilot.pause()
        assert app.is_running and app.focused is app.main.steps


async def test_letters_reach_the_input_after_a_click_into_the_text(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await opened_note(pilot, app)
        await pilot.click(DialogBody)
        burst(app, "x")
        await until(pilot, lambda: app.screen.query_one(Input).value == "x", "the letter")


async def test_keys_behind_the_one_that_quits_do_nothing(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        delivered: list[str] = []

        async def deliver(key: events.Key) -> None:
            delivered.append(key.key)

        monkeypatch.setattr(app._key_queue, "_deliver", deliver)
        app.exit(0)
        await app._key_queue.put(events.Key("j", "j"))
        assert delivered == [] and not app._key_queue.busy


async def test_what_a_thread_finds_after_the_end_is_dropped(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
    app.main._detach()
    await asyncio.to_thread(app.main.post_after_key, SnapshotTaken(Snapshot()))
