"""The records of a run folder as types: what was intended, how it stands, how it was judged."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from llmval_tui.foundation.process import Identity


class State(StrEnum):
    """Where a run is in its life; only the supervisor moves it."""

    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"
    LOST = "lost"  # derived, never stored: not finished, and nothing holds its locks


class Outcome(StrEnum):
    """What a gate, or a verdict as a whole, says."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


# The worst gate decides; `fail` first, because a defect seen stays a defect in a run that was also badly measured.
SEVERITY = (Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE, Outcome.PASS)


@dataclass(frozen=True, slots=True)
class StepRef:
    """The step a run is for: its number as shown (`1.2`) and the key that survives edits elsewhere in the file."""

    number: str
    section: str
    text: str
    occurrence: int
    checklist: str = ""  # relative to the workspace where it lies inside; old records may not say it


@dataclass(frozen=True, slots=True)
class Command:
    """One command, frozen: what is executed, and what the operator would type by hand to do the same."""

    label: str  # names the logs: `main`, `with`, `without`
    argv: list[str]
    display: str
    env: dict[str, str] = field(default_factory=dict)  # added to the supervisor's own environment
    tee: str | None = None  # a file, relative to the workspace, that also gets the standard output
    nproc: int | None = None  # ranks that torchrun starts; None where torchrun is not used

    @property
    def hidden_env(self) -> str:
        """What `env` adds and `display` does not say, as `NAME=value …`; "" for nothing."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.env.items()) if f"{name}=" not in self.display)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file the run must produce: where, by which schema it is valid (`load_test`, …), or just present."""

    path: str  # relative to the workspace
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """`run.json`: everything decided before the start."""

    v: int
    run_id: str
    action: str
    step: StepRef
    commands: list[Command]
    cwd: str
    created_utc: str
    artifacts: list[Artifact] = field(default_factory=list)
    tick: bool = True  # complete the item on a pass, or only judge
    preset: str | None = None
    deviations: list[str] = field(default_factory=list)
    telemetry: bool = True
    params: dict[str, Any] = field(default_factory=dict)  # what the action itself wants to remember
    plan_id: str | None = None
    order_ns: int = 0  # when it was made, but never before a run that lay there already; 0 in old records
    host: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)  # the allow-listed part of what the commands inherit

    @property
    def order(self) -> tuple[int, str]:
        """What runs are sorted by: older ones are less. Old records have only the time in their id."""
        return self.order_ns or _named_ns(self.run_id), self.run_id


def _named_ns(run_id: str) -> int:
    try:
        moment = datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return round(moment.timestamp()) * 1_000_000_000


@dataclass(slots=True)
class CommandStatus:
    """How one command of the run went."""

    label: str
    identity: Identity | None = None
    started_utc: str | None = None
    ended_utc: str | None = None
    exit_code: int | None = None  # negative: killed by that signal; None: not ended, or nobody saw it end
    ranks: dict[str, int] = field(default_factory=dict)  # rank → exit code, as the torchrun agent saw them


@dataclass(slots=True)
class Status:
    """`status.json`: how the run stands, replaced whole at every change."""

    v: int = 1
    state: State = State.STARTING
    supervisor: Identity | None = None
    started_utc: str | None = None
    ended_utc: str | None = None
    commands: list[CommandStatus] = field(default_factory=list)
    cancelled: str | None = None  # who asked, where the run was cancelled
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gate:
    """One judgement with what was measured, what was asked, and why it came out as it did."""

    name: str
    outcome: Outcome
    measured: str
    bound: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file that backs a verdict."""

    path: str  # relative to the workspace
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`verdict.json`: the judgement, written once."""

    v: int
    run_id: str
    outcome: Outcome
    gates: list[Gate]
    judged_utc: str
    summary: str  # one sentence with the figures that matter
    evidence: list[Evidence] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    question: dict[str, Any] | None = (
        None  # what the operator must decide: {"kind": "accept" | "link", "text", "diff"?}
    )


def worst(gates: list[Gate]) -> Outcome:
    """The verdict that gates give together; no gate at all proves nothing."""
    outcomes = {gate.outcome for gate in gates}
    return next((outcome for outcome in SEVERITY if outcome in outcomes), Outcome.INCONCLUSIVE)
