"""A run that loses its supervisor: who looks next adopts it, starts nothing twice, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import Identity, processes_with
from llmval_tui.foundation.record import read_record
from llmval_tui.runs import client
from llmval_tui.runs.records import Outcome, State, Verdict
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE, ForeignProcesses, ProcessRecord
from tests.helpers.processes import supervisor_of, until


def test_killed_supervisor_leaves_the_command_and_is_replaced(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("echo $$ > pid; while [ ! -e go ]; do sleep 0.1; done; exit 0", "echo second")
    client.start(run)
    until(lambda: (tmp_path / "pid").exists() and run.status().commands != [])
    first = run.status().supervisor
    assert first is not None
    first.send(signal.SIGKILL)
    until(lambda: not run.supervised())
    assert run.command_alive()
    assert run.state() is State.RUNNING
    client.ensure_supervised(run)
    assert run.supervised()
    until(lambda: run.status().supervisor != first)
    (tmp_path / "go").touch()
    assert client.wait(run, 180)
    status = run.status()
    assert status.state is State.FINISHED
    assert [command.label for command in status.commands] == ["c0", "c1"]
    assert status.commands[0].exit_code is None  # not observed; the gates know
    assert status.commands[1].exit_code == 0


def test_a_renamed_orphan_is_found_by_the_supervisor_that_adopts_the_run(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """setproctitle zeroes its environment, it has its own session, and its parent ended: only the record knows it."""
    pytest.importorskip("setproctitle", reason="install the extra `dev`")
    helper = Path(__file__).parents[1] / "helpers" / "renamed_worker.py"
    run = make_run(f"{sys.executable} {helper} worker; while :; do sleep 0.1; done")
    client.start(run)
    until((tmp_path / "worker").exists)
    worker = Identity.of(int((tmp_path / "worker").read_text()))
    assert worker is not None and worker not in processes_with(RUN_ID_VARIABLE, run.id)
    assert not ForeignProcesses([run.folder]).is_foreign(worker.pid)
    until(lambda: worker in (read_record(ProcessRecord, run.folder / "processes.json") or ProcessRecord()).processes)
    supervisor_of(run).send(signal.SIGKILL)
    until(lambda: not run.supervised())
    assert not ForeignProcesses([run.folder]).is_foreign(worker.pid)
    client.ensure_supervised(run)
    assert client.request_cancel(run, "operator")
    assert client.wait(run, 180)
    assert not worker.alive()
    assert any(f"stopped pid {worker.pid}" in note for note in run.status().notes)


def test_whole_run_killed_is_lost(make_run: Callable[..., Run]) -> None:
    run = make_run("sleep 300")
    client.start(run)
    until(lambda: run.status().commands != [])
    status = run.status()
    os.kill(supervisor_of(run).pid, signal.SIGKILL)
    agent = status.commands[0].identity
    assert agent is not None
    os.kill(agent.pid, signal.SIGKILL)
    until(lambda: not run.alive())
    assert run.state() is State.LOST


def test_a_command_that_was_started_and_not_recorded_is_adopted(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("touch started; while [ ! -e go ]; do sleep 0.1; done; touch end")
    client.start(run)
    until((tmp_path / "started").exists)
    supervisor_of(run).send(signal.SIGKILL)  # before or after it wrote that down: made the former below
    until(lambda: not run.supervised())
    status = json.loads((run.folder / "status.json").read_text())
    (run.folder / "status.json").write_text(json.dumps(status | {"commands": []}))  # as it was a moment before
    client.ensure_supervised(run)
    until(lambda: any(command.identity for command in run.status().commands))
    (tmp_path / "go").touch()
    assert client.wait(run, 180)
    assert (tmp_path / "end").exists()
    assert [command.exit_code for command in run.status().commands] == [None]


def test_a_command_that_was_started_and_not_recorded_and_has_ended_does_not_run_twice(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("echo started >> count; while [ ! -e go ]; do sleep 0.1; done")
    client.start(run)
    until((tmp_path / "count").exists)
    supervisor_of(run).send(signal.SIGKILL)
    until(lambda: not run.supervised())
    status = json.loads((run.folder / "status.json").read_text())
    (run.folder / "status.json").write_text(json.dumps(status | {"commands": []}))  # as it was a moment before
    (tmp_path / "go").touch()
    until(lambda: not run.command_alive())
    client.start(run)
    assert client.wait(run, 180)
    assert (tmp_path / "count").read_text() == "started\n"
    assert [command.exit_code for command in run.status().commands] == [None]
    assert any("the end of c0 was not observed" in note for note in run.status().notes)


def test_a_run_that_was_judged_as_lost_is_not_started_late(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("touch started")
    verdict = Verdict(1, run.id, Outcome.INCONCLUSIVE, [], "2026-01-02T03:04:05Z", "lost")
    write_json(run.folder / "verdict.json", verdict)
    argv = [sys.executable, "-m", "llmval_tui.runs.supervisor", str(run.folder)]
    assert subprocess.run(argv, check=False).returncode == 0  # in this process it would hold the run's lock for ever
    assert not (tmp_path / "started").exists()


def test_ranks_left_by_a_double_kill_are_ended_by_whoever_looks_next(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("setsid sleep 300 9>&- & echo $! > rank; wait")
    client.start(run)
    until(lambda: (tmp_path / "rank").exists() and run.status().commands != [])
    rank = Identity.of(int((tmp_path / "rank").read_text()))
    status = run.status()
    os.kill(supervisor_of(run).pid, signal.SIGKILL)
    agent = status.commands[0].identity
    assert agent is not None
    os.kill(agent.pid, signal.SIGKILL)
    until(lambda: not run.supervised())
    assert rank is not None and rank.alive()
    client.ensure_supervised(run)
    until(lambda: not rank.alive() and run.state() is State.FINISHED)
