"""What keeps a running run from going on, seen from outside: stopped processes, and a disk that is full or hangs.

The run's own records cannot say it: a stopped process says nothing, and a full disk takes no record.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.process import Identity, state_of
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import RunProcesses

LOOK_S = 3.0  # between two looks at all processes of the machine
DISK_LOOK_S = 1.0  # between two looks at the disk and at the few processes that write the records
DISK_WAIT_S = 5.0  # a healthy disk answers in milliseconds
FULL_BYTES = 1 << 20  # less than this is full: a record needs a few KiB, and root's reserve does not count


@dataclass(frozen=True, slots=True)
class Hindrance:
    """One thing that holds a run up: two words for a header, and a sentence."""

    short: str
    sentence: str


def stopped_processes(run: Run) -> list[Hindrance]:
    """The processes of a run, and its supervisor, that a signal (SIGSTOP, Ctrl-Z, a debugger) has stopped."""
    supervisor = _supervisor(run)
    pids = [identity.pid for identity in (*RunProcesses(run.folder).own(), *([supervisor] if supervisor else []))]
    stopped = [pid for pid in pids if state_of(pid) in ("T", "t")]
    names = {pid: "the supervisor" if supervisor and pid == supervisor.pid else _name(pid) for pid in stopped}
    return [
        Hindrance(
            f"{name.removeprefix('the ')} stopped",
            f"{name} of run {run.id} (pid {pid}) is stopped: kill -CONT {pid} lets it go on, "
            "or llmval cancel ends the run.",
        )
        for pid, name in sorted(names.items(), key=lambda item: (item[1], item[0]))
    ]


def disk_problem(workspace: Path) -> Hindrance | None:
    """Why nothing can be written into the workspace; None if something can. It writes nothing."""
    try:
        disk = os.statvfs(workspace)
    except OSError as error:
        return Hindrance("disk unreadable", f"the disk of {workspace} does not answer ({error.strerror}).")
    if disk.f_flag & os.ST_RDONLY:
        return Hindrance("disk read-only", f"the disk of {workspace} is mounted read-only: no result can be recorded.")
    if disk.f_bavail * disk.f_frsize < FULL_BYTES:
        return Hindrance("disk full", f"the disk of {workspace} is full: free some space, no result can be recorded.")
    if disk.f_files and not disk.f_favail:
        return Hindrance("disk full", f"the disk of {workspace} has no inode left: remove some files.")
    return None


class HindranceWatch:
    """Looks again and again; remembers which processes have waited for the disk."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self._waiting: dict[Identity, float] = {}  # since when, on the monotonic clock
        self._disk: list[Hindrance] = []
        self._disk_due_s = 0.0
        self._stopped: list[Hindrance] = []
        self._stopped_due_s = 0.0

    def look(self, active: Iterable[Run]) -> tuple[Hindrance, ...]:
        """What holds up the workspace and these running runs.

        A full disk is named at the next look, a hanging one `DISK_WAIT_S` after it was seen: together at most
        `DISK_LOOK_S` + `DISK_WAIT_S` + `DISK_LOOK_S` for a caller that looks all the time. Between the looks at the
        disk and at the processes the last answer counts.
        """
        runs = list(active)
        if (now := time.monotonic()) >= self._disk_due_s:
            self._disk_due_s = now + DISK_LOOK_S
            self._disk = self._look_at_disk(runs, now)
        if now >= self._stopped_due_s:  # a look at all processes: slow on a busy machine
            self._stopped_due_s = now + LOOK_S
            self._stopped = [one for run in runs for one in stopped_processes(run)]
        return (*self._disk, *self._stopped)

    def _look_at_disk(self, runs: list[Run], now: float) -> list[Hindrance]:
        found = [problem] if (problem := disk_problem(self.workspace)) else []
        waiting: dict[Identity, float] = {}
        for run in runs:
            for identity, name in _writers(run):
                if state_of(identity.pid) != "D":
                    continue
                waiting[identity] = self._waiting.get(identity, now)
                if now - waiting[identity] >= DISK_WAIT_S:
                    where = f"has waited for the disk of {self.workspace} for more than {DISK_WAIT_S:.0f} s"
                    found.append(Hindrance("disk hangs", f"{name} of run {run.id} {where}."))
        self._waiting = waiting
        return found


def _writers(run: Run) -> list[tuple[Identity, str]]:
    """The processes that write the run's records."""
    supervisor = _supervisor(run)
    if supervisor is None:
        return []
    recorders = [one for pid in _children(supervisor.pid) if _is_recorder(pid) and (one := Identity.of(pid))]
    return [(supervisor, "the supervisor"), *((one, "the recorder") for one in recorders)]


def _supervisor(run: Run) -> Identity | None:
    try:
        identity = run.status().supervisor
    except Refused:  # whoever shows the run names the damaged record
        return None
    return identity if identity is not None and identity.alive() else None


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_recorder(pid: int) -> bool:
    try:
        return b"llmval_tui.telemetry.recorder" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _name(pid: int) -> str:
    """`rank 1` for a rank of torchrun, else the name of the program."""
    try:
        if _is_recorder(pid):
            return "the recorder"
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        rank = next((word for word in words if word.startswith(b"RANK=")), None)
        return f"rank {int(rank[5:])}" if rank else Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return "a process"
