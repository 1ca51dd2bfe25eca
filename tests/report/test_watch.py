"""`llmval watch` prints every change once, as plain text, and does not touch the run."""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmval_tui.console.watch import Watcher, describe_progress, watch
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.runs.events import Progress
from llmval_tui.runs.records import Gate, Outcome, State, Status, Verdict
from llmval_tui.runs.store import Run
from tests.helpers.processes import until
from tests.report.conftest import Workspace

PROGRAM = Path(__file__).with_name("programs") / "watch.py"


def working(workspace: Workspace) -> tuple[Run, int]:
    """A running run: no verdict yet; this process holds its supervisor's lock."""
    run = workspace.run(outcome=None, display="python \x1b[31mload.py")
    write_json(run.folder / "status.json", Status(state=State.RUNNING))
    lock = take_lock(run.supervisor_lock)
    assert lock is not None
    return run, lock


def finish(run: Run, lock: int) -> None:
    write_json(run.folder / "status.json", Status(state=State.FINISHED))
    gates = [Gate("exit: main", Outcome.PASS, "0", "0"), Gate("rate", Outcome.FAIL, "7 of 8", "8", "too \x1b[2Jslow")]
    write_json(
        run.folder / "verdict.json", Verdict(1, run.id, Outcome.FAIL, gates, "2026-01-02T04:00:00Z", "rate: too slow")
    )
    os.close(lock)


def test_every_change_is_a_plain_line(
    workspace: Workspace, options: Callable[..., argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, lock = working(workspace)
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)

    def course() -> None:
        workspace.events(run, (0.0, "phase", {"name": "setup"}), (1.0, "phase", {"name": "measure", "message": "go"}))
        until(lambda: "phase measure" in printed.getvalue(), "the phase")
        with run.events.open("a") as file:
            for kind, data in [
                ("progress", {"done": 4, "total": 8, "unit": "s"}),
                ("metrics", {"offered_qps": 8.0, "completed_qps": None}),
                ("warning", {"message": "late \x1b]0;x\x07"}),
            ]:
                event = {"v": 1, "t_ns": time.time_ns(), "mono_ns": 1, "rank": 0, "kind": kind, "data": data}
                file.write(json.dumps(event) + "\n")
        until(lambda: "4 of 8 s" in printed.getvalue(), "the progress")

    def to_the_end() -> None:
        try:
            course()
        finally:
            finish(run, lock)  # otherwise the watch below never ends

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(to_the_end)
        assert watch(options()) == 0
    ended.result()
    lines = printed.getvalue().splitlines()
    wanted = [
        "run 20260102",
        "Command: python load.py",
        "phase setup",
        "phase measure: go",
        "warning from rank 0: late",
        "4 of 8 s, 50%, offered 8.0 QPS",
        "is finished",
        "verdict fail, 1 of 2 gates passed",
        "gate rate: fail. Measured 7 of 8; required 8. Reason: too slow",
        "Everything has ended",
    ]
    for text in wanted:
        assert any(text in line for line in lines), text
    assert sum("phase measure" in line for line in lines) == 1
    assert not any("completed" in line for line in lines)  # an unavailable value is left out
    assert all(line.isprintable() for line in lines)


def test_json_lines(
    workspace: Workspace, options: Callable[..., argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    run, lock = working(workspace)
    finish(run, lock)
    watcher = Watcher(workspace.folder, every_s=1.0, as_json=True)
    watcher.watch()
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == ["idle"]
    assert watch(options(json=True)) == 0


def test_ctrl_c_stops_the_watching_only(workspace: Workspace, tmp_path: Path) -> None:
    run, lock = working(workspace)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    watching = subprocess.Popen(
        [sys.executable, PROGRAM, str(workspace.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert watching.stdout is not None
    first_line = watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=120)
    assert watching.returncode == 130, first_line + rest
    assert "The run goes on" in rest and "Traceback" not in rest
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    finish(run, lock)


def test_progress_describe_progress() -> None:
    progress = Progress(
        phase="measure", done=3, total=12, unit="requests", metrics={"ttft_p99_ms": 5.0, "queued": None}
    )
    assert describe_progress(progress) == "3 of 12 requests, 25%, TTFT p99 5.0 ms"
    assert describe_progress(Progress()) == ""
