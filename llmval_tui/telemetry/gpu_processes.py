"""The processes on the GPUs: memory there from NVML, and from /proc who they are and what they take of the host.

/proc hides much from an ordinary user: of another user's process the environment and, with `hidepid`, everything. What
is hidden is None.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psutil

from llmval_tui.foundation.redaction import masked_argv
from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE
from llmval_tui.telemetry.sample import Process

INTERVAL_S = 5.0
LONGEST_COMMAND = 200  # characters
_MOST_ANCESTORS = 8


class GpuProcesses:
    """Reads the table every few seconds.

    Args:
        is_foreign: whether a pid does not belong to the recorded run; None: not checked.
        interval_s: least seconds between two readings.
    """

    def __init__(
        self,
        is_foreign: Callable[[int], bool] | None = None,
        interval_s: float = INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_foreign = is_foreign
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._due_s = 0.0
        # By pid: the process, whose start time tells a reused pid, and its CPU seconds at the last reading.
        self._known: dict[int, tuple[psutil.Process, float, float]] = {}

    def read(self, memory: Mapping[int, Mapping[int, int | None]]) -> list[Process] | None:
        """The table; None if it is not time for it yet.

        Args:
            memory: by GPU and pid, the bytes that the process has there; None if NVML does not report it.
        """
        now = self._monotonic()
        if now < self._due_s:
            return None
        self._due_s = now + self._interval_s * 0.98  # a pass that is a little early does not wait for another one
        facts = {pid: self._facts(pid, now) for pid in {pid for pids in memory.values() for pid in pids}}
        self._known = {pid: known for pid, known in self._known.items() if pid in facts}
        return [
            Process(gpu=gpu, pid=pid, gpu_memory_bytes=used, **facts[pid])
            for gpu, pids in sorted(memory.items())
            for pid, used in sorted(pids.items())
        ]

    def _facts(self, pid: int, now: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._is_foreign is not None:
            found["foreign"] = self._is_foreign(pid)
        try:
            process = psutil.Process(pid)
        except psutil.Error:
            return found  # ended, hidden by hidepid, or of another pid namespace
        with process.oneshot():
            for read in (_who, _takes, _command, self._cpu_reader(now)):
                # Each by itself: of another user's process, some of this is readable.
                with suppress(psutil.Error, OSError):
                    found |= read(process)
            found |= _environment(process)
        return found

    def _cpu_reader(self, now: float) -> Callable[[psutil.Process], dict[str, Any]]:
        def read(process: psutil.Process) -> dict[str, Any]:
            times = process.cpu_times()
            spent = times.user + times.system
            before = self._known.get(process.pid)
            self._known[process.pid] = (process, spent, now)
            if before is None or before[0] != process or now <= before[2]:
                return {}
            return {"cpu_percent": round(100 * max(0.0, spent - before[1]) / (now - before[2]), 1)}

        return read


def _who(process: psutil.Process) -> dict[str, Any]:
    return {
        "user": clean_line(process.username()),
        "state": str(process.status()),
        "age_s": round(max(0.0, time.time() - process.create_time()), 1),
    }


def _takes(process: psutil.Process) -> dict[str, Any]:
    return {"host_memory_bytes": process.memory_info().rss, "threads": process.num_threads()}


def _command(process: psutil.Process) -> dict[str, Any]:
    words = process.cmdline()
    command = " ".join(masked_argv(words)) if words else process.name()
    return {"command": clean_line(command)[:LONGEST_COMMAND]}


def _environment(process: psutil.Process) -> dict[str, Any]:
    """The run and the rank of a process, from its environment or from that of an ancestor.

    A process that renames itself (setproctitle) overwrites its own environment.
    """
    found: dict[str, Any] = {}
    at: psutil.Process | None = process
    for _ in range(_MOST_ANCESTORS):
        if at is None or at.pid in (0, 1, os.getpid()):
            break
        with suppress(psutil.Error, OSError):
            environment = at.environ()
            if "rank" not in found and str(environment.get("RANK", "")).isdecimal():
                found["rank"] = int(environment["RANK"])
            if run_id := environment.get(RUN_ID_VARIABLE):
                return found | {"run_id": clean_line(run_id)}
        try:
            at = at.parent()
        except psutil.Error:
            break
    return found
