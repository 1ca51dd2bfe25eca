"""The state of each step, for the dashboard and `llmval status`. Derived from checklist and runs, never stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from llmval_tui.actions.rests_on import IN_WORDS
from llmval_tui.actions.tick_basis import Key, TickBasis, tick_bases
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Outcome, RestsOn, State, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist


class StepState(StrEnum):
    """The state of a step; the dashboard shows it with a glyph. A ticked step says what its tick rests on."""

    OPEN = "open"
    MEASURED = "measured"  # ticked; a figure or content was judged
    EXIT_CODE = "exit code"  # ticked on the exit code alone
    BY_HAND = "by hand"  # ticked by a person with a note
    STALE = "stale"  # ticked; the evidence or the item changed since
    CONTRADICTED = "contradicted"  # ticked; a newer run failed
    TICKED = "ticked"  # ticked, without a record of llmval
    RUNNING = "running"
    JUDGING = "judging"  # ended, not judged yet
    PASSED = "passed"  # passed, not ticked
    FAILED = "failed"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"  # before anything was started
    ASKING = "asking"  # waits for the operator's answer
    UNREADABLE = "unreadable"  # a record of its newest run is damaged, or this user may not read its tick's evidence


# The states of a tick with a record, from the best to the worst.
TICK_STATES = (
    StepState.MEASURED, StepState.EXIT_CODE, StepState.BY_HAND, StepState.UNREADABLE, StepState.STALE,
    StepState.CONTRADICTED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step, its state, its newest run, and what its tick rests on."""

    step: Step
    state: StepState
    run: Run | None = None
    verdict: Verdict | None = None
    basis: TickBasis | None = None  # what the tick rests on; None: not ticked, or no record
    problem: str | None = None  # why a record of the run cannot be read
    refused: str | None = None  # not ticked: why the newest attempt was refused before anything was started

    def as_json(self) -> dict[str, Any]:
        """What every JSON of steps has of this one."""
        return {
            "number": self.step.number,
            "section": self.step.section,
            "text": self.step.text,
            "checked": self.step.checked,
            "state": self.state.value,
            "basis": self.basis,
            "run_id": self.run.id if self.run else None,
            "problem": self.problem,
            "refused": self.refused,
        }


_BY_OUTCOME = {
    Outcome.PASS: StepState.PASSED,
    Outcome.FAIL: StepState.FAILED,
    Outcome.INVALID: StepState.INVALID,
    Outcome.INCONCLUSIVE: StepState.INCONCLUSIVE,
}
_BY_BASIS = {
    RestsOn.MEASURED: StepState.MEASURED,
    RestsOn.EXIT_CODE: StepState.EXIT_CODE,
    RestsOn.BY_HAND: StepState.BY_HAND,
}


def step_statuses(
    checklist: Checklist,
    store: RunStore,
    runs: Mapping[Key, Sequence[Run]] | None = None,
    refused: Mapping[Key, str] | None = None,
) -> list[StepStatus]:
    """The state of every step, in the list's order.

    Args:
        runs: what `runs_by_step` returned, if the caller needs it, too.
        refused: why the newest attempt at an item left no run (`plans.refusals`).
    """
    runs = runs_by_step(checklist, store) if runs is None else runs
    bases = tick_bases(checklist, store, runs)
    found = []
    for step in checklist.steps:
        status = _status(step, next(iter(runs.get(step.key, ())), None), bases.get(step.key))
        reason = (refused or {}).get(step.key)
        if reason is not None and not step.checked:
            state = StepState.REFUSED if status.state is StepState.OPEN else status.state
            status = replace(status, state=state, refused=reason)
        found.append(status)
    return found


def runs_by_step(checklist: Checklist, store: RunStore, runs: Sequence[Run] | None = None) -> dict[Key, list[Run]]:
    """The runs of this checklist by step, each newest first.

    Args:
        runs: what `store.runs()` returned, if the caller needs it, too.
    """
    name = recorded_path(checklist.path, store.workspace)
    found: dict[Key, list[Run]] = {}
    for run in store.runs() if runs is None else runs:
        ref = run.intent.step
        if same_checklist(ref.checklist, name):
            found.setdefault(checklist.key_of(ref.key), []).append(run)
    return found


def unreadable_records(statuses: Sequence[StepStatus], store: RunStore) -> list[str]:
    """One sentence for each damaged record that `step_statuses` met."""
    return list(dict.fromkeys([item.problem for item in statuses if item.problem] + store.unreadable))


def tick_counts(statuses: Sequence[StepStatus]) -> str:
    """How many items are ticked, and what the ticks rest on: `3 of 5 items are ticked: 2 measured, 1 by hand.`"""
    ticked = [item.state for item in statuses if item.step.checked]
    words = {**{state: str(state) for state in TICK_STATES}, StepState.TICKED: "without a record"}
    words[StepState.EXIT_CODE] = IN_WORDS[RestsOn.EXIT_CODE]
    counted = [f"{ticked.count(state)} {word}" for state, word in words.items() if state in ticked]
    other = sum(state not in words for state in ticked)
    counted += [f"{other} running again"] if other else []
    return f"{len(ticked)} of {len(statuses)} items are ticked" + (f": {', '.join(counted)}." if counted else ".")


def _status(step: Step, run: Run | None, basis: TickBasis | None) -> StepStatus:
    ticked = _ticked_state(basis)
    if run is None:
        return StepStatus(step, ticked if step.checked else StepState.OPEN, basis=basis)
    try:
        verdict = run.verdict()
        refused = run.refused() if verdict is not None and verdict.outcome is Outcome.INCONCLUSIVE else None
        ended = verdict is not None or run.state() in (State.FINISHED, State.LOST)
    except Refused as refusal:
        state = ticked if step.checked else StepState.UNREADABLE
        return StepStatus(step, state, run, basis=basis, problem=str(refusal))
    if verdict is None:
        return StepStatus(step, StepState.JUDGING if ended else StepState.RUNNING, run, basis=basis)
    if step.checked:
        return StepStatus(step, ticked, run, verdict, basis)
    if verdict.question is not None:
        return StepStatus(step, StepState.ASKING, run, verdict)
    state = _BY_OUTCOME[verdict.outcome] if refused is None else StepState.REFUSED
    return StepStatus(step, state, run, verdict, refused=refused)


def _ticked_state(basis: TickBasis | None) -> StepState:
    if basis is None:
        return StepState.TICKED
    if basis.contradicted:
        return StepState.CONTRADICTED
    if basis.stale:
        return StepState.STALE
    return StepState.UNREADABLE if basis.unreadable else _BY_BASIS[basis.rests_on]
