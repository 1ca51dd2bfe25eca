"""The contents of the panes Telemetry, Load and Artifacts, and the announcement of a finished run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.evidence import archive_path
from llmval_tui.runs.records import Artifact, Command, CommandStatus, Evidence, Gate, Outcome, State, Status
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, Run
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import UNICODE
from llmval_tui.tui.data.artifacts import artifact_lines
from llmval_tui.tui.data.run_follower import RunFollower
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.panes.artifacts import ArtifactsPane
from llmval_tui.tui.panes.load import load_rows
from llmval_tui.tui.panes.run import run_section
from llmval_tui.tui.widgets.text_rows import command_rows, gate_rows, labelled
from tests.helpers.tui_builder import T0, Workspace, event, load_events, sample, verdict
from tests.helpers.tui_pilot import WIDE, Make, ready, text_of, toasts_of, until


async def test_telemetry_distinguishes_live_stale_and_recorded(workspace: Workspace, dashboard: Make) -> None:
    folder = workspace.run("1.2")
    (folder / "telemetry.jsonl").write_bytes(b"".join(sample(s, 2).to_line() for s in range(30)))
    app = dashboard(second=100.2)
    async with app.run_test(size=(160, 50)) as pilot:
        await ready(pilot)
        await pilot.press("j")
        await until(pilot, lambda: app.main.state.run is not None)
        app.main.post_message(SamplesTaken("live", [sample(s, 8) for s in range(101)]))
        await pilot.press("3")
        pane = app.main.panes["telemetry"]
        await until(pilot, lambda: "GPU 7" in text_of(pane))
        assert "live" in text_of(pane) and "stale" not in text_of(pane)
        assert "throttled: power cap" in text_of(pane)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "recorded with run" in text_of(pane) and "GPU 1" in text_of(pane))
        assert "GPU 7" not in text_of(pane)
        await pilot.press("right_square_bracket")
        app.main.state.now = lambda: 1_767_323_045 + 160.0
        await until(pilot, lambda: "stale" in text_of(pane))
        assert "60 s old" not in text_of(pane) or "stale" in text_of(app.main.header)


async def test_load_shows_unit_value_and_peak(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(142))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "4")
        pane = app.main.panes["load"]
        await until(pilot, lambda: "TTFT" in text_of(pane))
        shown = text_of(pane)
        assert "47%" in shown and "142/300 s" in shown and "2 min 38 s left" in shown
        assert "completed   28.5" in shown and "Rate QPS" in shown and "a dot = " in shown


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
        assert "The charts show what the run reported" in shown


@pytest.mark.parametrize(
    ("outcome", "said", "role"),
    [
        (Outcome.PASS, "✓ judged pass", "good"),
        (Outcome.FAIL, "✗ judged fail", "bad"),
        (Outcome.INVALID, "⊘ judged invalid: not a measurement", "warn"),
        (Outcome.INCONCLUSIVE, "◌ judged inconclusive: not enough data", "warn"),
    ],
)
def test_the_figures_of_the_whole_run_are_below_its_outcome(
    workspace: Workspace, outcome: Outcome, said: str, role: str
) -> None:
    folder = workspace.run("1.2", state=State.FINISHED, verdict=verdict(outcome))
    (folder / "events.jsonl").write_bytes(load_events(3))
    rows = load_rows(RunFollower(Run(folder)).snapshot(), 78, 22, UNICODE)
    (head,) = (shown for shown in rows if "The whole run" in shown.plain)
    assert (f" {said} ", role) in head.spans


async def test_load_of_a_judged_run_that_reported_nothing(workspace: Workspace, dashboard: Make) -> None:
    folder = workspace.run("1.2", state=State.FINISHED, verdict=verdict())
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "4")
        pane = app.main.panes["load"]
        await until(pilot, lambda: "The whole run" in text_of(pane))
        shown = text_of(pane)
        assert "output 14,960 tokens/s" in shown and "there are no charts" in shown
        empty = verdict()
        empty.metrics.clear()
        write_json(folder / "verdict.json", empty)
        await until(pilot, lambda: "reported no metrics." in text_of(pane))


async def test_artifacts_show_what_changed(workspace: Workspace, dashboard: Make) -> None:
    (workspace.root / "kept.json").write_text("{}")
    files = [Evidence("kept.json", "ab" * 32, 3), Evidence("gone.json", "cd" * 32, 7)]
    workspace.run("1.1", state=State.FINISHED, verdict=verdict(evidence=files))
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("a")
        await until(pilot, lambda: "gone.json" in text_of(app.main.panes["artifacts"]))
        shown = text_of(app.main.panes["artifacts"]).replace("\n   ", "")  # a hash is longer than a row
        assert "changed since it was judged" in shown and "missing" in shown and "ab" * 32 in shown


async def test_copy_sends_the_command_through_the_terminal(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        written: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", written.append)
        await pilot.press("j")
        await until(pilot, lambda: app.main.state.detail is not None)
        await pilot.press("y")
        await pilot.pause()
        assert any(text.startswith("\x1b]52;c;dG9yY2hydW4g") for text in written)  # base64 of "torchrun "


@pytest.mark.parametrize(("bell", "notify"), [(False, False), (True, False), (False, True)])
async def test_a_finished_run_is_announced_as_configured(
    workspace: Workspace, dashboard: Make, monkeypatch: pytest.MonkeyPatch, bell: bool, notify: bool
) -> None:
    folder = workspace.run("1.2")
    async with dashboard(bell=bell, notify=notify).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await until(pilot, lambda: app.main.state.snapshot.active)
        written: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", written.append)
        write_json(folder / "verdict.json", verdict(Outcome.FAIL))
        await until(pilot, lambda: "1.2 failed: 27.9 QPS" in toasts_of(app), "the toast")
        assert any(text == "\a" for text in written) is bell
        assert any("]9;llmval 1.2 failed: 27.9 QPS" in text for text in written) is notify


def test_the_variables_of_a_command_are_in_the_column_of_the_labels() -> None:
    _, variables = command_rows([Command("main", ["true"], "true", {"NCCL_P2P_LEVEL": "NVL"})], 80)
    (other,) = labelled("leaves", "NCCL", "code", 80)
    assert variables.plain.index("NCCL") == other.plain.index("NCCL")


def test_evidence_with_an_archived_copy_is_not_lost(tmp_path: Path) -> None:
    kept, gone = "ab" * 32, "cd" * 32
    copy = archive_path(tmp_path / "artifacts" / "runs" / "r", kept)
    copy.parent.mkdir(parents=True)
    copy.write_text("{}")
    (tmp_path / "over.json").write_text("written over by a later run")
    evidence = [Evidence(name, sha, 2) for sha in (kept, gone) for name in ("over.json", "absent.json")]
    verdict = SimpleNamespace(judged_utc="2026-01-02T00:00:00Z", evidence=evidence)
    run: Any = SimpleNamespace(id="r", verdict=verdict, intent=SimpleNamespace(artifacts=()), alive=False)
    assert [(line.state, line.intact) for line in artifact_lines(run, tmp_path)] == [
        ("written over since; the run keeps a copy", True),
        ("missing; the run keeps a copy", True),
        ("changed since it was judged", False),
        ("missing", False),
    ]


def shown_of(folder: Path, second: float) -> str:
    return "\n".join(
        row.plain for row in run_section(RunFollower(Run(folder)).snapshot(), T0 + second, 100, UNICODE, "")
    )


def test_a_run_with_an_unknown_end_does_not_count_on(workspace: Workspace) -> None:
    folder = workspace.run("1.2", alive=False)
    assert "UTC, end not seen" in shown_of(folder, 8)
    write_json(folder / "verdict.json", verdict(Outcome.INCONCLUSIVE))
    assert "UTC, end not seen" in shown_of(folder, 8)


def test_a_running_run_shows_its_duration(workspace: Workspace) -> None:
    assert "UTC, for 8.0 s" in shown_of(workspace.run("1.2"), 8)


def test_a_command_without_reports_is_shown_as_running(workspace: Workspace) -> None:
    folder = workspace.run("1.2", state=State.STARTING)
    assert "phase      starting" in shown_of(folder, 8)
    write_json(folder / "status.json", Status(state=State.RUNNING, started_utc="2026-01-02T03:04:05Z"))
    shown = shown_of(folder, 8)
    assert "phase      running" in shown and "none reported so far" in shown and "starting" not in shown
    last = [event("progress", {"done": 300, "total": 300, "unit": "s"}, 5), event("phase", {"name": "write"}, 6)]
    (folder / "events.jsonl").write_bytes(b"".join(last))
    shown = shown_of(folder, 8)
    assert "phase      write" in shown and "none reported in this phase so far" in shown


def test_the_name_of_a_gate_shows_its_end_and_uses_the_room() -> None:
    names = [f"artifact: artifacts/env/20260102T030405Z-1.1-abcdef/{part}.json" for part in ("env", "driver")]
    gates = [Gate(name, Outcome.PASS, "12 B", "there") for name in names]
    wide = "\n".join(row.plain for row in gate_rows(gates, 160, UNICODE))
    assert all(name in wide for name in names)
    for width in (40, 60, 79, 100):
        shown = [row.plain for row in gate_rows(gates, width, UNICODE)]
        ends = [line for line in shown if "artifact: " in line]
        assert len(ends) == 2 and "…" in ends[0] and "/env.json  " in ends[0] and "driver.json  " in ends[1]
        assert all(cell_len(line.rstrip()) <= max(width, 56) for line in shown)


def test_the_exit_of_a_command_differs_from_its_name(workspace: Workspace) -> None:
    folder = workspace.run("1.2", state=State.FINISHED)
    status = Status(state=State.FINISHED, commands=[CommandStatus("with", exit_code=0)])
    write_json(folder / "status.json", status)
    assert "with: ended with 0" in shown_of(folder, 8)


def test_a_load_pane_without_metrics_says_when_they_come(workspace: Workspace) -> None:
    rows = load_rows(RunFollower(Run(workspace.run("1.2"))).snapshot(), 78, 22, UNICODE)
    assert any("they come with the measured window" in shown.plain for shown in rows)


def test_a_promised_artifact_has_no_placeholder_in_its_pane() -> None:
    proposal = Proposal("command", "", artifacts=(Artifact(f"artifacts/env/{RUN_ID_PLACEHOLDER}.json"),))
    state: Any = SimpleNamespace(detail=SimpleNamespace(run=None, proposal=proposal))
    assert any("artifacts/env/<run id>.json" in shown.plain for shown in ArtifactsPane(state).content(80))
