"""The environment variables of a run: its section's exported ones, and their changes to the shell's environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from llmval_tui.actions.section_runs import ENV_EXPORT, section_runs
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import Run, RunStore

# By variable, the value that keeps NVLink multicast off. It stays off unless the operator's own shell turns it on.
MULTICAST_OFF = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}


@dataclass(frozen=True, slots=True)
class Change:
    """One variable: its present value, the requested value, and whether that is applied."""

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
            return f"{self.name}: already {self.new}"
        return f"{self.name}: {old} → {self.new}" + (f"; {self.note}" if self.note else "")


def changes(wanted: Mapping[str, str], environment: Mapping[str, str]) -> list[Change]:
    """The changes that `wanted` makes to `environment`, in the same order.

    A value that would turn NVLink multicast (NVLS) on is not applied. Any other value is applied; if it differs from a
    value already set, the note says so.
    """
    return [_change(name, value, environment.get(name)) for name, value in wanted.items()]


def _change(name: str, value: str, old: str | None) -> Change:
    off = MULTICAST_OFF.get(name)
    if off is not None and value != off and value != old:
        return Change(name, old, value, False, f"{value} would turn NVLink multicast on, which llmval never does")
    note = f"the shell has {old}, the run gets {value}" if old is not None and old != value else ""
    return Change(name, old, value, True, note)


def applied(found: list[Change]) -> dict[str, str]:
    """The variables that the run gets."""
    return {change.name: change.new for change in found if change.applied}


def newest_export(store: RunStore, checklist: Checklist, section: str) -> Run | None:
    """The section's newest export of an environment, unless it failed (no GPU is inconclusive, not failed).

    No older export replaces it: that may belong to another document, or to another topology.
    """
    run = _newest(store, checklist, section)
    return run if run is not None and _is_usable(run) else None


def withheld_export(store: RunStore, checklist: Checklist, section: str) -> str | None:
    """The reason why the section's commands get no variables although an export ran; None if they do, or none ran."""
    run = _newest(store, checklist, section)
    if run is None or _is_usable(run):
        return None
    verdict = run.verdict()
    state = f"was judged {verdict.outcome}" if verdict else "is not judged yet"
    return f"without the section's environment: its newest export, run {run.id}, {state}"


def _newest(store: RunStore, checklist: Checklist, section: str) -> Run | None:
    return next(iter(section_runs(store, checklist, section, {ENV_EXPORT})), None)


def _is_usable(run: Run) -> bool:
    verdict = run.verdict()
    return verdict is not None and verdict.outcome in (Outcome.PASS, Outcome.INCONCLUSIVE)


def section_environment(store: RunStore, checklist: Checklist, step: Step) -> dict[str, str]:
    """The variables of the section's newest environment export; {} if there is none."""
    if checklist.find(step.key) is None:
        raise Refused(f"step {step.number} is no longer in {checklist.path.name}: reload the checklist.")
    run = newest_export(store, checklist, step.section)
    return dict(run.intent.params["variables"]) if run is not None else {}
