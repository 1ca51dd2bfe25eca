"""Moving: list, panes, filter, jump, sizes."""

from dataclasses import replace
from typing import Any

import pytest

from llmval_tui.runs.records import Outcome, State
from llmval_tui.tui.keys import PANES
from llmval_tui.tui.widgets.row_widget import RowWidget
from tests.helpers.tui_builder import Workspace, load_events, verdict
from tests.helpers.tui_pilot import WIDE, Make, dialog_opens, ready, text_of, until


async def test_the_list_shows_each_state_as_a_word(workspace: Workspace, dashboard: Make) -> None:
    workspace.run("1.2")
    workspace.run("1.1", run_id="20260101T000000Z-1.1-a", state=State.FINISHED, verdict=verdict(Outcome.FAIL))
    workspace.run("2.1", run_id="20260101T000001Z-2.1-b", state=State.FINISHED, verdict=verdict())
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        shown = text_of(app.main.steps)
        for words in ("1.1", "✗ failed", "▸ running", "□ ticked", "● passed", "○ open"):
            assert words in shown


async def test_moving_and_panes(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        main = app.main
        assert main.state.step is not None and main.state.step.number == "1.1"
        await pilot.press("j", "j", "k")
        assert main.state.step.number == "1.2"
        await pilot.press("G")
        assert main.state.step.number == "2.2"
        await pilot.press("g")
        assert main.state.step is None and main.state.section == "1. Serving"
        await pilot.press("j")
        assert main.state.key is not None and main.state.key.text.startswith("Export")
        for number, name in enumerate(PANES, 1):
            await pilot.press(str(number))
            assert (main.shown, main.pane) == (name, name)
            assert main.panes[name].display
        await pilot.press("h")
        assert main.pane == "list"
        await pilot.press("l")
        assert main.pane == PANES[-1]
        await pilot.press("escape")
        assert main.pane == "list"
        await pilot.press("tab")
        assert main.pane == PANES[-1]
        await pilot.press("a")
        assert main.pane == "artifacts"


async def test_a_key_right_after_a_move_acts_on_the_visible_step(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        steps = app.main.steps
        # Both in one go, with no turn of the loop between them, as a paste or a fast hand gives them.
        steps.action_move(1)
        app.main.action_complete()
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("run", ["1.2"], False, True, None, False)]


async def test_a_narrow_terminal_shows_one_at_a_time(dashboard: Make) -> None:
    async with dashboard().run_test(size=(80, 24)) as pilot:
        app = await ready(pilot)
        left, right = app.main.query_one("#left"), app.main.query_one("#right")
        assert (left.display, right.display) == (True, False)
        await pilot.press("enter")
        assert (left.display, right.display) == (False, True)
        await pilot.press("escape")
        assert (left.display, right.display) == (True, False)
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert (left.display, right.display) == (True, True)
        await pilot.press("1", "z")
        assert (left.display, right.display) == (False, True)
        await pilot.press("z")
        assert (left.display, right.display) == (True, True)


async def test_the_layout_follows_the_focus_at_once(dashboard: Make) -> None:
    """The widgets hear of the focus later, and a picture may be drawn before that."""
    async with dashboard().run_test(size=(80, 24)) as pilot:
        app = await ready(pilot)
        for name in ("run", "list", "fleet", "list"):
            if name == "list":
                app.main.focus_list()
            else:
                app.main.show_pane(name)
            shown = [app.main.query_one(side).display for side in ("#left", "#right")]
            assert (app.main.pane, shown) == (name, [name == "list", name != "list"])
            await pilot.pause()
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        app.main.show_pane("fleet")
        assert not app.main.query_one("#left").display, "the fleet has the whole screen"


async def test_filter_and_its_end(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("slash", *"power_eff")
        await pilot.pause()
        shown = text_of(app.main.steps)
        assert "2.2" in shown and "1.1" not in shown
        # The step that keys act on is one that is seen.
        assert app.main.state.step is not None and app.main.state.step.number == "2.2"
        await pilot.press("enter")
        await pilot.pause()
        assert app.main.pane == "list"
        await pilot.press("escape")
        await pilot.pause()
        assert "1.1" in text_of(app.main.steps)


async def test_esc_cancels_the_filter_that_is_being_typed(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("slash", *"zzz")
        await until(pilot, lambda: app.main.state.filter == "zzz")
        await pilot.press("escape")
        await until(pilot, lambda: not app.main.state.filter and app.main.pane == "list")
        assert "1.1" in text_of(app.main.steps) and "/zzz" not in text_of(app.main.list_title)
        await pilot.press("slash", *"power", "enter", "slash", *"zzz", "escape")
        await until(pilot, lambda: app.main.state.filter == "power" and app.main.pane == "list")


async def test_jump_goes_to_a_step_a_pane_or_nowhere(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        main = app.main
        await pilot.press("l", "semicolon")
        await until(pilot, lambda: "letter goes to its step" in text_of(app.screen.query_one("JumpBar", RowWidget)))
        assert "d 1.3" in text_of(main.steps)
        await pilot.press("d")
        await until(pilot, lambda: main.pane == "list")
        assert main.state.step is not None and main.state.step.number == "1.3"
        assert "d 1.3" not in text_of(main.steps)
        await until(pilot, lambda: main.key_bar.display and not app.screen.query("JumpBar"))
        await pilot.press("semicolon", "4")
        await until(pilot, lambda: main.pane == "load")
        await pilot.press("semicolon", "escape")
        await until(pilot, lambda: not app.screen.query("JumpBar"))
        assert main.pane == "load" and main.state.step.number == "1.3"
        await pilot.press("semicolon", "0")  # no label: as Esc
        await until(pilot, lambda: not app.screen.query("JumpBar"))
        assert main.pane == "load"


async def test_resizing_in_a_storm(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "4")
        for width, height in [(80, 24), (10, 3), (200, 60), (99, 20), (100, 20), (160, 50), (1, 1), (120, 40)] * 2:
            await pilot.resize_terminal(width, height)
        await until(pilot, lambda: "60/300 s" in text_of(app.main.panes["load"]), "the load")
        assert "Rate QPS" in text_of(app.main.panes["load"])


async def test_a_pane_its_tab_and_the_footer_change_in_one_frame(workspace: Workspace, dashboard: Make) -> None:
    workspace.run("1.2", state=State.FINISHED, verdict=verdict())
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("1")
        await pilot.press("7")  # the panes are there now, and Run has been drawn and is hidden
        main, run = app.main, app.main.panes["run"]
        await until(pilot, lambda: not run.size.area, "the pane Runs")
        main.state.snapshot = replace(main.state.snapshot, problem="disk-away")
        frames: list[tuple[str, str, str, bool]] = []

        def note() -> None:
            frames.append((text_of(run), text_of(main.tabs), text_of(main.key_bar), main.focused is run))

        app.post_display_hook = note  # type: ignore[method-assign]
        main.show_pane("run")
        # Before the loop turns: nothing of it waits for a message.
        assert len(frames) == 1
        shown, tabs, keys, focused = frames[0]
        assert "disk-away" in shown and "▌1 Run▐" in tabs and "filter outcome" not in keys and focused


@pytest.mark.parametrize("opened", ["slash", "semicolon"])
@pytest.mark.parametrize("place", ["list", "document"])
async def test_a_resize_while_a_prompt_or_the_jump_bar_is_open_hides_neither_list_nor_pane(
    dashboard: Make, opened: str, place: str
) -> None:
    async with dashboard().run_test(size=(80, 24)) as pilot:
        app = await ready(pilot)
        await pilot.press(*(["6"] if place == "document" else []), opened)
        await until(pilot, lambda: app.main.focused not in (app.main.steps, *app.main.panes.values()), "the prompt")
        for size in ((78, 24), (130, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.main.size == size
            wide = size[0] >= 100
            assert app.main.query_one("#left").display == (wide or place == "list")
            assert app.main.query_one("#right").display == (wide or place != "list")
        await pilot.press("escape")
        assert app.main.pane == place
