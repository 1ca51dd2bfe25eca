"""Two checklists with the same items in one workspace: runs of one do not affect the other."""

import pytest

from llmval_tui.actions.section_runs import COMMAND_ACTIONS, newest_of_each_step, section_runs
from llmval_tui.actions.settle import settle
from llmval_tui.actions.step_state import StepState, step_statuses
from llmval_tui.checklist.model import load
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, read_json, write_json
from llmval_tui.report.facts import runs_for
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore

LIST = "# L\n\n## 1. Part\n- [ ] first\n- [ ] second\n"


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def lists(workspace):
    return [load(workspace.write(f"docs/{name}.md", LIST)) for name in ("node", "rack")]


def run_of(workspace, checklist, outcome=Outcome.PASS, number="1.1"):
    context = workspace.context(LIST, number, name=f"docs/{checklist.path.name}")
    return workspace.run(context, outcome=outcome)


def forget_list(run):
    """Remove the name of the checklist from the record of the run."""
    value = read_json(run.folder / "run.json")
    del value["step"]["checklist"]
    write_json(run.folder / "run.json", value)


def states(workspace, checklist):
    return [item.state for item in step_statuses(load(checklist.path), RunStore(workspace.folder))]


def test_the_states_of_one_list_are_not_the_others(workspace, lists) -> None:
    node, rack = lists
    run_of(workspace, node, Outcome.PASS)
    run_of(workspace, rack, Outcome.FAIL)
    assert states(workspace, node) == [StepState.PASSED, StepState.OPEN]
    assert states(workspace, rack) == [StepState.FAILED, StepState.OPEN]


def test_a_recorded_tick_backs_only_its_own_list(workspace, lists) -> None:
    node, rack = lists
    settle(run_of(workspace, node), workspace.store)
    rack.path.write_text(LIST.replace("[ ]", "[x]", 1))  # in an editor
    assert states(workspace, node)[0] is StepState.MEASURED
    assert states(workspace, rack)[0] is StepState.TICKED


def test_runs_of_a_step_and_of_a_section_are_those_of_the_list(workspace, lists) -> None:
    node, rack = lists
    mine, others = run_of(workspace, node), run_of(workspace, rack)
    key = node.steps[0].key
    for checklist, run in ((node, mine), (rack, others)):
        name = f"docs/{checklist.path.name}"
        assert [found.id for found in workspace.store.of_step([key], checklist=name)] == [run.id]
        found = section_runs(workspace.store, checklist, "1. Part", COMMAND_ACTIONS)
        assert [run.id for run in found] == [run.id]


def test_a_report_has_the_newest_run_of_each_list(workspace, lists) -> None:
    node, rack = lists
    run_of(workspace, node)
    newest = [run_of(workspace, rack), run_of(workspace, node, number="1.2"), run_of(workspace, node)]
    chosen = runs_for(workspace.store, (), node)
    assert [run.id for run in chosen] == [newest[2].id, newest[1].id, newest[0].id]


def test_a_record_without_a_list_counts_for_every_list_and_ticks_none(workspace, lists) -> None:
    node, rack = lists
    old = run_of(workspace, node)
    forget_list(old)
    store = RunStore(workspace.folder)
    assert [run.id for run in store.runs()] == [old.id]
    assert store.unreadable == []
    assert states(workspace, node)[0] is states(workspace, rack)[0] is StepState.PASSED
    with pytest.raises(Refused, match="does not name its checklist"):
        settle(store.get(old.id), store)
    newer = run_of(workspace, rack, Outcome.FAIL)
    assert [run.id for run in newest_of_each_step(RunStore(workspace.folder).runs())] == [newer.id]


def test_an_old_line_of_the_ledger_counts_for_every_list(workspace, lists) -> None:
    node, _ = lists
    node.path.write_text(LIST.replace("[ ]", "[x]", 1))
    workspace.store.root.mkdir(parents=True)
    append_line(workspace.store.ledger, {"v": 1, "section": "1. Part", "text": "first", "occurrence": 1})
    assert states(workspace, node)[0] is StepState.EXIT_CODE
