"""Plans: the steps of one request, and their progress. Only one plan at a time works on a workspace."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import is_locked, read_json, write_json, write_owners_json
from llmval_tui.foundation.masked_text import MASK, without_secrets
from llmval_tui.foundation.process import Identity, state_of
from llmval_tui.foundation.record import read_record
from llmval_tui.foundation.secret_names import secret_name
from llmval_tui.runs import client
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import plans_folder


@dataclass(frozen=True, slots=True)
class Rest:
    """Earlier steps of the plan that a step rests on, and what must happen to them."""

    numbers: list[str]
    condition: str  # an `actions.api.Condition`
    every: bool = False  # it must happen to all of them; else to one


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A requested step: its number at that time, and the key that finds it again."""

    number: str
    section: str
    text: str
    occurrence: int
    checked: bool = False  # at the time of the request
    expected: str = ""  # what was expected of it before the start, as the dry run shows it
    rests: list[Rest] = field(default_factory=list)
    server: str | None = None  # it starts a server at this address; "": the address was not known then
    stops: bool = False  # a failure of it ends the plan
    yardstick: bool = False  # after the servers have ended, our engine gets the same load


@dataclass(frozen=True, slots=True)
class PlanIntent:
    """`plan.json`: the request; never changed."""

    v: int
    plan_id: str
    checklist: str
    steps: list[PlannedStep]
    options: dict[str, Any]
    created_utc: str


OPTIONS = "options.secret.json"  # in the plan's folder; mode 0600

# Results of steps without a verdict.
BY_HAND, REFUSED, NOT_RUN, SKIPPED = "by hand", "refused", "not run", "skipped"


@dataclass(frozen=True, slots=True)
class StepResult:
    """The end of one step: `outcome` is an `Outcome`, `refused`, `by hand`, `not run` or `skipped`."""

    number: str
    outcome: str
    run_id: str | None = None
    message: str = ""
    ticked: bool = False


@dataclass(slots=True)
class PlanStatus:
    """`status.json` of a plan: its progress."""

    v: int = 1
    state: str = "starting"  # starting, running, cancelling, finished
    identity: Identity | None = None
    current: str | None = None  # number of the present step
    run_id: str | None = None  # its run
    results: list[StepResult] = field(default_factory=list)
    cancelled: bool = False
    message: str | None = None  # why the plan as a whole failed


def write_intent(folder: Path, intent: PlanIntent) -> None:
    """Write `plan.json`. If values of placeholders are secrets, `OPTIONS` has them instead, for the plan's process.

    Raises:
        Refused: a file cannot be written.
    """
    values = intent.options.get("values") or {}
    hidden = {name for name, value in values.items() if value and secret_name(name)}
    shown = {name: MASK if name in hidden else without_secrets(value) for name, value in values.items()}
    if shown != values:
        write_owners_json(folder / OPTIONS, intent.options)
        intent = replace(intent, options={**intent.options, "values": shown})
    write_json(folder / "plan.json", intent)


def recorded(status: PlanStatus) -> PlanStatus:
    """The progress as its record has it: without secrets. A message may quote an item or a line of its output."""
    results = [replace(one, message=without_secrets(one.message)) for one in status.results]
    message = without_secrets(status.message) if status.message is not None else None
    return replace(status, results=results, message=message)


class Plan:
    """One plan folder, `artifacts/plans/<id>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @property
    def intent(self) -> PlanIntent:
        """The request.

        Raises:
            Refused: the record is missing or damaged.
        """
        intent = read_record(PlanIntent, self.folder / "plan.json")
        if intent is None:
            raise Refused(f"{self.folder} has no plan.json: move the folder away.")
        return intent

    def options(self) -> dict[str, Any]:
        """The request's options; a value of a placeholder that is a secret is known until the plan ends.

        Raises:
            Refused: the record is missing or damaged.
        """
        kept = read_json(self.folder / OPTIONS)
        return kept if isinstance(kept, dict) else self.intent.options

    def forget_secrets(self) -> None:
        """Delete the values that are secrets, after the plan."""
        (self.folder / OPTIONS).unlink(missing_ok=True)

    def status(self) -> PlanStatus:
        """The progress; a new `PlanStatus` before the first.

        Raises:
            Refused: the record is damaged.
        """
        return read_record(PlanStatus, self.folder / "status.json") or PlanStatus()

    def problem(self) -> str | None:
        """Why a record of the plan cannot be read, or why its process does not go on; None if all is well."""
        try:
            _, status = self.intent, self.status()
        except Refused as refusal:
            return str(refusal)
        identity = status.identity
        if identity is not None and identity.alive() and state_of(identity.pid) in ("T", "t"):
            return f"its process is stopped: kill -CONT {identity.pid} lets it go on."
        return None

    @property
    def cancel_file(self) -> Path:
        """Written by whoever wants the plan to end: `{"by": …}`."""
        return self.folder / "cancel.json"

    @property
    def lock(self) -> Path:
        """The lock that the plan process holds as long as it is alive."""
        return self.folder / "lock"

    def alive(self) -> bool:
        return is_locked(self.lock)


def workspace_lock(workspace: Path) -> Path:
    """The lock that lets only one plan work on a workspace."""
    return workspace / "artifacts" / "plan.lock"


def plans(workspace: Path) -> list[Plan]:
    """All plans of a workspace, newest first."""
    folder = plans_folder(workspace)
    if not folder.is_dir():
        return []
    return [Plan(path.parent) for path in sorted(folder.glob("*/plan.json"), reverse=True)]


def active_plan(workspace: Path) -> Plan | None:
    """The plan that is working on the workspace now, or None."""
    if not is_locked(workspace_lock(workspace)):  # a workspace may have thousands of old plans
        return None
    # All plans are checked: after a clock was set back, the newest plan does not have the newest name.
    return next((plan for plan in plans(workspace) if plan.alive()), None)


def cancel_plan(plan: Plan, by: str) -> None:
    """Request the end of a plan and of its present run; repeated requests change nothing."""
    if not plan.cancel_file.exists():
        client.request_end(plan.cancel_file, by, plan.status().identity)


def exit_code_of(results: list[StepResult], cancelled: bool) -> ExitCode:
    """The exit code of a plan: interrupted, else the worst of failed, refused, undecided, passed.

    A step that was skipped for want of a tool is undecided: its demand was not shown.

    Steps by hand do not count, unless there is nothing else: then nothing was run. A step that was not run does not
    count either; the step that is the reason for it does.
    """
    if cancelled:
        return ExitCode.INTERRUPTED
    outcomes = {result.outcome for result in results}
    if Outcome.FAIL in outcomes:
        return ExitCode.FAILED
    if REFUSED in outcomes or outcomes == {BY_HAND}:
        return ExitCode.REFUSED
    if outcomes & {Outcome.INCONCLUSIVE, Outcome.INVALID, SKIPPED}:
        return ExitCode.UNDECIDED
    return ExitCode.PASSED
