"""The keys that change something: each asks first and starts the command that it shows."""

from dataclasses import replace
from typing import Any

import pytest

from llmval_tui.runs.records import Outcome, State
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import UNICODE
from llmval_tui.tui.cli_client import CommandResult
from llmval_tui.tui.keys import KEYS, PANES, PREPARING
from llmval_tui.tui.screens.dialog import Dialog
from llmval_tui.tui.screens.dialog_texts import question_rows
from llmval_tui.tui.screens.palette import EntryList, Palette
from llmval_tui.tui.screens.text_dialog import TextDialog
from tests.helpers.tui_builder import Workspace, verdict
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, ready, text_of, toasts_of, until


async def test_complete_asks_and_shows_everything(dashboard: Make, commands: Any) -> None:
    async with dashboard(adapt=True, preset="smoke", gpus=(0, 1)).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "c")
        await dialog_opens(pilot)
        asked = body(app)
        for words in (
            "torchrun --nproc_per_node=8",
            "4 GPUs instead of 8",
            "8 ranks, each on its own GPU",
            "smoke preset never ticks",
            "--gpus 0,1",
        ):
            assert words in asked
        await pilot.press("n")
        assert commands.calls == []
        await pilot.press("c")
        await dialog_opens(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("run", ["1.2"], False, True, "smoke", True)]
        await until(pilot, lambda: "plan p1 is at work" in toasts_of(app))


