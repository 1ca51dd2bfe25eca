"""What a dialog is about changes while it is open: a run ends, another process starts, ticks, answers or edits."""

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest

from llmval_tui.foundation.files import write_json
from llmval_tui.runs.records import Outcome, State
from llmval_tui.tui.data.watcher import SnapshotTaken
from llmval_tui.tui.screens.dialog import Choice, Choices, Content, Dialog, DialogTitle, looking_at
from llmval_tui.tui.screens.text_dialog import TextDialog
from tests.helpers.tui_builder import CHECKLIST, Workspace, verdict
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, ready, text_of, toasts_of, until

RUN = "20260102T030405Z-1.2-abcdef"
NEW_FIRST = CHECKLIST.replace("- [ ] Export", "- [ ] Look at the cables.\n- [ ] Export")
EXPORT = "Export NCCL env (`docs/nvlink_pcie_playbook.md`)."


def end_runs(workspace: Workspace) -> None:
    """End the processes of all runs."""
    while workspace.locks:
        os.close(workspace.locks.pop())


def choices(app: Any) -> str:
    return text_of(app.screen.query_one(Choices))


def title(app: Any) -> str:
    return text_of(app.screen.query_one(DialogTitle))


def save(workspace: Workspace, text: str) -> None:
    workspace.checklist.write_text(text, encoding="utf-8")


async def test_quit_notices_that_the_work_has_ended(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.2")
    app = dashboard()
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot)
        await until(pilot, lambda: app.main.state.snapshot.active)
        await pilot.press("q")
        await dialog_opens(pilot)
        assert "will go on" in body(app) and "stop it and quit" in choices(app)
        end_runs(workspace)
        await until(pilot, lambda: "Nothing is running here" in body(app))
        assert "stop it" not in choices(app) and "❯ y quit" in choices(app)
        commands.calls.clear()  # the ended run was settled
        await pilot.press("s", "l")  # no longer offered
        assert isinstance(app.screen, Dialog) and commands.calls == []
        await pilot.press("y")
        await until(pilot, lambda: not app.is_running)


async def test_quit_notices_that_work_has_begun(workspace: Workspace, dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "Nothing is running" in body(app))
        await pilot.press("right")
        assert "❯ n stay" in choices(app)
        workspace.run("1.2")
        await until(pilot, lambda: "1 run(s) are running and will go on" in body(app))
        assert "l leave it running" in choices(app) and "❯ n stay" in choices(app)


async def test_stopping_offers_only_what_still_runs(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    workspace.run("1.2")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        await until(pilot, lambda: app.main.state.run is not None)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "stop run of 1.2" in choices(app))
        end_runs(workspace)
        await until(pilot, lambda: "It has ended meanwhile" in body(app))
        assert "stop" not in choices(app) and "Nothing to stop" in title(app)
        commands.calls.clear()
        await pilot.press("y", "a", "enter")
        await until(pilot, lambda: app.screen is app.main)
        assert commands.calls == []


async def test_a_start_notices_that_another_plan_runs(
    dashboard: Make, commands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "y complete" in choices(app))
        snapshot = app.main.state.snapshot
        app.main.post_message(SnapshotTaken(replace(snapshot, plan="p7")))
        await until(pilot, lambda: "The plan p7 is running here" in body(app))
        await pilot.press("y")
        assert isinstance(app.screen, Dialog) and commands.calls == []
        app.main.post_message(SnapshotTaken(snapshot))
        await until(pilot, lambda: "y complete" in choices(app))


async def test_a_start_follows_a_list_that_is_renumbered(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "Complete 1.1?" in title(app))
        save(workspace, NEW_FIRST)
        await until(pilot, lambda: "Complete 1.2?" in title(app))
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls[0][1] == ["1.2"]


async def test_what_was_not_on_the_screen_does_not_start(workspace: Workspace, dashboard: Make, commands: Any) -> None:
    async with dashboard(interval=60.0).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "Complete 3 of 4 steps?" in title(app))
        save(workspace, NEW_FIRST)  # no snapshot is taken for a minute
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "has changed since" in body(app))
        assert commands.calls == [] and "Complete 4 of 5 steps?" in title(app)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls)
        assert commands.calls[0][1] == ["1.1", "1.2", "1.3", "2.1", "2.2"]


