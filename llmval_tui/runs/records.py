"""The records of a run folder: intent, status and verdict. Read them with `foundation.decode.decode`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from llmval_tui.foundation.paths import named_path
from llmval_tui.foundation.process import Identity


class State(StrEnum):
    """The state of a run; only the supervisor changes it."""

    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"
    LOST = "lost"  # derived, never stored: not finished, and no process holds its locks


class Outcome(StrEnum):
    """The outcome of a gate or of a whole verdict."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


class RestsOn(StrEnum):
    """What a tick rests on."""

    MEASURED = "measured"  # a figure or content was judged
    EXIT_CODE = "exit code"  # the command's exit code, and that its files are there
    BY_HAND = "by hand"  # a person's note


# The worst gate decides. `fail` comes first: a defect stays a defect even if the run was also measured badly.
SEVERITY = (Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE, Outcome.PASS)


@dataclass(frozen=True, slots=True)
class StepRef:
    """The step of a run: its number as shown (`1.2`), and the key that survives edits elsewhere in the file."""

    number: str
    section: str
    text: str
    occurrence: int
    checklist: str = ""  # relative to the workspace if it lies inside; empty in old records

    @property
    def key(self) -> tuple[str, str, int]:
        return self.section, self.text, self.occurrence


@dataclass(frozen=True, slots=True)
class FrozenScript:
    """A script of the checklist as it runs: a file in the run folder, written before the start and never changed."""

    name: str  # name of the file in the run folder
    text: str
    sha256: str  # SHA-256 of the file's bytes, the text in UTF-8


@dataclass(frozen=True, slots=True)
class Command:
    """One frozen command: the executed words, and the line that an operator would type for the same."""

    label: str  # the label names the logs: `main`, `main2`, `with`, `without`
    argv: list[str]
    display: str
    env: dict[str, str] = field(default_factory=dict)  # variables added to the supervisor's own environment
    tee: str | None = None  # a file, relative to the workspace, that also gets the standard output
    nproc: int | None = None  # ranks that torchrun starts; None without torchrun
    cwd: str | None = None  # its working folder, relative to the workspace; None: the workspace
    merge_stderr: bool = False  # `2>&1`: the standard error goes into the log of the standard output, and into `tee`
    append: bool = False  # `tee` gets the output after its present content; `appended_file` holds the appended bytes
    script: FrozenScript | None = None  # the script that `argv` runs
    line: int | None = None  # line in the checklist, from 1
    timeout_s: float | None = None  # it fails if it runs longer
    retries: int = 0  # how often it is started again after a failure
    needs_success: bool = False  # starts only if every command before it succeeded
    findings: list[int] = field(default_factory=list)  # exit codes besides 0 that are results, not failures

    @property
    def appended_file(self) -> str | None:
        """The file in the run folder that holds the bytes that this run appended to `tee`; None without `append`."""
        return appended_name(self.label) if self.append and self.tee is not None else None

    @property
    def hidden_env(self) -> str:
        """The part of `env` that `display` does not show, as `NAME=value …`."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.env.items()) if f"{name}=" not in self.display)


def appended_name(label: str) -> str:
    """The name of the file in the run folder that holds the bytes that a command appended elsewhere."""
    return f"appended.{label}.txt"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that the run must produce. It must match its schema (`load_test`, …), or exist if there is none."""

    path: str  # relative to the workspace
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A server that the run's command starts: where it must answer, and by when."""

    url: str  # http://HOST:PORT, without a path
    ready_within_s: float  # seconds from the start of its process
    model: str | None = None  # model of the first request; None: the first one of /v1/models


@dataclass(frozen=True, slots=True)
class Intent:
    """`run.json`: every decision made before the start."""

    v: int
    run_id: str
    action: str
    step: StepRef
    commands: list[Command]
    cwd: str
    created_utc: str
    artifacts: list[Artifact] = field(default_factory=list)
    tick: bool = True  # whether a pass ticks the item
    preset: str | None = None
    deviations: list[str] = field(default_factory=list)
    telemetry: bool = True
    params: dict[str, Any] = field(default_factory=dict)  # the action's own values
    plan_id: str | None = None
    server: ServerSpec | None = None  # the command starts a server, and runs until somebody ends it
    servers: list[str] = field(default_factory=list)  # ids of the runs whose servers must serve until this run's end
    item_fingerprint: str = ""  # fingerprint of the item as it was read, see `Step.fingerprint`
    launcher: str | None = None  # what starts a run on several nodes: "slurm" or "ssh"; None: it runs on this machine
    how: str | None = None  # "each": the commands on every node; "collective": one launch over all nodes
    nodes: list[str] = field(default_factory=list)  # [] with a launcher: Slurm chooses them, see `JobStatus.nodes`
    order_ns: int = 0  # creation time, but later than every existing run; 0 in old records
    host: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)  # recorded part of the inherited environment

    @property
    def order(self) -> tuple[int, str]:
        """Sort key: older runs are smaller. Old records have only the time in their id."""
        return self.order_ns or _id_time_ns(self.run_id), self.run_id


def engine_url_of(intent: Intent) -> str | None:
    """The inference server whose own metrics are recorded with the run; None if the run uses none."""
    url = intent.params.get("engine_url")
    return url if isinstance(url, str) and url else None


