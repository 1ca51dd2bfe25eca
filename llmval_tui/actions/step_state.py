"""The state of each step, for the dashboard and `llmval status`. Derived from checklist and runs, never stored."""

from dataclasses import dataclass
from enum import StrEnum

from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.files import read_lines
from llmval_tui.runs.records import Outcome, State, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist


class StepState(StrEnum):
    """The state of a step; the dashboard shows it with a glyph."""

    OPEN = "open"
    DONE = "done"  # ticked, with a passing run or an operator's note on record
    TICKED = "ticked"  # ticked, without a record of llmval
    RUNNING = "running"
    JUDGING = "judging"  # ended, not judged yet
    PASSED = "passed"  # passed, not ticked
    FAILED = "failed"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    ASKING = "asking"  # waits for the operator's answer


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step, its state, and the run that decides the state."""

    step: Step
    state: StepState
    run: Run | None = None
    verdict: Verdict | None = None


_BY_OUTCOME = {
    Outcome.PASS: StepState.PASSED,
    Outcome.FAIL: StepState.FAILED,
    Outcome.INVALID: StepState.INVALID,
    Outcome.INCONCLUSIVE: StepState.INCONCLUSIVE,
}


def ticks(run: Run, verdict: Verdict) -> bool:
    """Whether this verdict may tick its item: it passed, ticking is on, and it is no smoke run outside a demo.

    The run itself records whether it was a demo, so marking a workspace as a demo later does not affect older runs.
    """
    intent = run.intent
    return (
        verdict.outcome is Outcome.PASS
        and intent.tick
        and (intent.preset != "smoke" or bool(intent.params.get("demo")))
    )


def step_statuses(checklist: Checklist, store: RunStore) -> list[StepStatus]:
    """The state of every step, in the list's order."""
    name = recorded_path(checklist.path, store.workspace)
    newest: dict[tuple[str, str, int], Run] = {}
    for run in store.runs():  # newest first: the first run of a step is its newest
        ref = run.intent.step
        if same_checklist(ref.checklist, name):
            newest.setdefault((ref.section, ref.text, ref.occurrence), run)
    recorded = {
        (line.get("section"), line.get("text"), line.get("occurrence"))
        for line in read_lines(store.ledger)
        if same_checklist(line.get("checklist"), name)
    }
    return [_status(step, newest.get(step.key), step.key in recorded) for step in checklist.steps]


def _status(step: Step, run: Run | None, recorded: bool) -> StepStatus:
    """`recorded`: the ledger contains a tick of this step, by a run or by the operator."""
    ticked = StepState.DONE if recorded else StepState.TICKED
    if run is None:
        return StepStatus(step, ticked if step.checked else StepState.OPEN)
    verdict = run.verdict()
    if verdict is None:
        waiting = run.state() in (State.FINISHED, State.LOST)
        return StepStatus(step, StepState.JUDGING if waiting else StepState.RUNNING, run)
    if step.checked:
        # Between the tick and its line in the ledger, only the run proves it.
        return StepStatus(step, StepState.DONE if ticks(run, verdict) else ticked, run, verdict)
    if verdict.question is not None:
        return StepStatus(step, StepState.ASKING, run, verdict)
    return StepStatus(step, _BY_OUTCOME[verdict.outcome], run, verdict)
