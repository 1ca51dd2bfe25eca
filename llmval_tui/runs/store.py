"""The run folders of a workspace, as they are read. Only `run.json`, which never changes, is cached."""

import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import is_locked, read_json, sha256_of
from llmval_tui.foundation.record import read_record
from llmval_tui.foundation.text import counted
from llmval_tui.runs.command_secrets import PARAMETERS, real_parameters
from llmval_tui.runs.records import FrozenScript, Intent, State, Status, StepRef, Verdict
from llmval_tui.runs.tick_ledger import TickLedger
from llmval_tui.telemetry.process_ownership import is_node_folder, run_id_of

_LOG = re.compile(r"(?P<label>[A-Za-z0-9_-]+)(?:\.rank(?P<rank>\d+))?\.(?P<stream>stdout|stderr)\.log")

VERDICT = "verdict.json"
RUNS_FOLDER = "artifacts/runs"  # relative to the workspace
RUN_PLACEHOLDER = "{run}"  # in a proposed command: the run folder, whose name is not known yet
RUN_ID_PLACEHOLDER = "{run_id}"  # in the path of an expected artifact
DEMO_MARKER = ".llmval-demo"  # a workspace with this file is a scratch workspace: `smoke` may tick there


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """One log of a run. `rank` is None for the command's own output (with torchrun: the agent's)."""

    label: str
    rank: int | None
    stream: str
    path: Path


