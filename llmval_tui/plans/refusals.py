"""Items that were refused before a run began. A refusal leaves no run folder: only the records of its plan have it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmval_tui.actions.step_state import StepStatus, runs_by_step, step_statuses
from llmval_tui.actions.tick_basis import Key
from llmval_tui.checklist.model import Checklist
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import MASK
from llmval_tui.plans.records import REFUSED, Plan
from llmval_tui.runs.store import Run, RunStore, plans_folder, recorded_path, same_checklist

# What a plan did with its items: their checklist, for each item why it was refused, or None, and whether a key of them
# has a mask in place of a secret, so that the list must say whose it is.
_Results = tuple[str, Mapping[Key, str | None], bool]


class Refusals:
    """Finds the refusals of a workspace. A plan that has finished is read only once."""

    def __init__(self, workspace: Path) -> None:
        self._folder = plans_folder(workspace)
        self._finished: dict[str, _Results] = {}

    def of(
        self, checklist: Checklist, store: RunStore, runs: Mapping[Key, Sequence[Run]], *, new_plans: int | None = None
    ) -> dict[Key, str]:
        """Why the newest attempt at an open item was refused before it had a run, by the key of the item.

        Args:
            runs: the runs of each item, newest first.
            new_plans: how many finished plans this call may read; None is all. The next call goes on with the rest.
        """
        name = recorded_path(checklist.path, store.workspace)
        wanted: set[Key] = {step.key for step in checklist.steps if not step.checked}
        found: dict[Key, str] = {}
        try:
            names = sorted(os.listdir(self._folder), reverse=True)  # noqa: PTH208  (quicker; there may be thousands)
        except OSError:
            return found
        for plan_id in names:
            if not wanted:
                break
            results = self._finished.get(plan_id)
            if results is None:
                if new_plans == 0:
                    break  # an older plan must not answer for a newer one
                new_plans = None if new_plans is None else new_plans - 1
                results = self._read(plan_id)
            if not same_checklist(results[0], name):
                continue
            reasons = results[1]
            if results[2]:
                reasons = {checklist.key_of(key): reason for key, reason in reasons.items()}
            for key in wanted & reasons.keys():
                wanted.remove(key)
                newest = next(iter(runs.get(key, ())), None)
                reason = reasons[key]
                # The ids of plans begin with their time. A killed plan may have left a run without a result.
                if reason is not None and (newest is None or (newest.intent.plan_id or "") < plan_id):
                    found[key] = reason
        return found

    def _read(self, plan_id: str) -> _Results:
        plan = Plan(self._folder / plan_id)
        try:
            status, intent = plan.status(), plan.intent
        except Refused:  # `llmval attach` names a damaged plan
            return self._finished.setdefault(plan_id, ("", {}, False))
        keys = {step.number: (step.section, step.text, step.occurrence) for step in intent.steps}
        results = {
            keys[one.number]: one.message if one.outcome == REFUSED and one.run_id is None else None
            for one in status.results
            if one.number in keys
        }
        found = (intent.checklist, results, any(MASK in key[0] or MASK in key[1] for key in results))
        if status.state == "finished":
            self._finished[plan_id] = found
        return found


def item_statuses(
    checklist: Checklist,
    store: RunStore,
    runs: Mapping[Key, Sequence[Run]] | None = None,
    refusals: Refusals | None = None,
    *,
    new_plans: int | None = None,
) -> list[StepStatus]:
    """The state of every item, in the list's order: what its runs say, and what plans refused before there was a run.

    Args:
        runs: what `runs_by_step` returned, if the caller needs it, too.
        refusals: kept by a caller that asks again and again.
        new_plans: see `Refusals.of`.
    """
    runs = runs_by_step(checklist, store) if runs is None else runs
    refused = (refusals or Refusals(store.workspace)).of(checklist, store, runs, new_plans=new_plans)
    return step_statuses(checklist, store, runs, refused)
