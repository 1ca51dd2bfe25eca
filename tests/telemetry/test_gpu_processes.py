"""The table of processes: what /proc tells of an own process, what it hides, and how often it is read."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from llmval_tui.telemetry.gpu_processes import LONGEST_COMMAND, GpuProcesses
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE
from llmval_tui.telemetry.sample import Process, Sample

GIB = 1 << 30


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a run's mark, a rank and a secret in its command."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--api-key", "sk-1234567890abcdefghij", "x" * 400],
        env={**os.environ, RUN_ID_VARIABLE: "run-7", "RANK": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.communicate()


def test_an_own_process_is_described_and_its_secrets_are_not(child: subprocess.Popen[bytes]) -> None:
    (one,) = GpuProcesses(lambda pid: pid != child.pid).read({2: {child.pid: 70 * GIB}}) or []
    assert (one.gpu, one.pid, one.gpu_memory_bytes, one.foreign) == (2, child.pid, 70 * GIB, False)
    assert (one.run_id, one.rank) == ("run-7", 3)
    assert one.user == psutil.Process().username() and one.state and one.threads == 1
    assert one.host_memory_bytes and one.age_s is not None and one.age_s >= 0
    assert one.command and one.command.startswith(sys.executable) and len(one.command) <= LONGEST_COMMAND
    assert "sk-1234567890" not in one.command and one.cpu_percent is None  # no interval before the first reading


def test_it_is_read_every_five_seconds_and_then_knows_the_cpu_share() -> None:
    clock = Clock()
    table, memory = GpuProcesses(monotonic=clock), {0: {os.getpid(): None}}
    assert table.read(memory) is not None
    clock.now += 4
    assert table.read(memory) is None
    clock.now += 1
    (one,) = table.read(memory) or []
    assert one.cpu_percent is not None and one.cpu_percent >= 0
    assert one.gpu_memory_bytes is None and one.foreign is None


def test_a_process_that_is_gone_or_hidden_is_listed_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    (gone,) = GpuProcesses().read({0: {2**22 + 1: GIB}}) or []
    assert gone == Process(0, 2**22 + 1, GIB)

    def denied(self: psutil.Process, *words: object) -> object:
        raise psutil.AccessDenied(self.pid)

    for name in ("cmdline", "environ"):
        monkeypatch.setattr(psutil.Process, name, denied)
    (other,) = GpuProcesses().read({0: {os.getpid(): GIB}}) or []
    assert other.user is not None and other.state is not None
    assert other.command is None and other.run_id is None and other.host_memory_bytes


def test_without_a_process_the_table_is_empty_and_not_unknown() -> None:
    assert GpuProcesses().read({0: {}, 1: {}}) == []


def test_the_table_survives_its_file_and_an_old_line_has_none() -> None:
    table = [Process(0, 7, GIB, True, user="eve", command="python x.py")]
    line = Sample(1, 2, processes=table).to_line()
    again = Sample.from_line(line)
    assert again is not None and again.processes == table
    old = Sample.from_line(b'{"t_ns": 1, "mono_ns": 2, "gpus": [], "notes": [], "v": 1}')
    assert old is not None and old.processes is None
