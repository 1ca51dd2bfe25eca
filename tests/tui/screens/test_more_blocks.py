"""The column of a short list on a wide screen: its room has gates, phases, other results and messages."""

from functools import partial

import pytest

from llmval_tui.runs.records import Outcome, State
from llmval_tui.terminal.cell_width import cell_len
from tests.helpers.tui_builder import Workspace, event, load_events, verdict
from tests.helpers.tui_pilot import Make, ready, text_of, until


def shows(app: object, *words: str) -> bool:
    text = text_of(app.main.steps)  # type: ignore[attr-defined]
    return all(word in text for word in words)


@pytest.mark.parametrize("size", [(160, 50), (200, 60)])
async def test_an_ended_run_has_its_gates_and_phases_there(
    workspace: Workspace, dashboard: Make, size: tuple[int, int]
) -> None:
    folder = workspace.run("1.2", state=State.FINISHED, verdict=verdict(Outcome.FAIL))
    phases = [event("phase", {"name": name}, second) for name, second in (("load", 10), ("measure", 40))]
    (folder / "events.jsonl").write_bytes(b"".join(phases))
    workspace.run("1.1", run_id="20260101T000000Z-1.1-aaaaaa", state=State.FINISHED, verdict=verdict())
    async with dashboard().run_test(size=size) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        await until(pilot, partial(shows, app, "Newest results", "Gates", "Phases"), "the blocks")
        lines = text_of(app.main.steps).splitlines()
        assert max(map(cell_len, lines)) <= app.main.steps.size.width
        gates = next(i for i, line in enumerate(lines) if line.startswith(" Gates"))
        assert "2 of 3 passed" in lines[gates] and "✗ TTFT p99" in lines[gates + 1] and "1,240 ms" in lines[gates + 1]
        assert [line.split()[:2] for line in lines if line.startswith((" load ", " measure "))] == [
            ["load", "0:30"],
            ["measure", "4:26"],
        ]
        results = next(i for i, line in enumerate(lines) if line.startswith(" Newest results"))
        assert "✓ 1.1" in lines[results + 1]
        await pilot.click("#steps", offset=(4, results + 1))
        await until(pilot, lambda: app.main.state.step is not None and app.main.state.step.number == "1.1")


async def test_messages_are_there_for_whoever_comes_back(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(20))
    async with dashboard().run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        await until(pilot, partial(shows, app, "Phases", "so far"), "the phases")
        for number in range(3):
            app.main.toast(f"something {number}")
        app.main.steps.repaint()  # as with the next snapshot: a message itself changes the row of the keys only
        await until(pilot, partial(shows, app, "Messages", "something 2"), "the messages")
        text = text_of(app.main.steps)
        assert text.index("something 2") < text.index("something 0"), "the newest is first"


async def test_a_list_that_needs_the_room_has_none_of_them(workspace: Workspace, dashboard: Make) -> None:
    workspace.checklist.write_text("# L\n\n## A\n" + "".join(f"- [ ] Step {i}\n" for i in range(80)))
    async with dashboard().run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        app.main.toast("something")
        app.main.steps.repaint()
        assert not shows(app, "Messages")
