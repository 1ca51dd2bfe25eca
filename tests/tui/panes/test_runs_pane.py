"""The runs of a step: figures over time, filters, two of them side by side."""

from dataclasses import replace

from llmval_tui.runs.records import Outcome, State
from tests.helpers.tui_builder import Workspace, verdict
from tests.helpers.tui_pilot import Make, body, dialog_opens, ready, text_of, until

VALUES = (26.7, 26.8, 24.9, 26.75)


async def test_runs_are_listed_marked_and_compared(workspace: Workspace, dashboard: Make) -> None:
    for day, value in enumerate(VALUES, 1):
        outcome = Outcome.FAIL if value < 25 else Outcome.PASS
        judged = replace(verdict(outcome), metrics={"completed_qps": value, "tpot_p50_ms": 7.9})
        workspace.run("1.2", run_id=f"2026010{day}T000000Z-1.2-aaaaa{day}", state=State.FINISHED, verdict=judged)
    async with dashboard().run_test(size=(160, 40)) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "7")
        pane = app.main.runs_pane
        await until(pilot, lambda: "4: 3 pass, 1 fail" in text_of(pane))
        shown = text_of(pane)
        assert "26.7 to 26.8 QPS, ▼ 24.9" in shown and "3/3" in shown and "aaaaa4" in shown
        assert "▼" in next(line for line in shown.splitlines() if line.startswith(" completed"))
        await pilot.press("j")
        await until(pilot, lambda: "✗ 27.9 QPS" in text_of(pane), "the reason of the run under the cursor")
        await pilot.press("space", "space", "d")
        await dialog_opens(pilot)
        assert "+7.6 %" not in body(app) and "-7.1 %" in body(app) and "TTFT p99" in body(app)
        assert "fail: 1,240 ms" in body(app) and "2 with the same outcome" in body(app)
        await pilot.press("escape", "full_stop", "full_stop")
        assert "only fail" in text_of(pane) and "✓ pass" not in text_of(pane)
        await pilot.press("full_stop", "s", "s")
        lines = [line for line in text_of(pane).splitlines() if "pass" in line or "fail" in line]
        assert "24.9" in lines[1], "the worst first"
        await pilot.press("g", "enter")
        await until(pilot, lambda: app.main.shown == "run" and app.main.state.back == 1)


async def test_a_step_without_a_run(dashboard: Make) -> None:
    async with dashboard().run_test(size=(80, 24)) as pilot:
        app = await ready(pilot)
        await pilot.press("7", "d", "space", "enter")
        await until(pilot, lambda: "no run yet" in text_of(app.main.runs_pane))