class Run:
    """One run folder. Every method looks at the files again, except at `run.json`, which never changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = run_id_of(folder)
        self._intent: Intent | None = None
        self._order: tuple[int, str] | None = None
        self._verdict: Verdict | None = None
        self._verdict_stamp: tuple[int, int, int] | None = None
        self._verdict_file = f"{folder}/{VERDICT}"

    @property
    def intent(self) -> Intent:
        """The content of `run.json`; its params have their secrets until the run is judged.

        Raises:
            Refused: the folder has no readable `run.json`.
        """
        if self._intent is None:
            self._intent = read_record(Intent, self.folder / "run.json")
            if self._intent is None:
                raise Refused(f"{self.folder} has no run.json: move the folder away.")
            if os.path.exists(f"{self.folder}/{PARAMETERS}"):  # noqa: PTH110  (asked of thousands of runs)
                self._intent = replace(self._intent, params=real_parameters(self.folder, self._intent.params))
        return self._intent

    @property
    def workspace(self) -> Path:
        """The workspace that the run folder `WORKSPACE/artifacts/runs/ID`, or `…/ID/nodes/NAME`, lies in."""
        folder = self.folder.absolute()
        return folder.parents[4 if is_node_folder(folder) else 2]

    def copied_from(self) -> str | None:
        """Where this folder was copied from, for people; None if it is the run's own, also in a moved workspace.

        A copy is not a run of this workspace: its processes, its judgement and its tick belong to the original.
        """
        if is_node_folder(self.folder):
            return None
        intent = self.intent
        original = Path(intent.cwd) / RUNS_FOLDER / intent.run_id
        try:
            moved = not original.is_dir() or original.samefile(self.folder)
        except OSError:
            moved = True
        if not moved or intent.run_id != self.id:
            return str(original)
        if intent.plan_id is not None and not plan_lock(self.workspace, intent.plan_id).parent.is_dir():
            return f"{original} on {intent.host.get('name', 'another host')}"
        return None

    @property
    def order(self) -> tuple[int, str]:
        """Sort key: older runs are smaller."""
        if self._order is None:
            self._order = self.intent.order
        return self._order

    def status(self) -> Status:
        """The status that the supervisor wrote last; a new `Status` before the first.

        Raises:
            Refused: the record is damaged.
        """
        return read_record(Status, self.folder / "status.json") or Status()

    def verdict(self) -> Verdict | None:
        """The verdict; None if the run is not judged yet.

        Raises:
            Refused: the record is damaged.
        """
        try:
            status = os.stat(self._verdict_file)  # noqa: PTH116  (a dashboard asks this of thousands of runs a second)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            return read_record(Verdict, self.folder / VERDICT)
        if stamp != self._verdict_stamp:
            self._verdict, self._verdict_stamp = read_record(Verdict, self.folder / VERDICT), stamp
        return self._verdict

    def judged(self) -> bool:
        """Whether there is a verdict; it is not read."""
        return os.path.exists(self._verdict_file)  # noqa: PTH110  (as above)

    def state(self) -> State:
        """The recorded state; LOST if that is not `finished` and neither supervisor nor command is alive."""
        state = self.status().state
        if state is State.FINISHED or self.supervised() or self.command_alive() or self._about_to_start():
            return state
        if self._goes_on_elsewhere():
            return state
        # The supervisor may have finished after the first read: read its final state.
        state = self.status().state
        return state if state is State.FINISHED else State.LOST

    def _about_to_start(self) -> bool:
        """Whether the run's plan is alive and its supervisor has written nothing yet: the run is new, not lost."""
        plan_id = self.intent.plan_id
        if plan_id is None or (self.folder / "status.json").exists():
            return False
        return is_locked(plan_lock(self.workspace, plan_id))

    def supervised(self) -> bool:
        """Whether a supervisor holds the run now."""
        return is_locked(self.supervisor_lock)

    def command_alive(self) -> bool:
        """Whether the command (the torchrun agent) is running, supervised or not."""
        return is_locked(self.command_lock)

    def alive(self) -> bool:
        """Whether the supervisor or the command is still running.

        A finished run counts as ended even if a process that cannot be killed still holds the command's lock.
        """
        if self.supervised() or self._goes_on_elsewhere():
            return True
        return self.command_alive() and self.status().state is not State.FINISHED

    def _goes_on_elsewhere(self) -> bool:
        """Whether other nodes may still work for the run, so that only a head can say whether it has ended."""
        try:
            if self.intent.launcher is None:  # nearly all runs: this is asked of each of thousands at every look
                return False
            status = self.status()
        except Refused:  # whoever shows the run names the damaged record
            return False
        return status.job is not None and status.state is not State.FINISHED and not self.judged()

    def refused(self) -> str | None:
        """Why a run on several nodes was refused before anything was started on one; None: it was not.

        Raises:
            Refused: its record is damaged.
        """
        job = self.status().job if self.intent.launcher is not None else None
        return job.refused if job is not None else None

    def recorded_ranks(self, label: str) -> dict[str, int]:
        """Exit code by rank, from the torchrun agent; without ranks whose code the agent never learned."""
        value = read_json(self.folder / f"ranks.{label}.json")
        ranks = value.get("ranks") if isinstance(value, dict) else None
        if not isinstance(ranks, dict):
            return {}
        return {rank: code for rank, code in ranks.items() if rank.isdecimal() and isinstance(code, int)}

    @property
    def cancel_file(self) -> Path:
        """Written by whoever wants the run to end: `{"by": …}`."""
        return self.folder / "cancel.json"

    @property
    def stop_file(self) -> Path:
        """Written by whoever wants the server of this run to end, which is not a cancel: `{"by": …, "signal": …}`."""
        return self.folder / "stop.json"

    def cancelled_by(self) -> str | None:
        """Who asked for the end of the run; None if nobody did. The run may have ended by itself before that."""
        request = read_json(self.cancel_file)
        return str(request.get("by", "somebody")) if isinstance(request, dict) else None

    @property
    def supervisor_lock(self) -> Path:
        return self.folder / "supervisor.lock"

    @property
    def command_lock(self) -> Path:
        return self.folder / "command.lock"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def telemetry(self) -> Path:
        return self.folder / "telemetry.jsonl"

    @property
    def logs_folder(self) -> Path:
        return self.folder / "logs"

    def logs(self) -> list[LogFile]:
        """The existing logs, sorted by label; a command's own logs come before its ranks'."""
        if not self.logs_folder.is_dir():
            return []
        found = []
        for path in self.logs_folder.iterdir():
            if match := _LOG.fullmatch(path.name):
                rank = int(match["rank"]) if match["rank"] else None
                found.append(LogFile(match["label"], rank, match["stream"], path))
        return sorted(found, key=lambda log: (log.label, -1 if log.rank is None else log.rank, log.stream))


def plans_folder(workspace: Path) -> Path:
    return workspace / "artifacts" / "plans"


def plan_lock(workspace: Path, plan_id: str) -> Path:
    """The lock that the plan process holds as long as it is alive."""
    return plans_folder(workspace) / plan_id / "lock"