async def test_a_tick_by_hand_is_for_the_step_that_was_named(
    workspace: Workspace, dashboard: Make, commands: Any
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, TextDialog) and "Tick 1.1" in title(app))
        await pilot.press(*"seen")
        save(workspace, NEW_FIRST)
        await until(pilot, lambda: "Tick 1.2" in title(app))
        await pilot.press("enter")
        await until(pilot, lambda: commands.calls)
        assert commands.calls == [("tick", "1.2", "seen")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHECKLIST.replace(f"- [ ] {EXPORT}", f"- [x] {EXPORT}"), "1.1 was ticked meanwhile"),
        (CHECKLIST.replace("Export NCCL", "Export the NCCL"), "no longer in the list as it was"),
    ],
    ids=["ticked", "edited"],
)
@pytest.mark.parametrize("interval", [0.1, 60.0])
async def test_a_tick_by_hand_ends_with_its_step(
    workspace: Workspace, dashboard: Make, commands: Any, text: str, says: str, interval: float
) -> None:
    async with dashboard(interval=interval).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press(*"seen")
        save(workspace, text)
        if interval < 1:  # the dialog says so; else no snapshot has been taken yet
            await until(pilot, lambda: says in title(app))
            await pilot.press("enter")
            assert isinstance(app.screen, TextDialog) and "leave with Esc" in title(app)
            await pilot.press("escape")
        else:
            await pilot.press("enter")
            await until(pilot, lambda: says in toasts_of(app))
            assert "your note: seen" in toasts_of(app)
        await until(pilot, lambda: app.screen is app.main)
        assert commands.calls == []


@pytest.mark.parametrize("interval", [0.1, 60.0])
async def test_a_question_that_was_answered_is_no_longer_asked(
    workspace: Workspace, dashboard: Make, commands: Any, interval: float
) -> None:
    question = {"kind": "accept", "text": "Accept the new row?", "diff": "+| 14,960 |"}
    asking = verdict(Outcome.INCONCLUSIVE, question=question)
    folder = workspace.run("1.1", state=State.FINISHED, verdict=asking, run_id="20260102T030405Z-1.1-abcdef")
    async with dashboard(interval=interval).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "14,960" in body(app))
        write_json(folder / "verdict.json", replace(verdict(), run_id=folder.name))
        if interval < 1:
            await until(pilot, lambda: "answered meanwhile" in title(app))
            await pilot.press("y", "n")
        else:
            await pilot.press("y")
            await until(pilot, lambda: "nothing was accepted" in toasts_of(app))
        await until(pilot, lambda: app.screen is app.main)
        assert commands.calls == []


async def test_new_messages_come_into_the_open_list(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        app.main.toast("first")
        await pilot.press("M")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and "first" in body(app))
        app.main.toast("second")
        await until(pilot, lambda: "second" in body(app))


async def test_a_change_is_shown_only_while_the_dialog_has_its_widgets(dashboard: Make) -> None:
    answered = asyncio.Event()
    after = Content("after", lambda width: (), (Choice("y", "yes", "y"),))

    async def look() -> Content:
        await answered.wait()
        return after

    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        first = Dialog("before", lambda width: (), (Choice("y", "yes", "y"),), look=looking_at(lambda: after))
        app.push_screen(first)
        app.main.toast("something has changed")  # the dialog is there, its widgets are not
        assert app.screen is first and not first.query(Choices)
        await until(pilot, lambda: title(app).strip() == "after")
        first.dismiss(None)
        await until(pilot, lambda: app.screen is app.main)

        second = Dialog("before", lambda width: (), (Choice("y", "yes", "y"),), look=look)
        app.push_screen(second)
        await until(pilot, lambda: app.screen is second and title(app).strip() == "before")
        await second.query(Choices).remove()  # as the first of the widgets that a dialog loses
        second.dismiss("y")
        answered.set()
        await until(pilot, lambda: app.screen is app.main)
        assert second.content.title == "before", "what the operator decided on"


async def test_leaving_while_a_dialog_opens_is_no_error(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        app.push_screen(Dialog("half made", lambda width: (), (Choice("y", "yes", "y"),)))
        app.exit(0)
    assert app.return_code == 0
