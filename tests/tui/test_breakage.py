"""Files that change, break or vanish under the dashboard."""

from pathlib import Path

from tests.helpers.tui_builder import CHECKLIST, Workspace
from tests.helpers.tui_pilot import WIDE, Make, ready, text_of, until


async def test_an_edit_a_breakage_and_a_return_of_the_checklist(workspace: Workspace, dashboard: Make) -> None:
    path: Path = workspace.checklist
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        path.write_text(CHECKLIST.replace("- [ ] Export", "- [x] Export"))
        await until(pilot, lambda: "2/5 ticked" in text_of(app.main.list_title), "the edit")
        path.unlink()
        await until(pilot, lambda: "list not current" in text_of(app.main.header), "the loss")
        assert "1.1" in text_of(app.main.steps)
        path.write_text("no items here\n")
        await until(pilot, lambda: app.main.state.snapshot.problem and "1.1" in text_of(app.main.steps))
        path.write_text("# New\n- [ ] Only this.\n")
        await until(pilot, lambda: "Only this." in text_of(app.main.steps), "the new list")
        assert app.main.state.step is not None and app.main.state.step.text == "Only this."


async def test_a_run_folder_that_vanishes(workspace: Workspace, dashboard: Make) -> None:
    import shutil

    folder = workspace.run("1.2")
    (folder / "logs" / "main.stdout.log").write_text("x\n")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "2")
        await until(pilot, lambda: app.main.state.run is not None)
        shutil.rmtree(folder)
        await until(pilot, lambda: app.main.state.detail is not None and app.main.state.run is None, "the loss")
        await until(pilot, lambda: "no run yet" in text_of(app.main.log_pane))


async def test_a_ledger_that_cannot_be_read_is_named_beside_the_list(workspace: Workspace, dashboard: Make) -> None:
    ledger = workspace.root / "artifacts" / "runs" / "ledger.jsonl"
    ledger.mkdir(parents=True)  # cannot be read as a file, by root either
    app = dashboard()
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: "1.1" in text_of(app.main.steps), "the list")
        assert "ledger.jsonl" in "".join(text_of(app.main.panes["run"]).split())
        ledger.rmdir()
        await until(pilot, lambda: "ledger.jsonl" not in "".join(text_of(app.main.panes["run"]).split()), "the end")
