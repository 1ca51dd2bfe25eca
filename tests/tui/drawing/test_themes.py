"""Themes, ASCII and hostile text."""

from functools import partial

import pytest

from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.widgets.row_widget import RowWidget
from tests.helpers.tui_builder import CHECKLIST, Workspace, load_events, sample
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, ready, text_of, toasts_of, until

HOSTILE = CHECKLIST.replace("Note the driver's version.", "Note [/red] \x1b]0;x\x07 👩‍🚀 日本 " + "long " * 400)


async def test_hostile_text_is_shown_and_harmless(workspace: Workspace, dashboard: Make) -> None:
    workspace.checklist.write_text(HOSTILE, encoding="utf-8")
    for size in ((80, 24), (20, 5), WIDE):
        app = dashboard()
        async with app.run_test(size=size) as pilot:
            await ready(pilot)
            await pilot.press("j", "j", "enter")
            for number in range(1, 7):
                await pilot.press(str(number))
            await pilot.press("1")
            if size == WIDE:
                await until(pilot, partial(shows, app.main.panes["run"], "[/red]"), "the item")
            assert "\x1b" not in app.export_screenshot()


def shows(pane: RowWidget, text: str) -> bool:
    return text in text_of(pane)


@pytest.mark.parametrize("theme", ["dark", "light", "contrast", "ansi", "mono"])
async def test_every_theme_can_be_applied(dashboard: Make, theme: str) -> None:
    async with dashboard(theme=theme).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await dialog_opens(pilot)
        await pilot.press("n", "t")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press("escape", "colon")
        await until(pilot, lambda: app.screen is not app.main)
        await pilot.press("escape")
        app.main.action_theme("light")
        await pilot.pause()
        assert app.styled_theme.name == "light"
        app.main.action_theme("no such theme")
        await until(pilot, lambda: "there is no theme" in toasts_of(app))
        assert app.styled_theme.name == "light"


async def test_ascii_is_ascii_everywhere(workspace: Workspace, dashboard: Make) -> None:
    workspace.checklist.write_text(HOSTILE, encoding="utf-8")
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    app = dashboard(ascii=True)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        app.main.post_message(SamplesTaken("live", [sample(s) for s in range(20)]))
        await pilot.press("j")
        for key in (*"123456", "colon"):
            await pilot.press(key)
            await pilot.pause(0.15)
            lines = [strip.text for strip in app.screen._compositor.render_strips()]
            assert all(line.isascii() for line in lines), [line for line in lines if not line.isascii()]


async def test_another_theme_reaches_rows_that_were_drawn_before(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        steps = app.main.steps

        def backgrounds() -> set[str]:
            strips = steps.render_lines(steps.size.region)
            return {str(segment.style.bgcolor) for strip in strips for segment in strip if segment.style}

        dark = backgrounds()
        assert backgrounds() == dark
        app.main.action_theme("light")
        await pilot.pause()
        assert not backgrounds() & dark


async def test_ascii_names_the_arrows(dashboard: Make) -> None:
    async with dashboard(ascii=True).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("question_mark")
        await dialog_opens(pilot)
        await until(pilot, lambda: "up k      Move a line up" in body(app), "the arrow as a word")
        assert " ? k" not in body(app)  # `?` is a key of its own
