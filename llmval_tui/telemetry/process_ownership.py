"""Which processes belong to a run: for the gate on foreign GPU processes, for the end of a run, and for its adoption.

A process belongs to a run if one of these is true:

1. It has the run's mark, `LLMVAL_RUN_ID=<id>`, in its start environment, which every child inherits.
2. It is a descendant of the run's supervisor. The supervisor is a subreaper, so a process that lost its parent becomes
   its child.
3. The supervisor has recorded it in `processes.json`, or it is a descendant of such a process.

The mark alone is not enough: vLLM and SGLang rename their workers by setproctitle, which overwrites the environment in
/proc with zeros. The record is for whoever adopts the run after its supervisor was killed: then nothing descends from
the supervisor any more.
"""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import Identity, boot_id, descendants, entry_of, process_table, processes_with
from llmval_tui.foundation.record import read_record

RUN_ID_VARIABLE = "LLMVAL_RUN_ID"
NODES_FOLDER = "nodes"  # in the folder of a run on several nodes: a folder with the format of a run for each node
_RECORD = "processes.json"
_PROC = Path("/proc")
# The inode of the first pid namespace is fixed in the kernel (PROC_PID_INIT_INO, include/linux/proc_ns.h).
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
_RECORD_INTERVAL_S = 1.0
_RECORD_SHARE = 0.02  # the look at all processes takes at most this share of one core


def is_node_folder(folder: Path) -> bool:
    """Whether a folder `…/ID/nodes/NAME` holds one node's part of the run ID."""
    return folder.parent.name == NODES_FOLDER


def run_id_of(folder: Path) -> str:
    """The id of a run: the name of its folder; `ID.NAME` for the part of the node NAME."""
    return f"{folder.parent.parent.name}.{folder.name}" if is_node_folder(folder) else folder.name


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """`processes.json` of a run folder: the processes of the run at the last look, without supervisor and recorder."""

    v: int = 1
    supervisor: Identity | None = None
    processes: list[Identity] = field(default_factory=list)


class RunProcesses:
    """The processes of one run, seen from any process.

    Args:
        folder: the run folder; see `run_id_of`.
    """

    def __init__(self, folder: Path) -> None:
        self._run_id = run_id_of(folder)
        self._record = folder / _RECORD
        self._stamp: tuple[int, int] | None = None
        self._recorded = ProcessRecord()
        self._due_s = 0.0  # of the next look by `update`; monotonic clock

    def own(self, exclude: Collection[int] = ()) -> list[Identity]:
        """Every running process of the run but its supervisor.

        `exclude` lists pids that do not belong to it: the recorder, whose parent is the supervisor.
        """
        found = {identity.pid: identity for identity in processes_with(RUN_ID_VARIABLE, self._run_id)}
        found |= {identity.pid: identity for identity in self._by_descent()}
        return [identity for pid, identity in found.items() if pid not in exclude and pid != os.getpid()]

    def owns(self, pid: int) -> bool:
        """Whether this running process belongs to the run."""
        return self._has_mark(pid) or self._descends(pid)

    def record(self, supervisor: Identity | None, exclude: Collection[int] = ()) -> None:
        """Write `processes.json`: the processes that belong to the run now. Called by the supervisor.

        Raises:
            Refused: it cannot be written.
        """
        self._write(supervisor, self.own(exclude))

    def update(self, supervisor: Identity | None, exclude: Collection[int] = ()) -> None:
        """Write `processes.json` again if processes have started or ended. The supervisor calls it all the time.

        It looks once a second, or less often if the look takes long, and by descent alone, which is cheap. A full disk
        is not an error: the record is written at the next look.
        """
        began = time.monotonic()
        if began < self._due_s:
            return
        now = [identity for identity in self._by_descent() if identity.pid not in exclude]
        if set(now) != set(self._recorded.processes) or supervisor != self._recorded.supervisor:
            with suppress(Refused):
                self._write(supervisor, now)
        ended = time.monotonic()
        self._due_s = ended + max(_RECORD_INTERVAL_S, (ended - began) / _RECORD_SHARE)

    def _write(self, supervisor: Identity | None, processes: list[Identity]) -> None:
        write_json(self._record, ProcessRecord(1, supervisor, sorted(processes, key=lambda item: item.pid)))

    def _read(self) -> ProcessRecord:
        """The record. A damaged one counts as none: mark and descent are still there, and the next look replaces it."""
        try:
            status = self._record.stat()
        except OSError:
            return self._recorded
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            with suppress(Refused):
                self._recorded = read_record(ProcessRecord, self._record) or ProcessRecord()
            self._stamp = stamp
        return self._recorded

    def _by_descent(self) -> list[Identity]:
        record, table, boot = self._read(), process_table(), boot_id()

        def running(identity: Identity) -> bool:
            entry = table.get(identity.pid)
            return entry is not None and identity == Identity(boot, identity.pid, entry.start_ticks)

        known = [identity.pid for identity in record.processes if running(identity)]
        roots = [*known, *([record.supervisor.pid] if record.supervisor and running(record.supervisor) else [])]
        return [
            Identity(boot, pid, table[pid].start_ticks)
            for pid in {*known, *descendants(table, roots)}
            if not table[pid].ended
        ]

    def _descends(self, pid: int) -> bool:
        record, boot = self._read(), boot_id()
        roots = {*record.processes, *([record.supervisor] if record.supervisor else [])}
        for _ in range(3):  # a parent that ends during the walk breaks the chain, and the kernel makes a new one
            ancestor, broken = pid, False
            while ancestor > 0:
                entry = entry_of(ancestor)
                if entry is None:
                    broken = ancestor != pid
                    break
                if Identity(boot, ancestor, entry.start_ticks) in roots:
                    return True
                ancestor = entry.parent
            if not broken:
                return False
        return False

    def _has_mark(self, pid: int) -> bool:
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return False
        return f"{RUN_ID_VARIABLE}={self._run_id}".encode() in environment.split(b"\0")


class ForeignProcesses:
    """Says which GPU processes belong to none of the given runs.

    A process that has ended is not foreign, except in a container with its own pids: there it may be running unseen on
    the host.

    Args:
        folders: the run folder, and those of the servers that the run rests on.
    """

    def __init__(self, folders: Collection[Path]) -> None:
        self._runs = [RunProcesses(folder) for folder in folders]
        self._unseen_is_foreign = in_own_pid_namespace()

    def is_foreign(self, pid: int) -> bool:
        """Whether `pid` is running and belongs to none of the runs."""
        entry = entry_of(pid)
        if entry is None:
            return self._unseen_is_foreign
        return not entry.ended and not any(run.owns(pid) for run in self._runs) and _running(pid)


def in_own_pid_namespace() -> bool:
    """Whether this process has other pids than the host, as in most containers."""
    try:
        return str((_PROC / "self" / "ns" / "pid").readlink()) != _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _running(pid: int) -> bool:
    entry = entry_of(pid)
    return entry is not None and not entry.ended
