"""Every key does what its help says, on a fake workspace with fake commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from tui_builder import CHECKLIST, Workspace, load_events, sample, verdict

from llmval_tui.foundation.files import write_json
from llmval_tui.runs.records import Evidence, Outcome, State
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.bridge import Sampled
from llmval_tui.tui.commands import Answer
from llmval_tui.tui.keys import KEYS, PANES
from llmval_tui.tui.screens.dialog import Body, Dialog
from llmval_tui.tui.screens.entry import Entry
from llmval_tui.tui.widgets.painted import Painted

Make = Callable[..., Dashboard]
WIDE = (120, 40)


async def until(pilot: Pilot[Any], true: Callable[[], object], what: str = "it") -> None:
    """Wait for something that a thread brings about."""
    for _ in range(200):
        if true():
            return
        await pilot.pause(0.02)
    raise AssertionError(f"{what} did not come")


async def ready(pilot: Pilot[Any]) -> Dashboard:
    app = pilot.app
    assert isinstance(app, Dashboard)
    await until(pilot, lambda: app.main.state.detail is not None, "the first picture")
    await pilot.pause()
    return app


def text_of(widget: Painted) -> str:
    return "\n".join(row.plain for row in widget._shown)


def said(app: Dashboard) -> str:
    return "\n".join(str(note.message) for note in app._notifications)


def body(app: Dashboard) -> str:
    return text_of(app.screen.query_one(Body))


async def test_the_list_shows_each_state_as_a_word(workspace: Workspace, dashboard: Make) -> None:
    workspace.run("1.2")
    workspace.run("1.1", run_id="20260101T000000Z-1.1-a", state=State.FINISHED, verdict=verdict(Outcome.FAIL))
    workspace.run("2.1", run_id="20260101T000001Z-2.1-b", state=State.FINISHED, verdict=verdict())
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        shown = text_of(app.main._steps)
        for words in ("1.1", "✗ failed", "▸ running", "◇ ticked", "● passed", "○ open"):
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
        assert main.state.step.number == "1.1"
        for number, name in enumerate(PANES, 1):
            await pilot.press(str(number))
            assert (main.shown, main.pane) == (name, name)
            assert main.panes[name].display
        await pilot.press("h")
        assert main.pane == "list"
        await pilot.press("l")
        assert main.pane == "document"
        await pilot.press("escape")
        assert main.pane == "list"
        await pilot.press("tab")
        assert main.pane == "document"
        await pilot.press("a")
        assert main.pane == "artifacts"


async def test_a_key_right_behind_a_move_acts_on_the_step_that_is_seen(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        steps = app.main._steps
        # Both in one go, with no turn of the loop between them, as a paste or a fast hand gives them.
        steps.action_move(1)
        app.main.action_complete()
        await until(pilot, lambda: isinstance(app.screen, Dialog))
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


async def test_complete_asks_and_says_everything(dashboard: Make, commands: Any) -> None:
    async with dashboard(adapt=True, preset="smoke", gpus=(0, 1)).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "c")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        asked = body(app)
        for words in (
            "torchrun --nproc_per_node=8",
            "4 GPUs instead of 8",
            "8 ranks",
            "smoke preset never ticks",
            "--gpus 0,1",
        ):
            assert words in asked
        await pilot.press("n")
        assert commands.calls == []
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("enter")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("run", ["1.2"], False, True, "smoke", True)]
        await until(pilot, lambda: "plan p1 is at work" in said(app))


async def test_run_does_not_tick_and_all_takes_all(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert "is not ticked" in body(app)
        await pilot.press("y")
        await until(pilot, lambda: len(commands.calls) == 1)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert "3 of 4 steps run" in body(app)
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
        assert "2 marked" in text_of(app.main._title)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls[0][1] == ["1.1", "1.2"]
        assert app.main.state.marks == set()


async def test_a_step_that_cannot_run_is_not_started(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("G", "c")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert "complete 2.1 first" in body(app)
        await pilot.press("y", "enter")
        await pilot.pause()
        assert commands.calls == []


async def test_a_refusal_is_shown_as_it_is(dashboard: Make, commands: Any) -> None:
    commands.answer = Answer(False, "the item asks for 8 GPUs [/red] and 4 are there: pass --adapt.")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("y")
        await until(pilot, lambda: commands.answer.message in said(app))


async def test_tick_wants_a_note(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Entry))
        await pilot.press("enter")
        assert isinstance(app.screen, Entry) and commands.calls == []
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
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("enter")
        await pilot.pause()
        assert commands.calls == []
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("cancel", "20260102T030405Z-1.2-abcdef")]


async def test_quit_is_at_once_when_nothing_is_at_work(dashboard: Make) -> None:
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
        await until(pilot, lambda: app.main.state.view.active)
        await pilot.press("ctrl+q")  # Textual's own would leave without a word
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press(key)
        await pilot.pause(0.1)
        assert commands.calls == ([("cancel", None)] if stops else [])
        assert app.is_running != leaves


async def test_a_question_is_shown_with_its_change_and_answered(
    workspace: Workspace, dashboard: Make, commands: Any
) -> None:
    question = {"kind": "accept", "text": "Accept the new row?", "diff": "-| 14,200 |\n+| [/bold] 14,960 |"}
    workspace.run("1.1", state=State.FINISHED, verdict=verdict(Outcome.INCONCLUSIVE, question=question))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        assert "? asking" in text_of(app.main._steps)
        await pilot.press("enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert "+| [/bold] 14,960 |" in body(app)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("accept", "20260102T030405Z-1.2-abcdef", None)]


async def test_a_question_for_a_link_takes_a_link(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.1", state=State.FINISHED, verdict=verdict(question={"kind": "link", "text": "Where is it?"}))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, Entry))
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
        await pilot.pause(0.3)
        assert app.screen is app.main
        assert commands.calls == []
        assert "--readonly" in said(app)
        assert "read-only" in text_of(app.main._header)


async def test_a_run_that_ended_unwatched_is_settled_once(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.2", state=State.FINISHED, alive=False)
    async with dashboard().run_test(size=WIDE) as pilot:
        await ready(pilot)
        await until(pilot, lambda: commands.calls)
        await pilot.pause(0.4)
        assert commands.calls == [("settle",)]


async def test_filter_and_its_end(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("slash", *"power_eff")
        await pilot.pause()
        shown = text_of(app.main._steps)
        assert "2.2" in shown and "1.1" not in shown
        # The step that keys act on is one that is seen.
        assert app.main.state.step is not None and app.main.state.step.number == "2.2"
        await pilot.press("enter")
        await pilot.pause()
        assert app.main.pane == "list"
        await pilot.press("escape")
        await pilot.pause()
        assert "1.1" in text_of(app.main._steps)


async def test_log_follows_pauses_searches(workspace: Workspace, dashboard: Make) -> None:
    folder = workspace.run("1.2")
    log = folder / "logs" / "main.rank0.stdout.log"
    other = folder / "logs" / "main.rank1.stdout.log"
    log.write_text("".join(f"line {i} {'NEEDLE' if i == 500 else ''}\n" for i in range(2000)))
    other.write_text("from rank one\n")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        pane = app.main._log
        await pilot.press("j", "2")
        await until(pilot, lambda: "line 1999" in text_of(pane), "the end of the log")
        assert "following" in text_of(pane)
        with log.open("a") as out:
            out.write("new line at the end\n")
        await until(pilot, lambda: "new line at the end" in text_of(pane), "the new line")
        await pilot.press("k")
        await until(pilot, lambda: "new line at the end" not in text_of(pane), "the line above")
        with log.open("a") as out:
            out.write("a\nb\nc\n")
        await until(pilot, lambda: "3 new lines below" in text_of(pane), "the count of new lines")
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: "line 500 NEEDLE" in text_of(pane) or "not found" in text_of(pane), "the search")
        await pilot.press("N")
        await until(pilot, lambda: "line 500 NEEDLE" in text_of(pane), "the search upwards")
        await pilot.press("escape", "G")
        await until(pilot, lambda: "following" in text_of(pane) and "c" in text_of(pane))
        await pilot.press("g")
        await until(pilot, lambda: "line 0" in text_of(pane), "the beginning")
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "from rank one" in text_of(pane), "the other rank")
        assert "rank 1" in text_of(pane)


async def test_a_truncated_log_is_followed_anew(workspace: Workspace, dashboard: Make) -> None:
    log = workspace.run("1.2") / "logs" / "main.stdout.log"
    log.write_text("old\n" * 100)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "2")
        await until(pilot, lambda: "old" in text_of(app.main._log))
        log.write_text("fresh\n")
        await until(pilot, lambda: "fresh" in text_of(app.main._log) and "old" not in text_of(app.main._log))


async def test_telemetry_tells_live_stale_and_recorded_apart(workspace: Workspace, dashboard: Make) -> None:
    folder = workspace.run("1.2")
    (folder / "telemetry.jsonl").write_bytes(b"".join(sample(s, 2).to_line() for s in range(30)))
    app = dashboard(second=100.2)
    async with app.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        await pilot.press("j")
        await until(pilot, lambda: app.main.state.run is not None)
        app.main.post_message(Sampled("live", [sample(s, 8) for s in range(101)]))
        await pilot.press("3")
        pane = app.main.panes["telemetry"]
        await until(pilot, lambda: "GPU 7" in text_of(pane))
        assert "live" in text_of(pane) and "stale" not in text_of(pane)
        assert "throttled: sw_power_cap" in text_of(pane)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "recorded with run" in text_of(pane) and "GPU 1" in text_of(pane))
        assert "GPU 7" not in text_of(pane)
        await pilot.press("right_square_bracket")
        app.main.state.now = lambda: 1_767_323_045 + 160.0
        await until(pilot, lambda: "stale" in text_of(pane))
        assert "60 s old" not in text_of(pane) or "stale" in text_of(app.main._header)


async def test_load_shows_unit_value_and_peak(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(142))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "4")
        pane = app.main.panes["load"]
        await until(pilot, lambda: "TTFT" in text_of(pane))
        shown = text_of(pane)
        assert "47%" in shown and "142/300 s" in shown and "2 min 38 s left" in shown
        assert "28 QPS" in shown and "▲15,860" in shown and "0 to 50 QPS" in shown


async def test_load_of_a_run_that_has_ended_shows_the_whole_run(workspace: Workspace, dashboard: Make) -> None:
    folder = workspace.run("1.2", state=State.FINISHED)
    (folder / "events.jsonl").write_bytes(load_events(142))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "4")
        pane = app.main.panes["load"]
        await until(pilot, lambda: "It is not judged yet" in text_of(pane))
        assert "The whole run" not in text_of(pane)
        judged = verdict()
        judged.metrics["goodput_qps"] = 26.4
        write_json(folder / "verdict.json", judged)
        await until(pilot, lambda: "The whole run" in text_of(pane))
        shown = text_of(pane)
        assert "output 14,960 tokens/s" in shown and "p99 1,240 ms" in shown and "goodput_qps 26.4 QPS" in shown
        assert "The charts show the run as it went" in shown


async def test_artifacts_show_what_changed(workspace: Workspace, dashboard: Make) -> None:
    (workspace.root / "kept.json").write_text("{}")
    files = [Evidence("kept.json", "ab" * 32, 3), Evidence("gone.json", "cd" * 32, 7)]
    workspace.run("1.1", state=State.FINISHED, verdict=verdict(evidence=files))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("a")
        await until(pilot, lambda: "gone.json" in text_of(app.main.panes["artifacts"]))
        shown = text_of(app.main.panes["artifacts"])
        assert "changed since it was judged" in shown and "missing" in shown and "ab" * 32 in shown


async def test_copy_sends_the_command_through_the_terminal(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        written: list[str] = []
        assert app._driver is not None
        app._driver.write = written.append  # type: ignore[method-assign]
        await pilot.press("j")
        await until(pilot, lambda: app.main.state.detail is not None)
        await pilot.press("y")
        await pilot.pause()
        assert any(text.startswith("\x1b]52;c;dG9yY2hydW4g") for text in written)  # base64 of "torchrun "


async def test_help_is_that_of_the_pane(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("2", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert "Follow the end of the log" in body(app)
        await pilot.press("escape", "h", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert "Mark steps" in body(app) and "Follow the end" not in body(app)


async def test_options_change_the_next_run(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("p", "s", "a", "y")
        await until(pilot, lambda: app.main.state.preset == "smoke" and app.main.state.adapt)
        await pilot.press("p", "s", "n")
        await pilot.pause()
        assert app.main.state.preset == "smoke"


async def test_the_palette_has_every_action_and_no_other(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        from llmval_tui.tui.palette import Actions

        texts = [hit.text async for hit in Actions(app.main).discover()]
        for key in KEYS:
            assert (key.help in texts) != (key.id in ("palette", "back") or key.replay)
        assert "Theme: mono" in texts
        assert set() == app.COMMANDS
        await pilot.press("colon")
        await until(pilot, lambda: app.screen is not app.main)


async def test_jump_goes_to_a_step_a_pane_or_nowhere(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        main = app.main
        await pilot.press("l", "semicolon")
        await until(pilot, lambda: "letter goes to its step" in text_of(app.screen.query_one("#jump", Painted)))
        assert "d 1.3" in text_of(main._steps)
        await pilot.press("d")
        await until(pilot, lambda: main.pane == "list")
        assert main.state.step is not None and main.state.step.number == "1.3"
        assert "d 1.3" not in text_of(main._steps)
        await until(pilot, lambda: main._keys.display and not app.screen.query("#jump"))
        await pilot.press("semicolon", "4")
        await until(pilot, lambda: main.pane == "load")
        await pilot.press("semicolon", "escape")
        await until(pilot, lambda: not app.screen.query("#jump"))
        assert main.pane == "load" and main.state.step.number == "1.3"
        await pilot.press("semicolon", "0")  # no label: as Esc
        await until(pilot, lambda: not app.screen.query("#jump"))
        assert main.pane == "load"


@pytest.mark.parametrize(("bell", "notify"), [(False, False), (True, False), (False, True)])
async def test_a_finished_run_is_told_as_asked(workspace: Workspace, dashboard: Make, bell: bool, notify: bool) -> None:
    folder = workspace.run("1.2")
    async with dashboard(bell=bell, notify=notify).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await until(pilot, lambda: app.main.state.view.active)
        written: list[str] = []
        assert app._driver is not None
        app._driver.write = written.append  # type: ignore[method-assign]
        write_json(folder / "verdict.json", verdict(Outcome.FAIL))
        await until(pilot, lambda: "1.2 failed: 27.9 QPS" in said(app), "the toast")
        assert any(text == "\a" for text in written) is bell
        assert any("]9;llmval 1.2 failed: 27.9 QPS" in text for text in written) is notify


def test_every_key_is_bound_once_and_explained() -> None:
    taken: dict[str, str] = {}
    for key in KEYS:
        assert key.help and key.label
        for name in key.keys.split(","):
            assert name not in taken, f"{name} is both {taken.get(name)} and {key.id}"
            taken[name] = key.id


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
            await pilot.pause(0.1)
            if size == WIDE:
                assert "[/red]" in text_of(app.main.panes["run"])
            assert "\x1b" not in app.export_screenshot()


async def test_resizing_in_a_storm(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "4")
        for width, height in [(80, 24), (10, 3), (200, 60), (99, 20), (100, 20), (160, 50), (1, 1), (120, 40)] * 2:
            await pilot.resize_terminal(width, height)
        await pilot.pause()
        assert "28 QPS" in text_of(app.main.panes["load"])


async def test_an_edit_a_breakage_and_a_return_of_the_checklist(workspace: Workspace, dashboard: Make) -> None:
    path: Path = workspace.checklist
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        path.write_text(CHECKLIST.replace("- [ ] Export", "- [x] Export"))
        await until(pilot, lambda: "2/5 ticked" in text_of(app.main._title), "the edit")
        path.unlink()
        await until(pilot, lambda: "list not current" in text_of(app.main._header), "the loss")
        assert "1.1" in text_of(app.main._steps)
        path.write_text("no items here\n")
        await until(pilot, lambda: app.main.state.view.trouble and "1.1" in text_of(app.main._steps))
        path.write_text("# New\n- [ ] Only this.\n")
        await until(pilot, lambda: "Only this." in text_of(app.main._steps), "the new list")
        assert app.main.state.step is not None and app.main.state.step.text == "Only this."


async def test_a_run_folder_that_vanishes(workspace: Workspace, dashboard: Make) -> None:
    import shutil

    folder = workspace.run("1.2")
    (folder / "logs" / "main.stdout.log").write_text("x\n")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "2")
        await until(pilot, lambda: app.main.state.run is not None)
        shutil.rmtree(folder)
        await until(pilot, lambda: app.main.state.detail is not None and app.main.state.run is None, "the loss")
        await until(pilot, lambda: "no run yet" in text_of(app.main._log))


@pytest.mark.parametrize("theme", ["dark", "light", "contrast", "ansi", "mono"])
async def test_every_theme_can_be_worn(dashboard: Make, theme: str) -> None:
    async with dashboard(theme=theme).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("n", "t")
        await until(pilot, lambda: isinstance(app.screen, Entry))
        await pilot.press("escape", "colon")
        await until(pilot, lambda: app.screen is not app.main)
        await pilot.press("escape")
        app.main.action_theme("light")
        await pilot.pause()
        assert app.look.name == "light"
        app.main.action_theme("no such theme")
        await until(pilot, lambda: "there is no theme" in said(app))
        assert app.look.name == "light"


async def test_ascii_is_ascii_everywhere(workspace: Workspace, dashboard: Make) -> None:
    workspace.checklist.write_text(HOSTILE, encoding="utf-8")
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    app = dashboard(ascii=True)
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        app.main.post_message(Sampled("live", [sample(s) for s in range(20)]))
        await pilot.press("j")
        for key in "123456":
            await pilot.press(key)
            await pilot.pause(0.15)
            lines = [strip.text for strip in app.screen._compositor.render_strips()]
            assert all(line.isascii() for line in lines), [line for line in lines if not line.isascii()]
