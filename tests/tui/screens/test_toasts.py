"""Toasts: short, none twice, and none over a dialog."""

from textual.widgets._toast import Toast

from llmval_tui.tui.screens.dialog import DialogTitle
from llmval_tui.tui.screens.text_dialog import TextDialog
from tests.helpers.tui_pilot import WIDE, Make, ready, text_of, toasts_of, until


async def test_a_toast_waits_while_a_dialog_is_open(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE, notifications=True) as pilot:
        app = await ready(pilot)
        app.main.toast("before")
        await until(pilot, lambda: app.screen.query(Toast))
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        app.main.toast("meanwhile")
        await pilot.press("enter")
        await pilot.pause()
        assert not app.screen.query(Toast) and "meanwhile" not in toasts_of(app)
        assert "write something" in text_of(app.screen.query_one(DialogTitle))
        await pilot.press("escape")
        await until(pilot, lambda: len(app.main.query(Toast)) == 2)
        assert toasts_of(app).split("\n") == ["before", "meanwhile"]


async def test_a_toast_has_three_lines_and_appears_once(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE, notifications=True) as pilot:
        app = await ready(pilot)
        for _ in range(3):
            app.main.toast("word [/red] " * 60)
        await until(pilot, lambda: app.screen.query(Toast))
        await pilot.pause()
        (toast,) = app.main.query(Toast)
        lines = [str(strip.text).strip() for strip in toast.render_lines(toast.outer_size.region)]
        assert toast.outer_size.height == 3 and len(lines) == 3 and lines[-1].endswith("…")