class RunStore:
    """The runs below `WORKSPACE/artifacts/runs`."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.root = workspace / RUNS_FOLDER
        self.ticks = TickLedger(self.ledger)
        self._known: dict[str, Run] = {}
        self._sorted: list[Run] = []  # the same, newest first
        self._closed = 0  # run folders of other users, at the last look
        self._folders: list[str] = []  # from the last `runs()`: one sentence for each folder that is not a run

    @property
    def ledger(self) -> Path:
        """Every tick with full hashes, one JSON line each."""
        return self.root / "ledger.jsonl"

    @property
    def unreadable(self) -> list[str]:
        """One sentence for each damaged record that the last look at runs and ledger found."""
        closed = [
            f"{counted(self._closed, 'run folder')} in {self.root} cannot be read: another user made them (mode 0700)."
        ]
        return [*self._folders, *(closed if self._closed else []), *self.ticks.unreadable]

    def runs(self) -> list[Run]:
        """All runs, newest first. Folders without a readable record are listed in `unreadable` instead."""
        names = self._names()
        if not self._folders and self._known.keys() == set(names):
            return list(self._sorted)
        known: dict[str, Run] = {}
        self._folders = []
        before: Intent | None = None
        for name in sorted(names):
            # One `Run` per folder for good, so that each run.json is parsed only once.
            run = self._known.get(name) or Run(self.root / name)
            try:
                intent = run.intent
            except Refused as refusal:
                self._folders.append(str(refusal))
                continue
            if before is not None:
                _share(before, intent)
            before = intent
            known[name] = run
        self._known = known
        self._sorted = sorted(known.values(), key=lambda run: run.order, reverse=True)
        return list(self._sorted)

    def _names(self) -> list[str]:
        """The folders that hold a record. It is never changed, so only folders without a known one are looked into."""
        try:
            names = os.listdir(self.root)  # noqa: PTH208  (three times as fast)
        except OSError:
            return []
        self._closed = 0
        return [name for name in names if name in self._known or self._has_record(f"{self.root}/{name}/run.json")]

    def _has_record(self, path: str) -> bool:
        try:
            os.stat(path)  # noqa: PTH116
        except OSError as error:
            self._closed += isinstance(error, PermissionError)
            return False
        return True

    def get(self, name: str) -> Run:
        """The run with this id or an unambiguous part of it; `last` is the newest.

        Raises:
            Refused: none or several match.
        """
        runs = self.runs()
        if name == "last" and runs:
            return runs[0]
        found = [run for run in runs if run.id == name] or [run for run in runs if name in run.id]
        if len(found) == 1:
            return found[0]
        if not found:
            raise Refused(f"no run is called {name!r} in {self.root}; `llmval runs` lists them.")
        raise Refused(
            f"{name!r} fits {len(found)} runs ({', '.join(run.id for run in found[:4])} …): give more of the id."
        )

    def find(self, run_id: str) -> Run | None:
        """The run with exactly this id, from the last `runs()`."""
        return self._known.get(run_id)

    def of_step(self, keys: Collection[tuple[str, str, int]], *, checklist: str) -> list[Run]:
        """The runs of one step, newest first.

        Args:
            keys: section, text and occurrence, as records may have them: without secrets, and as the list has them.
            checklist: a `recorded_path`.
        """
        return [
            run
            for run in self.runs()
            if any(same_step(run.intent.step, *key) for key in keys)
            and same_checklist(run.intent.step.checklist, checklist)
        ]

    def active(self) -> list[Run]:
        """The runs that have not ended, newest first."""
        return [run for run in self.runs() if run.alive()]


def _share(before: Intent, intent: Intent) -> None:
    """Let two runs hold equal records of their machine as one object: of thousands they are most of the memory."""
    for name in ("host", "environment", "versions", "git"):
        old, new = getattr(before, name), getattr(intent, name)
        if new is not old and new == old:
            object.__setattr__(intent, name, old)


def same_step(ref: StepRef, section: str, text: str, occurrence: int) -> bool:
    """Whether a run's step has this key. The number does not count, because edits change it."""
    return (ref.section, ref.text, ref.occurrence) == (section, text, occurrence)


def same_checklist(recorded: object, checklist: str) -> bool:
    """Whether a record belongs to this checklist; an old record without a checklist belongs to all.

    Two checklists of one workspace may have sections and items with the same text.
    """
    return not recorded or recorded == checklist


def recorded_path(path: Path, workspace: Path) -> str:
    """A path as records contain it: relative to the workspace if it lies inside, else absolute."""
    absolute, root = path.resolve(), workspace.resolve()
    return str(absolute.relative_to(root)) if absolute.is_relative_to(root) else str(absolute)


def intact(run: Run, script: FrozenScript, *, masked_too: bool = False) -> bool:
    """Whether the file in the run folder still is the frozen script. `masked_too`: or that without its secrets."""
    shown = hashlib.sha256(script.text.encode()).hexdigest()  # of a script without secrets, this is its own
    try:
        return sha256_of(run.folder / script.name) in ((script.sha256, shown) if masked_too else (script.sha256,))
    except OSError:
        return False


def is_demo(workspace: Path) -> bool:
    """Whether the workspace was made by `llmval demo`."""
    return (workspace / DEMO_MARKER).is_file()
