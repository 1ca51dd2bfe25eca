"""A disk that takes nothing, and a run that stands still, are named on the screen, in header and Run pane."""

from pathlib import Path

from llmval_tui.runs import hindrances
from llmval_tui.runs.hindrances import Hindrance
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import WIDE, Make, ready, text_of, until


async def test_a_full_disk_is_named_in_header_and_pane(workspace: Workspace, dashboard: Make, monkeypatch) -> None:
    def full(workspace: Path) -> Hindrance:
        return Hindrance("disk full", f"the disk of {workspace} is full.")

    monkeypatch.setattr(hindrances, "disk_problem", full)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await until(pilot, lambda: "disk full" in text_of(app.main.header))
        assert "held up" in text_of(app.main.panes["run"]) and "is full." in text_of(app.main.panes["run"])
