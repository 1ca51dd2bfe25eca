"""Environment variables that a run is given, beside those that are there: what changes, and what is never changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from llmval_tui.actions.section_runs import section_runs
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import Run, RunStore

ENV_EXPORT = "env_export"  # the action that exports an environment
# NVLink multicast stays off unless the operator's own shell has it on: the value that keeps it off, by variable.
MULTICAST_OFF = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}


@dataclass(frozen=True, slots=True)
class Change:
    """One variable: what it is now, what was asked for, and whether that is applied."""

    name: str
    old: str | None  # None: not set
    new: str
    applied: bool
    note: str = ""

    @property
    def line(self) -> str:
        """One line for the operator: `NCCL_P2P_LEVEL: (not set) → NVL`."""
        old = "(not set)" if self.old is None else self.old
        if not self.applied:
            return f"{self.name}: stays {old}; {self.note}"
        if self.old == self.new:
            return f"{self.name}: {self.new} already"
        return f"{self.name}: {old} → {self.new}" + (f"; {self.note}" if self.note else "")


def changes(wanted: Mapping[str, str], environment: Mapping[str, str]) -> list[Change]:
    """What giving `wanted` to a run changes against `environment`, name by name in the order asked.

    A value that would turn NVLink multicast (NVLS) on is not applied. Any other value that contradicts one already set
    is applied to the run, and the change says so.
    """
    return [_change(name, value, environment.get(name)) for name, value in wanted.items()]


def _change(name: str, value: str, old: str | None) -> Change:
    off = MULTICAST_OFF.get(name)
    if off is not None and value != off and value != old:
        return Change(name, old, value, False, f"{value} would turn NVLink multicast on, which llmval never does")
    note = f"the environment says {old}, the run gets {value}" if old is not None and old != value else ""
    return Change(name, old, value, True, note)


def applied(found: list[Change]) -> dict[str, str]:
    """The variables that a run is given."""
    return {change.name: change.new for change in found if change.applied}


def newest_export(store: RunStore, checklist: Checklist, section: str) -> Run | None:
    """The section's newest export of an environment, where it did not fail (no GPU to look at is no failure).

    No older one stands in for it: that may be of another document, or of a topology that is no longer there.
    """
    run = _newest(store, checklist, section)
    return run if run is not None and _holds(run) else None


def withheld_export(store: RunStore, checklist: Checklist, section: str) -> str | None:
    """Why the section's commands get no variables though an export was run; None where they do, or none was."""
    run = _newest(store, checklist, section)
    if run is None or _holds(run):
        return None
    verdict = run.verdict()
    word = f"was judged {verdict.outcome}" if verdict else "is not judged yet"
    return f"without the section's environment: its newest export, run {run.id}, {word}"


def _newest(store: RunStore, checklist: Checklist, section: str) -> Run | None:
    return next(iter(section_runs(store, checklist, section, {ENV_EXPORT})), None)


def _holds(run: Run) -> bool:
    verdict = run.verdict()
    return verdict is not None and verdict.outcome in (Outcome.PASS, Outcome.INCONCLUSIVE)


def section_environment(store: RunStore, checklist: Checklist, step: Step) -> dict[str, str]:
    """The variables that the section's newest environment export gives to the commands of `step`; empty without one."""
    if checklist.find(step.key) is None:
        raise Refused(f"step {step.number} is not in {checklist.path.name} any more: reload the checklist.")
    run = newest_export(store, checklist, step.section)
    return dict(run.intent.params["variables"]) if run is not None else {}
