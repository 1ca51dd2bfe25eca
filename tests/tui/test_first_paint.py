"""The work before the first paint, and the work after it. Child processes are used, because modules stay imported."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.workspace_view import InitialSnapshot
from llmval_tui.tui.data.workspace_view import Workspace as Looker
from llmval_tui.tui.keys import PANES
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import WIDE, Make, text_of, until

CHILD = Path(__file__).parent / "children" / "first_paint.py"

# None of it is small, and none is needed for a list.
LATER = (
    "markdown_it", "importlib.metadata", "psutil", "pynvml", "fastjsonschema", "filelock",
    "llmval_tui.actions.registry", "llmval_tui.actions.api", "llmval_tui.tui.data.run_follower",
    "llmval_tui.telemetry.sample",
    "llmval_tui.tui.screens.dialog", "llmval_tui.tui.screens.command_dialogs", "llmval_tui.tui.panes.telemetry",
    "llmval_tui.tui.panes.log", "llmval_tui.tui.data.log_reader",
)  # fmt: skip


def start(workspace: Workspace, cache: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(CHILD), str(workspace.root), str(workspace.checklist)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "TERM": "xterm-256color"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_first_picture_has_the_list_and_few_imports(workspace: Workspace, tmp_path: Path) -> None:
    start(workspace, tmp_path / "cache")  # which keeps what it found in the list
    has_list, *modules = start(workspace, tmp_path / "cache")
    assert has_list == "True"
    assert "textual.app" in modules
    assert [name for name in LATER if name in modules] == []


@pytest.mark.parametrize("key", ["2", "3", "6"])
async def test_a_key_makes_a_pane_that_does_not_exist_yet(dashboard: Make, monkeypatch, key: str) -> None:
    monkeypatch.setattr("llmval_tui.tui.screens.main.PAINTED_S", 60)
    monkeypatch.setattr("llmval_tui.tui.screens.main.LATEST_S", 60)
    app = dashboard()
    async with app.run_test(size=WIDE) as pilot:
        main = app.main
        await until(pilot, lambda: main.state.snapshot.steps, "the list")
        assert set(main.panes) == {"run"}
        await pilot.press(key, "j")
        await pilot.pause()
        pane = main.panes[main.shown]
        assert main.focused is pane and pane.display and not main.panes["run"].display
        await until(pilot, lambda: main.state.detail, "what the step is")
        await until(pilot, lambda: text_of(pane).strip(), "the pane")


async def test_all_panes_appear_even_if_the_disk_does_not_answer(dashboard: Make, monkeypatch) -> None:
    monkeypatch.setattr("llmval_tui.tui.screens.main.LATEST_S", 0.1)
    answers = threading.Event()
    snapshot = Looker.snapshot
    monkeypatch.setattr(Looker, "snapshot", lambda self, selection: answers.wait(60) and snapshot(self, selection))
    app = dashboard()
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: len(app.main.panes) == len(PANES), "the other panes")
        assert app.main.state.snapshot.checklist is None
        answers.set()
        await until(pilot, lambda: app.main.state.detail, "the list after all")


async def test_a_failed_initial_snapshot_is_reported_by_the_next_one(
    workspace, commands, dashboard: Make, monkeypatch
) -> None:
    app = dashboard()
    looker = app.main.workspace
    monkeypatch.setattr(looker, "_step_states", lambda view: 1 / 0)
    first = InitialSnapshot(looker)
    first.start()
    first.join()
    assert first.snapshot is None
    app = Dashboard(app.settings, commands, initial=first, live=False)
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "ZeroDivisionError" in (app.main.state.snapshot.problem or ""), "what is wrong")