async def test_run_does_not_tick_and_all_takes_all(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("r")
        await dialog_opens(pilot)
        assert "is not ticked" in body(app)
        await pilot.press("y")
        await until(pilot, lambda: len(commands.calls) == 1)
        await pilot.press("C")
        await dialog_opens(pilot)
        assert "1.1, 1.2 and 2.1 run, one after the other" in body(app)
        assert "there is no summary yet" in body(app)
        await pilot.press("y")
        await until(pilot, lambda: len(commands.calls) == 2)
        assert commands.calls[0] == ("run", ["1.1"], False, False, None, False)
        assert commands.calls[1][:4] == ("run", ["1.1", "1.2", "2.1", "2.2"], True, True)


async def test_marked_steps_go_together(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("space", "space")
        assert len(app.main.state.marks) == 2
        assert "2 marked" in text_of(app.main.list_title)
        await pilot.press("c")
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls[0][1] == ["1.1", "1.2"]
        assert app.main.state.marks == set()


async def test_a_step_that_cannot_run_is_not_started(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("G", "c")
        await dialog_opens(pilot)
        assert "complete 2.1 first" in body(app)
        await pilot.press("y", "enter")
        await pilot.pause()
        assert commands.calls == []


async def test_a_refusal_is_shown_as_it_is(dashboard: Make, commands: Any) -> None:
    commands.answer = CommandResult(False, "the item asks for 8 GPUs [/red] and 4 are there: pass --adapt.")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: commands.answer.message in toasts_of(app))


async def test_tick_needs_a_note(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press("enter")
        assert isinstance(app.screen, TextDialog) and commands.calls == []
        await pilot.press(*"seen q")
        await pilot.press("enter")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("tick", "1.1", "seen q")]


async def test_cancel_asks_and_leaving_it_is_the_default(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.2")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        await until(pilot, lambda: app.main.state.run is not None)
        await pilot.press("x")
        await dialog_opens(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert commands.calls == []
        await pilot.press("x")
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("cancel", "20260102T030405Z-1.2-abcdef")]


async def test_quit_is_immediate_if_nothing_is_running(dashboard: Make) -> None:
    app = dashboard()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await pilot.press("q")
        await until(pilot, lambda: app.return_code == 0 and not app.is_running)
    assert app.return_value == 0


@pytest.mark.parametrize(("key", "leaves", "stops"), [("l", True, False), ("s", True, True), ("n", False, False)])
async def test_quit_asks_with_work_in_flight(
    workspace: Workspace, dashboard: Make, commands: Any, key: str, leaves: bool, stops: bool
) -> None:
    workspace.run("1.2")
    app = dashboard()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await until(pilot, lambda: app.main.state.snapshot.active)
        await pilot.press("ctrl+q")  # Textual's own would leave without a word
        await dialog_opens(pilot)
        await pilot.press(key)
        await until(pilot, lambda: app.screen is app.main if app.is_running else leaves, "the end of the dialog")
        await until(pilot, lambda: app.is_running != leaves, "the end")
        assert commands.calls == ([("cancel", None)] if stops else [])


async def test_a_question_is_shown_with_its_change_and_answered(
    workspace: Workspace, dashboard: Make, commands: Any
) -> None:
    question = {"kind": "accept", "text": "Accept the new row?", "diff": "-| 14,200 |\n+| [/bold] 14,960 |"}
    workspace.run("1.1", state=State.FINISHED, verdict=verdict(Outcome.INCONCLUSIVE, question=question))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        assert "? asking" in text_of(app.main.steps)
        await pilot.press("enter", "enter")
        await dialog_opens(pilot)
        assert "+| [/bold] 14,960 |" in body(app)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("accept", "20260102T030405Z-1.2-abcdef", None)]


async def test_a_question_for_a_link_takes_a_link(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.1", state=State.FINISHED, verdict=verdict(question={"kind": "link", "text": "Where is it?"}))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press(*"http", "enter")
        await until(pilot, lambda: commands.calls)
        assert commands.calls[0][2] == "http"


async def test_readonly_changes_nothing_and_says_so(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.2", state=State.FINISHED, alive=False)
    async with dashboard(readonly=True).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        for key in KEYS:
            if key.changes:
                await pilot.press(key.keys)
        await until(pilot, lambda: "--readonly" in toasts_of(app), "the reason")
        await until(pilot, lambda: "read-only" in text_of(app.main.header), "the header")
        assert app.screen is app.main
        assert commands.calls == []
        app.main.end_notice()
        hidden = [key for key in KEYS if key.changes or key.id in PREPARING]
        for pane in ("list", *PANES):
            app.main.focus_list() if pane == "list" else app.main.show_pane(pane)
            await pilot.pause()
            words = text_of(app.main.key_bar).split("  ")
            shown = {word.strip() for word in words}
            assert "Space mark" not in shown or pane == "runs"  # there it prepares a comparison, if there are two runs
            assert not {f"{key.display} {key.label}" for key in hidden if key.id != "mark"} & shown, pane
            await pilot.press("question_mark")
            await dialog_opens(pilot)
            assert not [key.help for key in hidden if key.help in body(app)], pane
            await pilot.press("escape")
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, Palette))
        offered = {entry.text for entry in app.screen.query_one(EntryList).offered}
        assert not offered & {key.help for key in hidden} and "All messages since the start" in offered


async def test_ctrl_c_always_asks_and_closes_a_dialog(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        for key in ("ctrl+c", "ctrl+q"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Dialog) and "Nothing is running" in body(app))
            await pilot.press(key)
            await until(pilot, lambda: app.screen is app.main)
        await pilot.press("ctrl+c")
        await dialog_opens(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: app.return_code is not None or not app.is_running)


async def test_the_footer_shows_only_what_is_possible_now(workspace: Workspace, dashboard: Make) -> None:
    workspace.run("1.2")
    async with dashboard().run_test(size=(200, 40)) as pilot:
        app = await ready(pilot)
        await until(pilot, lambda: "x cancel" in text_of(app.main.key_bar), "something is running")
        assert "o answer" not in text_of(app.main.key_bar) and "t tick" in text_of(app.main.key_bar)
        await pilot.press("G", "k", "k", "k")
        await until(pilot, lambda: app.main.state.key is not None and app.main.state.key.text.startswith("Note"))
        assert "t tick" not in text_of(app.main.key_bar), "it is ticked already"
        await pilot.press("g")
        await until(pilot, lambda: "c complete section" in text_of(app.main.key_bar))


async def test_the_footer_names_what_the_brackets_change(workspace: Workspace, dashboard: Make) -> None:
    """`] other` said nothing, and stood there too where there was no other."""
    workspace.run("1.2", run_id="20260101T000000Z-1.2-old", state=State.FINISHED, verdict=verdict())
    async with dashboard().run_test(size=(200, 40)) as pilot:
        app = await ready(pilot)
        footer = app.main.key_bar
        await until(
            pilot, lambda: app.main.state.detail is not None and app.main.state.detail.key == app.main.state.key
        )
        await pilot.press("j", "1")
        await until(pilot, lambda: "chart range" in text_of(footer), "the footer of Run")
        assert "[ ] other" not in text_of(footer)
        workspace.run("1.2", state=State.FINISHED, verdict=verdict())
        app.main.refresh_now()
        await until(pilot, lambda: "[ ] other run" in text_of(footer), "a second run")
        await pilot.press("7")
        await until(pilot, lambda: "d compare two" in text_of(footer), "the footer of Runs")
        await pilot.press("h", "k", "7")
        await until(pilot, lambda: "filter outcome" in text_of(footer), "the footer of a step without runs")
        await until(pilot, lambda: "d compare" not in text_of(footer), "the step has no two runs")
        await pilot.press("1")
        await until(pilot, lambda: "options" in text_of(footer) and "chart" not in text_of(footer), "no charts")
        await pilot.press("h", "j")
        await pilot.press("6")
        await until(pilot, lambda: "[ ] other document" in text_of(footer), "the footer of Document")


async def test_an_unjudged_run_is_settled_once(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.2", state=State.FINISHED, alive=False)
    async with dashboard().run_test(size=WIDE) as pilot:
        await ready(pilot)
        await until(pilot, lambda: commands.calls)
        await pilot.pause(0.4)
        assert commands.calls == [("settle",)]


async def test_options_change_the_next_run(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("p", "s", "a", "y")
        await until(pilot, lambda: app.main.state.preset == "smoke" and app.main.state.adapt)
        await pilot.press("p", "s", "n")
        await pilot.pause()
        assert app.main.state.preset == "smoke"


def test_a_question_is_first_with_its_reason_once_and_its_whole_change() -> None:
    why = "docs/performance_baseline.md has no table of such a run"
    line = "+|  " + " ".join(f"column{n}  |" for n in range(20)) + " 消費電力を |"
    question = {"kind": "accept", "text": f"{why}. Accept this run as the baseline?", "diff": line}
    judged = replace(verdict(question=question), summary=f"baseline: nothing to compare with ({why})")
    rows = question_rows(judged, 60, UNICODE)
    shown = [row.plain for row in rows]
    assert shown[0] == " Accept this run as the baseline?"
    assert " ".join(shown).count("no table") == 1
    first, *more = shown[next(n for n, text in enumerate(shown) if text.startswith(" +|")) :]
    assert first[1:] + "".join(piece[3:] for piece in more) == line
    assert all(cell_len(text) < 60 for text in shown)
    other = question_rows(replace(judged, summary="another thing"), 60, UNICODE)
    assert "another thing" in "".join(row.plain for row in other) and "no table" in "".join(row.plain for row in other)
