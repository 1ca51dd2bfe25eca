"""Threads: a recorder that dies is started again, and a failed snapshot is shown and does not end the watcher."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from textual.message import Message

from llmval_tui.actions.api import Proposal
from llmval_tui.runs.records import State
from llmval_tui.telemetry import recorder_process
from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.terminal.osc import osc9, osc52
from llmval_tui.tui.cli_client import CommandResult, argv_for_run, parse_result
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.snapshot import Selection, Snapshot
from llmval_tui.tui.data.watcher import (
    LiveTelemetry,
    RecorderStatus,
    SamplesTaken,
    SnapshotTaken,
    Watcher,
)
from llmval_tui.tui.data.workspace_view import Workspace as Looker
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.processes import until
from tests.helpers.tui_builder import CHECKLIST, Workspace, sample, verdict


def settings_for(workspace: Workspace, **changes: object) -> LaunchSettings:
    return LaunchSettings(workspace.root, workspace.checklist, **changes)  # type: ignore[arg-type]  # any field


def looker(workspace: Workspace) -> Looker:
    return Looker(settings_for(workspace), lambda context: Proposal("x", context.step.number))


def test_a_recorder_that_crashes_is_started_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_process, "RESTART_DELAYS_S", (0.01,))
    lines = tmp_path / "lines"
    lines.write_bytes(sample(1).to_line() + b"not a sample\n" + sample(2).to_line())
    program = "import os,sys; sys.stdout.write(open(sys.argv[1]).read()); sys.stdout.flush(); os.kill(os.getpid(), 11)"
    posted: list[Message] = []
    live = LiveTelemetry(settings_for(workspace), posted.append, [sys.executable, "-c", program, str(lines)])
    live.start()
    until(lambda: sum(isinstance(m, SamplesTaken) for m in posted) >= 4)
    live.stop()
    live.join(5)
    assert not live.is_alive()
    states = [m.problem for m in posted if isinstance(m, RecorderStatus)]
    assert states[:2] == [None, "the telemetry recorder was ended by signal 11; it is started again in 0 s."]


def test_a_recorder_that_cannot_be_started_is_reported(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_process, "RESTART_DELAYS_S", (5.0,))
    posted: list[Message] = []
    live = LiveTelemetry(settings_for(workspace), posted.append, ["/does/not/exist"])
    live.start()
    until(lambda: posted)
    live.stop()
    assert isinstance(posted[0], RecorderStatus) and "could not be started" in str(posted[0].problem)


def test_a_failed_snapshot_is_shown_and_the_watcher_goes_on(workspace: Workspace) -> None:
    class Broken(Looker):
        failing = True

        def snapshot(self, selection: Selection) -> Snapshot:
            if self.failing:
                raise RuntimeError("disk on fire")
            return super().snapshot(selection)

    broken = Broken(settings_for(workspace), lambda context: Proposal("x", ""))
    posted: list[Message] = []
    watcher = Watcher(broken, posted.append, 0.01)
    watcher.start()
    until(lambda: posted)
    broken.failing = False
    until(lambda: any(isinstance(m, SnapshotTaken) and m.snapshot.checklist for m in posted))
    watcher.stop()
    first = posted[0]
    assert isinstance(first, SnapshotTaken) and "disk on fire" in str(first.snapshot.problem)


def test_an_unchanged_snapshot_is_not_posted(workspace: Workspace) -> None:
    posted: list[Message] = []
    watcher = Watcher(looker(workspace), posted.append, 0.005)
    watcher.start()
    until(lambda: posted)
    time.sleep(0.2)
    watcher.stop()
    assert len(posted) == 1


def test_the_last_good_checklist_stays(workspace: Workspace) -> None:
    look = looker(workspace)
    step = look.snapshot(Selection()).steps[0].step
    workspace.checklist.write_bytes(b"\xff\xfe broken")
    view = look.snapshot(Selection(step.key))
    assert view.problem and len(view.steps) == 5 and view.detail is not None
    workspace.checklist.write_text(CHECKLIST.replace("- [ ] Export", "- [x] Export"))
    view = look.snapshot(Selection(step.key))
    assert view.problem is None and view.steps[0].step.checked


def test_a_broken_run_folder_does_not_hide_the_list(workspace: Workspace) -> None:
    look = looker(workspace)
    look.snapshot(Selection())
    folder = workspace.run("1.2")
    (folder / "run.json").write_text("{")
    view = look.snapshot(Selection())
    assert len(view.steps) == 5
    assert view.problem is None or "run.json" in view.problem


def test_older_runs_can_be_selected(workspace: Workspace) -> None:
    workspace.run("1.2", run_id="20260101T000000Z-1.2-old", state=State.FINISHED, verdict=verdict())
    workspace.run("1.2", run_id="20260102T000000Z-1.2-new", state=State.FINISHED, alive=False)
    look = looker(workspace)
    key = look.snapshot(Selection()).steps[1].step.key
    newest, oldest = look.snapshot(Selection(key)).detail, look.snapshot(Selection(key, back=1)).detail
    assert newest and newest.run and newest.run.id.endswith("new") and newest.runs == 2
    assert oldest and oldest.run and oldest.run.id.endswith("old")
    assert look.snapshot(Selection(key)).judging


@pytest.mark.parametrize(
    ("selected", "present", "count"),
    [(None, 8, 8), ((4, 5), 8, 6), ((9,), 8, None), ((0,), 0, None), (None, 0, None)],
)
def test_the_gpus_of_the_host_are_counted(
    workspace: Workspace, selected: tuple[int, ...] | None, present: int, count: int | None
) -> None:
    """`--gpus 4,5` must find GPUs 4 and 5, and `--gpus 0` must not make one up where present is none."""
    taken = sample(1, present)
    if selected is not None and present:  # a selected GPU that does not exist is listed without values
        absent = [GpuSample(index) for index in selected if index >= present]
        taken = replace(taken, gpus=[gpu for gpu in taken.gpus if gpu.index in selected] + absent)
    state = ScreenState(settings_for(workspace, gpus=selected))
    state.live.add(taken)
    look = looker(workspace)
    checklist = look.snapshot(Selection()).checklist
    assert checklist is not None
    context = Looker(state.settings, lambda context: Proposal("x", "")).context(
        checklist, checklist.steps[0], state.selection
    )
    assert context.gpu_count == count


def test_an_empty_workspace_says_what_is_missing(tmp_path: Path) -> None:
    settings = LaunchSettings(tmp_path, tmp_path / "none.md")
    view = Looker(settings, lambda context: Proposal("x", "")).snapshot(Selection())
    assert view.checklist is None and view.problem and "none.md" in view.problem


def test_the_command_line_that_is_started(workspace: Workspace) -> None:
    settings = settings_for(workspace, gpus=(0, 3), runner_python="/opt/py")
    words = argv_for_run(settings, ["1.2"], everything=False, tick=False, preset="smoke", adapt=True)
    assert words[:2] == ["run", "1.2"]
    assert " ".join(words[6:]) == "--preset smoke --adapt --gpus 0,3 --runner-python /opt/py --no-tick"
    assert argv_for_run(settings, ["1.1"], everything=True, tick=True, preset=None, adapt=False)[1] == "--all"
    from llmval_tui.cli import find_command
    from llmval_tui.console.commands.all_commands import COMMANDS
    from llmval_tui.console.parser import parser, value_options

    parsed = parser().parse_args(find_command([*words, "--detach", "--json"], COMMANDS, value_options))
    assert (parsed.steps, parsed.preset, parsed.adapt, parsed.no_tick, parsed.gpus) == (
        ["1.2"],
        "smoke",
        True,
        True,
        "0,3",
    )


@pytest.mark.parametrize(
    ("code", "out", "err", "answer"),
    [
        (0, b'{"ok": true, "message": "done"}', b"", CommandResult(True, "done")),
        (2, b'{"ok": false, "message": "no [/x]\\u001b[2J\\nway"}', b"", CommandResult(False, "no [/x] way")),
        (1, b"", b"Traceback\nboom\n", CommandResult(False, "llmval run ended with exit code 1: boom")),
        (1, b'{"ok": true, "message": "x"}', b"", CommandResult(False, "x")),
        (0, b'{"workspace": "w", "steps": []}', b"", CommandResult(True, "")),
    ],
)
def test_the_result_of_a_command(code: int, out: bytes, err: bytes, answer: CommandResult) -> None:
    assert parse_result("run", code, out, err) == answer


def test_the_recorder_knows_the_disk_of_the_workspace(workspace: Workspace) -> None:
    argv = LiveTelemetry(settings_for(workspace, gpus=(1, 2), interval=0.5), print).argv
    assert argv[2:] == [
        "llmval_tui.telemetry.recorder", "--out", "-", "--interval", "0.5",
        "--folder", str(workspace.root), "--gpus", "1,2",
    ]  # fmt: skip


def test_tmux_gets_the_clipboard_wrapped_as_well() -> None:
    assert osc52("a", {}) == "\x1b]52;c;YQ==\x07"
    assert osc52("a", {"TMUX": "/tmp/x"}) == "\x1b]52;c;YQ==\x07\x1bPtmux;\x1b\x1b]52;c;YQ==\x07\x1b\\"


def test_tmux_passes_a_notification_on_and_no_sequence_in_it_is_executed() -> None:
    assert osc9("1.2 failed\x07\x1b[2J", {}) == "\x1b]9;1.2 failed\x07"
    assert osc9("a", {"TMUX": "/tmp/x"}) == "\x1bPtmux;\x1b\x1b]9;a\x07\x1b\\"


def test_the_threads_are_daemons(workspace: Workspace) -> None:
    # A disk that never answers must not keep the process from ending.
    assert Watcher(looker(workspace), print, 1).daemon
    assert LiveTelemetry(settings_for(workspace), print, []).daemon
