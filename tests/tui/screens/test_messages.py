"""Messages: in the row of the keys, none over a figure or a dialog, and all of them in a list."""

import pytest

from llmval_tui.tui.screens.dialog import DialogTitle
from llmval_tui.tui.screens.text_dialog import TextDialog
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, ready, text_of, toasts_of, until


async def test_a_message_takes_the_row_of_the_keys_to_the_next_key(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        above = [text_of(widget) for widget in (app.main.header, app.main.panes["run"])]
        steps = text_of(app.main.steps).rstrip()
        app.main.toast("word [/red]\nother " * 60, "warning")
        shown = text_of(app.main.key_bar)
        assert "! word [/red] other word" in shown and shown.rstrip().endswith("…  M 1") and "complete" not in shown
        assert [text_of(w) for w in (app.main.header, app.main.panes["run"])] == above
        below = text_of(app.main.steps).removeprefix(steps)
        assert "Messages" in below and "word [/red] other" in below, "at once, not with the next change of the files"
        await pilot.press("j")  # it ends the message, and moves
        assert "complete" in text_of(app.main.key_bar) and app.main.state.step is not None
        assert app.main.state.step.number == "1.2"


async def test_a_message_ends_by_itself(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmval_tui.tui.screens.actions.NOTICE_S", 0.01)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        app.main.toast("soon over")
        await until(pilot, lambda: "complete" in text_of(app.main.key_bar))


async def test_a_message_waits_while_a_dialog_is_open(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        app.main.toast("meanwhile")
        await pilot.press("enter")
        await pilot.pause()
        assert "meanwhile" not in text_of(app.main.key_bar)
        assert "write something" in text_of(app.screen.query_one(DialogTitle))
        await pilot.press("escape")
        await until(pilot, lambda: "meanwhile" in text_of(app.main.key_bar))


async def test_all_messages_are_listed_and_repeats_are_counted(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        for text in ("first", "second", "second"):
            app.main.toast(text, "error")
        assert toasts_of(app) == "first\nsecond"
        await pilot.press("M")
        await dialog_opens(pilot)
        lines = [line.strip() for line in body(app).splitlines() if line.strip()]
        assert len(lines) == 2 and lines[0].endswith("✗ second (2 times)") and lines[1].endswith("✗ first")
