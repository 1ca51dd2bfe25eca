"""The column of a short list while the chosen step runs: its GPUs, its figures, and charts in the rest."""

from dataclasses import replace
from functools import partial

import pytest

from llmval_tui.telemetry.sample import Sample
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.widgets.work_blocks import gpu_rows, metric_name
from tests.helpers.tui_builder import Workspace, event, load_events, sample
from tests.helpers.tui_pilot import Make, ready, text_of, until

SIZES = [(120, 35), (160, 50), (200, 60)]


def odd(second: float, gpus: int, index: int) -> Sample:
    """A sample in which all GPUs draw 500 W and one draws 430 W."""
    found = sample(second, gpus)
    gpus_ = [replace(gpu, power_w=430.0 if gpu.index == index else 500.0) for gpu in found.gpus]
    return replace(found, gpus=gpus_)


def shows(app: object, *words: str) -> bool:
    text = text_of(app.main.steps)  # type: ignore[attr-defined]
    return all(word in text for word in words)


def most_blank_together(text: str) -> int:
    """The longest run of blank rows."""
    longest = found = 0
    for line in text.split("\n"):
        found = 0 if line.strip() else found + 1
        longest = max(longest, found)
    return longest


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gpus", [1, 4, 8])
async def test_no_row_stays_blank_beside_a_run(
    workspace: Workspace, dashboard: Make, size: tuple[int, int], gpus: int
) -> None:
    workspace.checklist.write_text(workspace.checklist.read_text().split("## 2.")[0])
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    async with dashboard().run_test(size=size) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        app.main.post_message(SamplesTaken("live", [odd(second, gpus, 0) for second in range(61)]))
        await until(pilot, lambda: app.main.state.live.last is not None and app.main.state.run is not None)
        for key in ("1", "3", "4", "6"):
            await pilot.press(key)
            app.main.steps.repaint()
            await until(pilot, partial(shows, app, "GPUs in measure"), "the GPUs")
            text = text_of(app.main.steps)
            assert len(text.split("\n")) == app.main.steps.size.height
            assert most_blank_together(text) <= 3, (key, text)
            assert max(map(cell_len, text.split("\n"))) <= app.main.steps.size.width


async def test_the_column_is_the_same_beside_every_pane(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    async with dashboard().run_test(size=(200, 60)) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        app.main.post_message(SamplesTaken("live", [sample(second, 4) for second in range(61)]))
        await until(pilot, lambda: app.main.state.live.last is not None and app.main.state.run is not None)
        await pilot.press("1")
        await until(pilot, partial(shows, app, "Figures of the run", "GPUs MHz", "GPUs °C"), "the blocks")
        assert not shows(app, "GPUs util %") and not shows(app, "GPUs power W")
        column = text_of(app.main.steps)
        for key in ("2", "3", "4", "5", "6", "7"):
            await pilot.press(key)
            app.main.steps.repaint()
            assert text_of(app.main.steps) == column, key


async def test_the_odd_gpu_of_many_has_its_row_and_word(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60))
    async with dashboard().run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        app.main.post_message(SamplesTaken("live", [odd(second, 64, 41) for second in range(61)]))
        await until(pilot, lambda: app.main.state.live.last is not None and app.main.state.run is not None)
        app.main.steps.repaint()
        await until(pilot, partial(shows, app, "furthest"), "the GPU")
        (line,) = [line for line in text_of(app.main.steps).splitlines() if "furthest" in line]
        assert line.split()[0] == "41" and "-14.0 %" in line and "430" in line
        rows = gpu_rows(app.main.state, 60, 50, app.main.steps.glyphs)
        assert len(rows) == 3 + 15 + 1, "most of them are alike, and the figures need the room"
        rows = gpu_rows(app.main.state, 60, 8, app.main.steps.glyphs)
        assert len(rows) <= 8 and "60 others within 0.0 % of the median" in rows[-1].plain
        for height in range(20):
            assert len(gpu_rows(app.main.state, 60, height, app.main.steps.glyphs)) <= height


async def test_a_phase_without_a_sample_shows_the_run(workspace: Workspace, dashboard: Make) -> None:
    late = event("phase", {"name": "report"}, 900)
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(60) + late)
    async with dashboard().run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        await pilot.press("j")
        app.main.post_message(SamplesTaken("live", [odd(second, 4, 2) for second in range(61)]))
        await until(pilot, lambda: app.main.state.live.last is not None and app.main.state.run is not None)
        app.main.steps.repaint()
        await until(pilot, partial(shows, app, "GPUs over the run", "-14.0 % furthest"), "the GPUs")
        assert not shows(app, "GPUs in report")


def test_names_of_metrics_are_the_fields_own() -> None:
    assert metric_name("ttft_sched_p99_ms") == "TTFT sched p99, ms"
    assert metric_name("output_tokens_per_s") == "output, tokens/s"
    assert metric_name("kv_used_percent") == "KV used, %"
    assert metric_name("running") == "running"


@pytest.mark.parametrize("size", [(80, 24), *SIZES])
@pytest.mark.parametrize("gpus", [0, 4])
@pytest.mark.parametrize("lines", [0, 2])
async def test_the_pane_of_a_run_that_has_just_begun_has_no_blank_rows(
    workspace: Workspace, dashboard: Make, size: tuple[int, int], gpus: int, lines: int
) -> None:
    (workspace.run("1.2") / "logs" / "main.rank0.stdout.log").write_text("a line\n" * lines)
    async with dashboard().run_test(size=size) as pilot:
        app = await ready(pilot)
        await pilot.press("j", "1")
        app.main.post_message(SamplesTaken("live", [sample(second, gpus) for second in range(61)]))
        await until(pilot, lambda: app.main.state.live.last is not None and app.main.state.run is not None)
        pane = app.main.panes["run"]
        pane.repaint()
        await until(pilot, lambda: "running" in text_of(pane), "the run")
        blank = [not line.strip() for line in text_of(pane).split("\n")][::-1]
        assert len(blank) == pane.size.height and not all(blank[: 3 + 1]), text_of(pane)
