"""Items that were refused before they had a run: `status`, the report and the dashboard must not call them open."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions.step_state import StepState
from llmval_tui.checklist.model import load
from llmval_tui.foundation.files import write_json
from llmval_tui.plans.records import PlanIntent, PlannedStep, PlanStatus, StepResult
from llmval_tui.plans.refusals import Refusals, item_statuses
from llmval_tui.report.blocks import Table
from llmval_tui.report.facts import gather
from llmval_tui.report.junit import junit
from llmval_tui.report.summary import summary_blocks
from llmval_tui.runs.store import RunStore, plans_folder
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.snapshot import Selection
from llmval_tui.tui.data.workspace_view import NEW_PLANS, propose
from llmval_tui.tui.data.workspace_view import Workspace as View
from llmval_tui.tui.drawing.step_words import need_of, waiting
from llmval_tui.tui.settings import LaunchSettings
from tests.console.conftest import Workspace

LIST = (
    "# List\n\n## 1 Part\n\n- [ ] Check `no-such-server --port 1`\n- [ ] Fill in the form\n- [x] Done `no-such-tool`\n"
)
WHY = "no-such-server is not installed or not on PATH: install it, or give its path."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "list.md").write_text(LIST)
    return tmp_path


def write_plan(folder: Path, name: str, results: list[StepResult], *, checklist: str = "list.md") -> None:
    steps = [PlannedStep(step.number, *step.key) for step in load(folder / "list.md").steps]
    plan = plans_folder(folder) / name
    plan.mkdir(parents=True)
    write_json(plan / "plan.json", PlanIntent(1, name, checklist, steps, {}, "2026-11-30T00:00:00Z"))
    write_json(plan / "status.json", PlanStatus(state="finished", results=results))


def refusals(folder: Path) -> dict[str, str]:
    found = item_statuses(load(folder / "list.md"), RunStore(folder))
    return {item.step.number: item.refused for item in found if item.refused is not None}


def test_the_newest_plan_with_a_result_decides(folder: Path) -> None:
    assert refusals(folder) == {}
    write_plan(folder, "20261130T000001Z-a", [StepResult("1.1", "refused", None, "old"), StepResult("1.3", "refused")])
    assert refusals(folder) == {"1.1": "old"}, "a ticked item is not refused"
    write_plan(folder, "20261130T000002Z-b", [StepResult("1.1", "refused", None, "new")])
    write_plan(folder, "20261130T000003Z-c", [StepResult("1.2", "by hand", None, "no command")])
    write_plan(folder, "20261130T000004Z-d", [StepResult("1.2", "refused", None, "other")], checklist="other.md")
    assert refusals(folder) == {"1.1": "new"}
    write_plan(folder, "20261130T000005Z-e", [StepResult("1.1", "not run", None, "it rests on 1.2")])
    assert refusals(folder) == {}


def test_a_damaged_plan_hides_no_other(folder: Path) -> None:
    write_plan(folder, "20261130T000001Z-a", [StepResult("1.1", "refused", None, "why")])
    write_plan(folder, "20261130T000002Z-b", [])
    (plans_folder(folder) / "20261130T000002Z-b" / "status.json").write_text("{")
    (plans_folder(folder) / "20261130T000003Z-c").mkdir()
    assert refusals(folder) == {"1.1": "why"}


def test_a_dashboard_reads_a_few_plans_at_a_time(folder: Path) -> None:
    write_plan(folder, "20261130T000000Z-0", [StepResult("1.1", "refused", None, "why")])
    for number in range(1, 2 * NEW_PLANS):
        write_plan(folder, f"20261130T{number:06}Z-1", [StepResult("1.2", "by hand")])
    checklist, store, known = load(folder / "list.md"), RunStore(folder), Refusals(folder)
    assert known.of(checklist, store, {}, new_plans=NEW_PLANS) == {}
    assert list(known.of(checklist, store, {}, new_plans=NEW_PLANS).values()) == ["why"]


def test_what_status_suggests_names_the_list(workspace: Workspace) -> None:
    (workspace.folder / "node.md").write_text(
        "# L\n\n## 1 A\n\n- [ ] Check: `ls /no-such-folder`\n- [x] Old: `nproc`\n"
    )
    workspace.llmval("run", "--all", "--checklist", "node.md", check=1)
    shown = workspace.llmval("status", "--checklist", "node.md", check=0).stdout
    assert f"llmval watch --checklist {workspace.folder / 'node.md'} STEP prints every gate" in shown
    shown = workspace.llmval("verify", "--checklist", "node.md").stdout
    assert "run it, or say why with llmval tick 1.2 --note TEXT" in shown


def test_status_report_and_dashboard_say_that_an_item_was_refused_and_why(workspace: Workspace) -> None:
    workspace.checklist.write_text(LIST)
    workspace.llmval("run", "--all", "--skip-unreviewed", check=2)
    shown = workspace.llmval("status", check=0).stdout
    assert "1.1   ⊘ refused  Check" in shown and f"1.1  refused: {WHY}" in shown
    assert "1.2   ○ open" in shown and "llmval watch" not in shown  # it has no run to print
    items = json.loads(workspace.llmval("status", "--json", check=0).stdout)["steps"]
    assert [(item["state"], item["refused"]) for item in items] == [("refused", WHY), ("open", None), ("ticked", None)]

    facts = gather(workspace.store, [], load(workspace.checklist))
    assert f"refused: {WHY}" in junit(facts)
    (table,) = (block for block in summary_blocks(facts) if isinstance(block, Table))
    assert [row[3] for row in table.rows] == [f"not ticked: refused, {WHY}", "", ""]

    settings = LaunchSettings(workspace.folder, workspace.checklist)
    view = View(settings, propose)
    state = ScreenState(settings)
    state.snapshot = view.snapshot(Selection())
    (needs,) = [one for one in waiting(state.snapshot.steps) if one.state is StepState.REFUSED]
    assert need_of(needs) == WHY
