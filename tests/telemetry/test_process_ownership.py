"""Which processes belong to a run: by mark, by descent, by the record."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmval_tui.foundation.process import Identity, descendants, entry_of, process_table
from llmval_tui.foundation.record import read_record
from llmval_tui.telemetry import process_ownership
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE, ForeignProcesses, ProcessRecord, RunProcesses
from tests.helpers.processes import until


def read(folder: Path) -> ProcessRecord:
    record = read_record(ProcessRecord, folder / "processes.json")
    assert record is not None
    return record


def started(variable: str | None = None) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != RUN_ID_VARIABLE}
    return subprocess.Popen(["sleep", "60"], env=environment | ({RUN_ID_VARIABLE: variable} if variable else {}))


def test_processes_are_recognised_by_the_runs_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, strange = started(tmp_path.name), started("other")
    try:
        foreign = ForeignProcesses([tmp_path])
        both = ForeignProcesses([tmp_path, tmp_path / "other"])
        # Their environment is there only after their exec.
        until(lambda: not both.is_foreign(ours.pid) and not both.is_foreign(strange.pid))
        assert not foreign.is_foreign(ours.pid) and foreign.is_foreign(strange.pid)
        for process in (ours, strange):
            process.kill()
        until(lambda: Identity.of(strange.pid) is None)
        assert not foreign.is_foreign(strange.pid)  # a zombie holds no GPU
    finally:
        for process in (ours, strange):
            process.kill()
            process.wait()
    for elsewhere in (False, True):
        monkeypatch.setattr(process_ownership, "in_own_pid_namespace", lambda elsewhere=elsewhere: elsewhere)
        assert ForeignProcesses([tmp_path]).is_foreign(strange.pid) is elsewhere


def test_a_descendant_of_the_supervisor_or_of_a_recorded_process_belongs_to_the_run(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    environment = {"PATH": os.environ["PATH"]}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        identity = Identity.of(parent.pid)
        assert identity is not None
        processes = RunProcesses(tmp_path)
        assert processes.own() == [] and not processes.owns(child)
        processes._write(identity, [])  # as the supervisor
        assert [item.pid for item in processes.own()] == [child]
        assert processes.owns(child)
        processes._write(None, [identity])  # as a process of the run
        assert {item.pid for item in RunProcesses(tmp_path).own()} == {parent.pid, child}
        assert processes.owns(parent.pid)
        reused = Identity(identity.boot_id, identity.pid, identity.start_ticks - 1)
        processes._write(reused, [reused])  # another process has the pid now
        assert processes.own() == [] and not processes.owns(child) and not processes.owns(parent.pid)
    finally:
        os.kill(child, 9)
        parent.wait()
        parent.stdout.close()


def test_the_record_follows_what_starts_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Identity.of(os.getpid())
    processes = RunProcesses(tmp_path)
    processes.record(own)
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    first, recorder = started(), started()

    def recorded() -> list[int]:
        return [item.pid for item in read(tmp_path).processes]

    try:
        processes.update(own, {recorder.pid})
        assert first.pid in recorded() and recorder.pid not in recorded()
        first.kill()
        first.wait()
        processes.update(own, {recorder.pid})
        assert first.pid in recorded()  # it is not time for another look
        clock[0] += 1.5
        processes.update(own, {recorder.pid})
        assert first.pid not in recorded()
    finally:
        for process in (first, recorder):
            process.kill()
            process.wait()


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text('{"v": 1, "processes": [7')
    assert RunProcesses(tmp_path).own() == []
    assert not RunProcesses(tmp_path).owns(os.getpid())


def test_descent_is_read_from_the_table() -> None:
    table = process_table()
    assert table[os.getpid()] == entry_of(os.getpid())
    assert table[os.getpid()].parent == os.getppid()
    assert os.getpid() in descendants(table, [os.getppid()])
    assert os.getppid() not in descendants(table, [os.getppid()])


def test_the_record_is_what_the_run_folder_promises(tmp_path: Path) -> None:
    RunProcesses(tmp_path).record(Identity.of(os.getpid()))
    assert read(tmp_path).supervisor == Identity.of(os.getpid())
