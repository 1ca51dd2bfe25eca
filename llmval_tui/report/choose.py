"""Which runs a report is about."""

from collections.abc import Sequence

from llmval_tui.actions.section_runs import newest_of_each_step
from llmval_tui.checklist.model import Checklist, StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_list


def runs_for(store: RunStore, names: Sequence[str], checklist: Checklist | None) -> list[Run]:
    """The named runs in the order given, or the newest run of each step in the checklist's order.

    A step's number names its newest run. Runs whose step is no longer in the checklist come last, and so do those of
    another checklist.

    Raises:
        Refused: a name fits none or several runs, or there are no runs at all.
    """
    if names:
        return list({run.id: run for run in (_named(store, name, checklist) for name in names)}.values())
    found = newest_of_each_step(store.runs())
    if not found:
        raise Refused(f"there is no run in {store.root} to report on: start one with llmval run.")
    keys = [step.key for step in checklist.steps] if checklist is not None else []
    places: dict[StepKey | None, int] = {key: place for place, key in enumerate(keys)}

    def place(run: Run) -> tuple[int, tuple[int, str]]:
        ref = run.intent.step
        of_list = checklist is None or same_list(ref.checklist, recorded_path(checklist.path, store.workspace))
        key = StepKey(ref.section, ref.text, ref.occurrence) if of_list else None
        return places.get(key, len(places)), run.order

    return sorted(found, key=place)


def _named(store: RunStore, name: str, checklist: Checklist | None) -> Run:
    step = next((step for step in checklist.steps if step.number == name), None) if checklist is not None else None
    if checklist is None:  # the numbers are those of when the runs were made
        runs = [run for run in store.runs() if run.intent.step.number == name]
    elif step is not None:
        runs = store.of_step(*step.key, checklist=recorded_path(checklist.path, store.workspace))
        if not runs:  # and not the run of 11.2, of whose id 1.2 is a part
            raise Refused(f"step {name} has no run to report on: start one with llmval run {name}.")
    else:
        runs = []
    return runs[0] if runs else store.get(name)