def _id_time_ns(run_id: str) -> int:
    try:
        moment = datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return round(moment.timestamp()) * 1_000_000_000


@dataclass(slots=True)
class CommandStatus:
    """The status of one command."""

    label: str
    identity: Identity | None = None
    started_utc: str | None = None
    ended_utc: str | None = None
    exit_code: int | None = None  # negative: killed by that signal; None: running, or its end was not observed
    ranks: dict[str, int] = field(default_factory=dict)  # rank → exit code, from the torchrun agent
    out_of_memory: str | None = None  # a sentence if the kernel killed a process for lack of memory meanwhile
    timed_out: bool = False  # it was ended because it ran longer than its `timeout_s`
    # How each earlier attempt failed, oldest first; the other fields are those of the newest attempt.
    failed_attempts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ServerStatus:
    """What is known of a server."""

    ready_s: float | None = None  # seconds from the start of its process to the first completed request
    ready_utc: str | None = None
    model: str | None = None  # the model that completed the first request
    version: str | None = None  # version that the server reports
    waits_for: str | None = None  # what the next step to being ready is, and how the last try went
    problem: str | None = None  # why it was never ready, or how it ended by itself
    stopped: str | None = None  # who ended it, and why
    stop: list[str] = field(default_factory=list)  # the steps of its end, one sentence each
    left_behind: int = 0  # how many of its processes outlived the one that was started
    forced: bool = False  # it, or a process that it left, had to be killed; after a kill on purpose: it could not be


JOB_WAITS = ("PENDING", "CONFIGURING", "REQUEUED")  # words of Slurm for a job that has not begun


@dataclass(slots=True)
class JobStatus:
    """The part of a run that runs on other nodes: a Slurm job, or processes that ssh started."""

    id: str | None = None  # id of the Slurm job
    step: str | None = None  # the Slurm job's step, such as "123.0"
    nodes: list[str] = field(default_factory=list)  # nodes in the order of their ranks
    restarts: int = 0  # how often Slurm started the job again
    state: str | None = None  # the word of Slurm (PENDING, RUNNING, COMPLETED, …); over ssh the same words
    reason: str | None = None  # why it is pending, or how it ended
    refused: str | None = None  # why nothing was started, and the remedy
    lost: dict[str, str] = field(default_factory=dict)  # node → a sentence: since when nothing is heard of it
    failed: list[str] = field(default_factory=list)  # nodes that had failed before the run was cancelled
    crashes: int = 0  # heads that stopped on an internal error


@dataclass(slots=True)
class Status:
    """`status.json`: replaced at every change."""

    v: int = 1
    state: State = State.STARTING
    supervisor: Identity | None = None
    started_utc: str | None = None
    ended_utc: str | None = None
    commands: list[CommandStatus] = field(default_factory=list)
    cancelled: str | None = None  # who cancelled the run
    server: ServerStatus | None = None  # None unless the run starts a server
    job: JobStatus | None = None  # None unless the run is on several nodes
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gate:
    """One check: the measured value, the bound, and the reason for the outcome."""

    name: str
    outcome: Outcome
    measured: str
    bound: str
    reason: str = ""
    line: int | None = None  # line of the checklist, from 1: the command or the criterion that the gate judges

    @property
    def title(self) -> str:
        """Its name for people. A name that says what must hold would read as if it held, so it is negated then."""
        did_not_hold = self.outcome in (Outcome.FAIL, Outcome.INVALID)
        return _NEGATED.get(self.name, self.name) if did_not_hold else self.name


_NEGATED = {
    "kept up": "did not keep up",
    "as written": "not as written",
    "ran as asked": "did not run as asked",
    "run complete": "run not complete",
    "not cancelled": "cancelled",
    "ran to its own end": "did not run to its own end",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file that backs a verdict."""

    path: str  # relative to the workspace; `foundation.paths.recorded_name` if the name is not UTF-8
    sha256: str
    bytes: int
    # Of the file when it was hashed: a look compares these and reads nothing. None in old records.
    mtime_ns: int | None = None
    inode: int | None = None

    def at(self, workspace: Path) -> Path:
        """The file in this workspace."""
        return workspace / named_path(self.path)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`verdict.json`: written once."""

    v: int
    run_id: str
    outcome: Outcome
    gates: list[Gate]
    judged_utc: str
    summary: str  # one sentence with the important figures
    evidence: list[Evidence] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    rests_on: RestsOn | None = None  # None in old records: `actions.rests_on` derives it from the gates
    # The decision that the operator must make: {"kind": "accept" | "link", "text", "diff"?}
    question: dict[str, Any] | None = None


def worst(gates: list[Gate]) -> Outcome:
    """The outcome of all gates together; without gates it is inconclusive."""
    outcomes = {gate.outcome for gate in gates}
    return next((outcome for outcome in SEVERITY if outcome in outcomes), Outcome.INCONCLUSIVE)


def why_not_passed(outcome: Outcome, gates: Sequence[Gate], cancelled: str | None) -> str:
    """The reason why a run did not pass, in one sentence; "" if it passed, or if no gate has this outcome."""
    if cancelled:
        return f"cancelled ({cancelled})"
    gate = next((gate for gate in gates if gate.outcome is outcome and outcome is not Outcome.PASS), None)
    if gate is None:
        return ""
    return f"{gate.title}: {gate.measured}" + (f" ({gate.reason})" if gate.reason else "")
