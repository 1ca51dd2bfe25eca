"""The chosen step stays in its place while the list is edited under it."""

from llmval_tui.actions.step_state import step_statuses
from llmval_tui.checklist.model import load
from llmval_tui.runs.store import RunStore
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.snapshot import Snapshot
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.tui_builder import Workspace

LIST = "# L\n\n## 1. Part\n- [x] first\n- [ ] second\n- [ ] third\n"


def snapshot_of(workspace: Workspace, text: str) -> Snapshot:
    workspace.checklist.write_text(text)
    checklist = load(workspace.checklist)
    return Snapshot(checklist, steps=tuple(step_statuses(checklist, RunStore(workspace.root))))


def test_the_cursor_stays_in_its_place_if_its_step_is_edited(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist))

    def chosen(text: str) -> str:
        state.update(snapshot_of(workspace, text))
        assert state.step is not None
        return state.step.text

    assert chosen(LIST) == "second"  # at the start, the first open one
    state.key = state.snapshot.steps[2].step.key
    assert chosen(LIST.replace("third", "third, better")) == "third, better"
    assert chosen("# L\n\n## 1. Part\n- [x] first\n- [ ] second\n") == "second"  # its place is gone
    assert chosen(LIST.replace("second", "new").replace("third", "newer")) == "new"
