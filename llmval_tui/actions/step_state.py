"""How each step stands, for the dashboard and `llmval status` alike: derived from checklist and runs, never stored."""

from dataclasses import dataclass
from enum import StrEnum

from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.files import read_lines
from llmval_tui.runs.records import Outcome, State, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist


class StepState(StrEnum):
    """One word a step; the dashboard shows it with a glyph."""

    OPEN = "open"
    DONE = "done"  # ticked, and a passing run or an operator's note backs it
    TICKED = "ticked"  # ticked, but nothing that llmval recorded backs it
    RUNNING = "running"
    JUDGING = "judging"  # ended, not yet judged
    PASSED = "passed"  # passed, not ticked
    FAILED = "failed"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    ASKING = "asking"  # waits for the operator's decision


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step, its word, and the run that the word comes from."""

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
    """Whether this verdict may tick its item: a pass, asked to tick, and no trial preset outside a demo.

    Whether it was a demo is as frozen in the run: a workspace that is marked as one later ticks nothing of before.
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
    for run in store.runs():  # newest first: the first one seen for a step is its newest
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
    """`recorded`: the ledger has a tick of this step, by a run or by the operator."""
    ticked = StepState.DONE if recorded else StepState.TICKED
    if run is None:
        return StepStatus(step, ticked if step.checked else StepState.OPEN)
    verdict = run.verdict()
    if verdict is None:
        waiting = run.state() in (State.FINISHED, State.LOST)
        return StepStatus(step, StepState.JUDGING if waiting else StepState.RUNNING, run)
    if step.checked:
        # Between the tick and its line in the ledger the run alone backs it.
        return StepStatus(step, StepState.DONE if ticks(run, verdict) else ticked, run, verdict)
    if verdict.question is not None:
        return StepStatus(step, StepState.ASKING, run, verdict)
    return StepStatus(step, _BY_OUTCOME[verdict.outcome], run, verdict)
