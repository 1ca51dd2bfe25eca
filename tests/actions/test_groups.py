"""Groups: their boxes follow the items below them."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions import groups
from llmval_tui.actions.groups import run_instead, tick_all_groups, tick_groups
from llmval_tui.actions.hand_tick import tick_by_hand
from llmval_tui.actions.step_state import StepState, step_statuses
from llmval_tui.checklist.ledger import entries
from llmval_tui.checklist.model import load
from llmval_tui.checklist.write_mark import set_mark
from llmval_tui.runs.store import RunStore

LIST = """# List

## 1. Part
- [ ] Check the links:
  - [ ] Look at the first cable.
  - [ ] The cables of the second rack:
    - [ ] Look at the left one.
    - [ ] Look at the right one.
- [ ] Something else.
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "list.md"
    file.write_text(LIST)
    return file


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def by_hand(path: Path, store: RunStore, *numbers: str) -> list[str]:
    """Tick these items by hand; returns the groups that are ticked then."""
    found = []
    for number in numbers:
        tick_by_hand(path, load(path).step(number).key, "looked at it", store)
        found += [step.number for step in tick_groups(path, store)]
    return found


def test_a_group_is_ticked_with_its_last_child(path: Path, store: RunStore) -> None:
    steps = {step.text: step.number for step in load(path).steps}
    outer, inner = steps["Check the links:"], steps["The cables of the second rack:"]
    first, left, right = (steps[f"Look at the {name}."] for name in ("first cable", "left one", "right one"))
    assert by_hand(path, store, first, left) == []
    before = path.read_bytes()
    assert by_hand(path, store, right) == [inner, outer]
    after = path.read_bytes()
    assert len(after) == len(before) and sum(a != b for a, b in zip(before, after, strict=True)) == 3
    assert [step.number for step in load(path).steps if not step.checked] == [steps["Something else."]]
    lines = {line["number"]: line for line in map(json.loads, store.ledger.read_text().splitlines())}
    assert lines[outer]["note"] == f"rests on {first} (by hand), {inner} (by hand)"
    assert [child["number"] for child in lines[outer]["children"]] == [first, inner]
    states = {status.step.number: status.state for status in step_statuses(load(path), store)}
    assert states[outer] is StepState.BY_HAND
    assert outer in {entry.number for entry in entries(path.parent / "docs/TODO.md")}
    assert tick_groups(path, store) == []


def test_a_child_that_was_ticked_in_an_editor_keeps_its_group_open(path: Path, store: RunStore) -> None:
    steps = load(path).steps
    for step in steps[1:5]:
        if not groups.children_of(load(path), step):
            set_mark(path, step.key, True)
    store.root.mkdir(parents=True)
    assert tick_groups(path, store) == []
    assert not load(path).steps[0].checked


def test_a_group_is_never_unticked(path: Path, store: RunStore) -> None:
    set_mark(path, load(path).steps[0].key, True)
    store.root.mkdir(parents=True)
    assert tick_groups(path, store) == []
    assert load(path).steps[0].checked


def test_a_group_that_a_killed_process_left_open_is_ticked_by_the_next(path: Path, store: RunStore) -> None:
    steps = load(path).steps
    leaves = [step for step in steps[:5] if not groups.children_of(load(path), step)]
    for step in leaves:
        tick_by_hand(path, step.key, "looked at it", store)  # and killed before the groups
    assert tick_all_groups(store) == []
    assert load(path).steps[0].checked


def test_a_group_stands_for_the_open_items_below_it(path: Path, store: RunStore) -> None:
    checklist = load(path)
    assert [step.text for step in run_instead(checklist, checklist.steps[0])] == [
        "Look at the first cable.",
        "Look at the left one.",
        "Look at the right one.",
    ]
    set_mark(path, checklist.steps[3].key, True)
    again = load(path)
    assert [step.text for step in run_instead(again, again.steps[2])] == ["Look at the right one."]
    assert run_instead(again, again.steps[5]) == [again.steps[5]]
