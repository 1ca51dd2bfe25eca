"""Groups: items whose box follows the items below them."""

from dataclasses import asdict
from pathlib import Path

from llmval_tui.actions.hand_tick import TODO
from llmval_tui.actions.rests_on import IN_WORDS
from llmval_tui.actions.step_state import runs_by_step
from llmval_tui.actions.tick_basis import TickBasis, tick_bases
from llmval_tui.checklist.ledger import Entry, record
from llmval_tui.checklist.model import Checklist, Step, load
from llmval_tui.checklist.write_mark import set_mark
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, locked
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.inventory import host_inventory
from llmval_tui.runs.records import RestsOn
from llmval_tui.runs.store import RunStore, recorded_path
from llmval_tui.runs.tick_ledger import TickLine

_WEAKEST_FIRST = (RestsOn.BY_HAND, RestsOn.EXIT_CODE, RestsOn.MEASURED)


def is_group(checklist: Checklist, step: Step) -> bool:
    """Whether the item has nothing to run of its own and its box follows the items below it."""
    from llmval_tui.actions.reading.read import read_item  # takes a tenth of a second, and most lists have no group

    return read_item(step, checklist.section_of(step), checklist).is_group


def children_of(checklist: Checklist, step: Step) -> list[Step]:
    """The items directly below an item."""
    return [one for one in checklist.section_of(step).steps if one.parent == step.number]


def run_instead(checklist: Checklist, step: Step) -> list[Step]:
    """The steps that run if somebody asks for this one: itself, or the unticked items below a group, at any depth."""
    if not is_group(checklist, step):
        return [step]
    children = [one for child in children_of(checklist, step) for one in run_instead(checklist, child)]
    return [one for one in children if not one.checked]


def tick_groups(path: Path, store: RunStore) -> list[Step]:
    """Tick the open groups of a list whose children are all ticked with a record; returns them, the innermost first.

    A child that somebody ticked in an editor, whose evidence changed, or whose newer run failed keeps its group open.
    A box is never unticked. The record comes first, so that a killed process leaves an open box and the next call
    ticks it.

    Raises:
        Refused: the list or a ledger cannot be read or written.
    """
    ticked: list[Step] = []
    if not any(step.parent for step in load(path).steps):
        return ticked
    with locked(store.root / "groups.lock"):
        # From the end: a group comes before its children, and an inner group is a child of the outer one.
        for open_step in reversed([step for step in load(path).steps if not step.checked]):
            checklist = load(path)
            step = checklist.find(open_step.key)
            children = children_of(checklist, step) if step is not None else []
            if step is None or not children or not is_group(checklist, step):
                continue
            bases = tick_bases(checklist, store, runs_by_step(checklist, store))
            found = [bases.get(child.key) for child in children]
            sound = [
                basis
                for basis in found
                if basis is not None and not (basis.stale or basis.unreadable or basis.contradicted_by)
            ]
            if len(sound) == len(children):
                _record(checklist, step, list(zip(children, sound, strict=True)), store)
                ticked.append(set_mark(path, step.key, True))
    return ticked


def tick_all_groups(store: RunStore) -> list[str]:
    """`tick_groups` for every list with a tick in the ledger; returns a sentence for each failure."""
    problems = []
    for name in sorted({line.checklist for line in store.ticks.lines() if line.checklist}):
        try:
            tick_groups(store.workspace / name, store)
        except Refused as refusal:
            problems.append(f"the groups of {name} were not ticked: {refusal}")
    return problems


def _record(checklist: Checklist, step: Step, rests_on: list[tuple[Step, TickBasis]], store: RunStore) -> None:
    weakest = min((basis.rests_on for _, basis in rests_on), key=_WEAKEST_FIRST.index)
    note = "rests on " + ", ".join(f"{child.number} ({IN_WORDS[basis.rests_on]})" for child, basis in rests_on)
    named = step.recorded_key
    line = TickLine(
        section=named.section,
        text=named.text,
        occurrence=named.occurrence,
        checklist=recorded_path(checklist.path, store.workspace),
        number=step.number,
        utc=utc_iso(),
        host=str(host_inventory()["name"]),
        note=note,
        rests_on=weakest,
        item_fingerprint=step.fingerprint,
    )
    entry = Entry(
        number=step.number,
        section=named.section,
        text=named.text,
        outcome="pass",
        utc=line.utc,
        host=line.host,
        run_id="",
        notes=(note,),
        occurrence=named.occurrence,
        written_key=step.key,
        rests_on=IN_WORDS[weakest],
    )
    record(store.workspace / TODO, entry, store.workspace)
    children = [
        {"number": child.number, "text": child.recorded_key.text, "run_id": basis.run_id, "rests_on": basis.rests_on}
        for child, basis in rests_on
    ]
    append_line(store.ledger, {"v": 1, **asdict(line), "children": children})
