"""The rows of the Telemetry pane at every size: all of the height is used, no figure is cut, problems are named."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.bounds import Bound
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import GpuSample, Process, Sample
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, dots_across
from llmval_tui.terminal.glyphs import ASCII, UNICODE, glyphs
from llmval_tui.tui.data.run_follower import RunFollower
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.panes.telemetry import GpuOrder, run_words, telemetry_rows
from llmval_tui.tui.settings import LaunchSettings
from llmval_tui.tui.widgets.charts import ChartView
from llmval_tui.tui.widgets.gpu_charts import GpuView
from llmval_tui.tui.widgets.process_table import ORDERS, ProcessChoice
from tests.helpers.tui_builder import T0, Workspace, load_events, sample
from tests.helpers.tui_pilot import Make, ready, text_of, toasts_of, until

BRAILLE = glyphs(False, "braille")


def hot(second: float, gpus: int = 8) -> Sample:
    """A node with figures as wide as they come: over 1,000 W, three digits of GB/s each way, a GPU with an XID."""
    found = sample(second, gpus)
    wide = [
        replace(gpu, power_w=1012.0, power_limit_w=1400.0, nvlink_tx_gb_per_s=512.0, nvlink_rx_gb_per_s=229.0)
        for gpu in found.gpus
    ]
    if gpus > 3:
        wide[3] = replace(wide[3], xid=79, throttle_reasons=["hw_thermal_slowdown", "sw_power_cap"])
    return replace(found, gpus=wide)


def state_of(workspace: Workspace, samples: Sequence[Sample], now: float = 9.0) -> ScreenState:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + now)
    state.telemetry.extend(samples)
    return state


def shown(state: ScreenState, width: int, height: int, charts: Any = BRAILLE, **more: Any) -> list[str]:
    return [row.plain for row in telemetry_rows(state, width, height, charts, **more)]


@pytest.mark.parametrize("charts", [BRAILLE, UNICODE, ASCII])
@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize(("width", "height"), [(79, 21), (67, 32), (93, 47), (198, 57), (56, 12)])
def test_no_row_is_too_wide_and_none_is_left_blank(
    workspace: Workspace, charts: Any, gpus: int, width: int, height: int
) -> None:
    rows = shown(state_of(workspace, [hot(second, gpus) for second in range(10)]), width, height, charts)
    assert all(cell_len(row) <= width for row in rows), max(rows, key=cell_len)
    assert all(row.startswith(" ") for row in rows)
    assert rows[-1].strip()
    if gpus == 8:
        assert len(rows) >= height - 8  # every chart is as high as it may be


@pytest.mark.parametrize("gpus", [1, 4, 8])
def test_every_gpu_has_charts_of_one_range_with_their_names_below(workspace: Workspace, gpus: int) -> None:
    rows = shown(state_of(workspace, [hot(second, gpus) for second in range(10)]), 198, 57)
    titles = [row for row in rows if row.startswith(" GPU ") and "W" in row]
    text = "\n".join(rows)
    assert all(f"GPU {index}" in text for index in range(gpus)) and len(titles) == -(-gpus // 2)
    assert "util %" in text and "power W" in text and "NVLink in GB/s" in text
    assert sum(row.count(" 1,500 ") for row in rows) >= gpus  # the range of power, the same for every GPU


def test_problems_are_named_beside_their_gpu(workspace: Workspace) -> None:
    rows = shown(state_of(workspace, [hot(second) for second in range(10)]), 93, 47)
    (ill,) = (row for row in rows if row.startswith(" GPU 3"))
    assert "XID 79, throttled: thermal" in ill


@pytest.mark.parametrize("width", [66, 93])
def test_a_long_reason_displaces_no_figure_that_shows_how_odd_a_gpu_is(workspace: Workspace, width: int) -> None:
    slowed = ["hw_thermal_slowdown", "sw_thermal_slowdown", "hw_slowdown"]
    samples = []
    for second in range(10):
        one = sample(second)
        gpus = [replace(g, power_w=400.0, temperature_c=50.0, sm_util_percent=48.0) for g in one.gpus]
        gpus[5] = replace(gpus[5], power_w=244.0, temperature_c=85.0, throttle_reasons=slowed)
        samples.append(replace(one, gpus=gpus))
    rows = shown(state_of(workspace, samples), width, 47)
    (ill,) = (row for row in rows if row.startswith(" GPU 5"))
    assert ("throttled: thermal " if width > 66 else " thermal ") in ill
    assert all(figure in ill for figure in ("48 %", "244/700 W", "85 °C", "-39.0 %", "139.8 GiB"))
    titles = [row for row in rows if row.startswith(" GPU ") and " GiB" in row]
    assert len(titles) == 8 and len({row.index(" GiB") for row in titles}) == 1, "the same columns"
    assert len({row.count("MHz") + row.count("NVLink") for row in titles}) == 1


def one_slowed(gpus: int = 8) -> list[Sample]:
    """Healthy GPUs, but GPU 5 is slowed for heat."""
    found = []
    for second in range(10):
        one = sample(second, gpus)
        same = [
            replace(g, power_w=400.0, temperature_c=50.0, throttle_reasons=[], processes=[g.index]) for g in one.gpus
        ]
        same[5] = replace(
            same[5], power_w=244.0, temperature_c=85.0, sm_clock_mhz=1245.0, throttle_reasons=["hw_thermal_slowdown"]
        )
        found.append(replace(one, gpus=same))
    return found


def test_where_only_a_table_fits_the_odd_gpu_has_its_clock_and_its_charts(workspace: Workspace) -> None:
    rows = telemetry_rows(state_of(workspace, one_slowed()), 79, 24, BRAILLE)
    table = next(row for row in rows if row.plain.startswith("  5!"))
    assert ("1,245", "warn") in [(text.strip(), role) for text, role in table.spans]
    assert ("85 °C", "warn") in [(text.strip(), role) for text, role in table.spans]
    assert any("GPU 5 power W" in row.plain and "GPU 5 temp °C" in row.plain for row in rows)
    healthy = [sample(second, 8) for second in range(2)]
    healthy = [replace(s, gpus=[replace(g, power_w=400.0, throttle_reasons=[]) for g in s.gpus]) for s in healthy]
    assert not any("power W" in row for row in shown(state_of(workspace, healthy), 79, 24))


def test_the_process_of_the_odd_gpu_comes_first(workspace: Workspace) -> None:
    rows = shown(state_of(workspace, one_slowed()), 140, 60)
    start = next(index for index, row in enumerate(rows) if row.startswith(" Processes"))
    assert rows[start + 2].split()[0] == "5" and rows[start + 3].split()[0] == "0"


def test_telemetry_says_whether_the_run_is_good(workspace: Workspace) -> None:
    folder = workspace.run("1.2")
    (folder / "events.jsonl").write_bytes(load_events(60))
    run = replace(RunFollower(Run(folder)).snapshot(), bounds={"ttft_p99_ms": Bound("<=", 2000.0, "SLO")})
    said = "".join(text for text, _ in run_words(run, BRAILLE))
    assert "1.2" in said and "QPS, asked 28" in said and "✓ TTFT p99" in said


def test_gpus_that_do_not_fit_are_a_table_whose_signs_are_explained(workspace: Workspace) -> None:
    rows = shown(state_of(workspace, [hot(second) for second in range(10)]), 79, 21)
    start = next(index for index, row in enumerate(rows) if row.startswith(" GPU   util")) + 1
    assert [int(row[:4].strip(" !")) for row in rows[start : start + 8]] == list(range(8))
    assert any(row.startswith("  3!") for row in rows)
    assert any("! XID 79: GPU 3" in row for row in rows)


def test_many_gpus_scroll_and_the_furthest_from_the_median_comes_first(workspace: Workspace) -> None:
    odd = [sample(second, 16) for second in range(10)]
    slow = [replace(one, gpus=[replace(g, power_w=200.0 if g.index == 11 else 400.0) for g in one.gpus]) for one in odd]
    state, order = state_of(workspace, slow), GpuOrder()
    rows = shown(state, 93, 47, order=order)
    assert len(rows) > 47
    titles = [row for row in rows if row.startswith(" GPU ")]
    assert titles[0].startswith(" GPU 11") and "-50.0 %" in titles[0] and "order: from the median" in rows[0]
    order.next(16)
    assert next(row for row in shown(state, 93, 47, order=order) if row.startswith(" GPU ")).startswith(" GPU 0")


def test_an_order_that_follows_the_figures_stands_still_for_a_while() -> None:
    def node(odd: int) -> list[GpuSample]:
        return [GpuSample(index, power_w=200.0 if index == odd else 400.0, memory_used_bytes=1) for index in range(16)]

    order = GpuOrder()
    assert order.sorted(node(5), 0.0)[0].gpu.index == 5
    assert order.sorted(node(9), 30.0)[0].gpu.index == 5
    assert order.sorted(node(9), 61.0)[0].gpu.index == 9


def test_an_idle_gpu_is_not_throttled_and_its_processes_are_counted(workspace: Workspace) -> None:
    found = sample(9.0)
    gpus = list(found.gpus)
    gpus[0] = replace(gpus[0], throttle_reasons=["gpu_idle"], processes=[])
    gpus[1] = replace(gpus[1], tensor_util_percent=34.0, dram_util_percent=29.0, processes=[11, 12])
    gpus[2] = replace(gpus[2], processes=[11], foreign_processes=[4242])
    rows = shown(state_of(workspace, [replace(found, gpus=gpus)]), 140, 60)
    idle, busy, strange = (next(row for row in rows if row.startswith(f" GPU {index}")) for index in range(3))
    assert "throttled" not in idle and "  idle" in idle and "no process" in idle
    assert "tensor 34 %" in busy and "DRAM 29 %" in busy and "2 processes" in busy
    assert "not of this run: pid 4242" in strange


def with_processes(processes: list[Process] | None, pids: Sequence[int] | None = None) -> list[Sample]:
    first, last = sample(8.0, 2), sample(9.0, 2)
    known = [replace(gpu, processes=list(pids) if pids is not None else None) for gpu in last.gpus]
    return [replace(first, gpus=known, processes=processes), replace(last, gpus=known)]


TABLE = [
    Process(0, 100, 70 << 30, False, "run-1", 0, "ubuntu", "running", 101.0, 2 << 30, 88, 125.0, "python load.py"),
    Process(1, 200, None, True, user="eve", command="python train.py --lr 1"),
]


def test_the_processes_have_an_owner_and_foreign_ones_are_on_top_and_red(workspace: Workspace) -> None:
    state = state_of(workspace, with_processes(TABLE, [100, 200]))
    rows = telemetry_rows(state, 198, 57, BRAILLE)
    title = next(row for row in rows if row.plain.startswith(" Processes"))
    assert "1 of a run, 1 of others" in title.plain and title.spans[-1][1] == "bad"
    (strange,), (own,) = ([row for row in rows if word in row.plain] for word in ("eve", "ubuntu"))
    assert rows.index(strange) < rows.index(own)
    assert "✗ other" in strange.plain and "eve" in strange.plain and "n/a" in strange.plain
    assert {role for text, role in strange.spans if "other" in text or "200" in text} == {"bad"}
    for word in ("rank 0", "ubuntu", "running", "70.0 GiB", "2.0 GiB", "101", "88", "2 min 05 s", "python load.py"):
        assert word in own.plain, word


def test_a_process_that_has_ended_is_gone_before_the_table_is_read_again(workspace: Workspace) -> None:
    rows = shown(state_of(workspace, with_processes(TABLE, [200])), 198, 57)
    assert not any("python load.py" in row for row in rows) and any("eve" in row for row in rows)


def test_an_older_recording_shows_pids_or_that_there_are_none(workspace: Workspace) -> None:
    rows = shown(state_of(workspace, with_processes(None, [31337])), 198, 57)
    assert any("31337" in row and "n/a" in row for row in rows)
    rows = shown(state_of(workspace, with_processes(None)), 198, 57)
    assert any(row.startswith(" Processes") and "n/a: they were not recorded" in row for row in rows)


def test_a_narrow_table_of_processes_keeps_the_pid_and_the_command(workspace: Workspace) -> None:
    rows = shown(state_of(workspace, with_processes(TABLE, [100, 200])), 79, 40)
    (own,) = (row for row in rows if "ubuntu" in row)
    assert " 100 " in own
    assert "ubuntu" in own and "70.0 GiB" in own and "python" in own


def test_old_figures_do_not_look_live(workspace: Workspace) -> None:
    state = state_of(workspace, [sample(second) for second in range(10)], now=60.0)
    rows = telemetry_rows(state, 140, 50, BRAILLE)
    assert "stale: the newest sample is 51 s old" in rows[0].plain
    roles = {role for row in rows for text, role in row.spans if any("\u2801" <= sign <= "\u28ff" for sign in text)}
    assert roles <= {"muted", "track"}


def test_the_window_of_the_last_minutes_steps_on_by_a_quarter(workspace: Workspace) -> None:
    view = ChartView()
    view.next_window()
    view.next_window()

    def axis(seconds: int) -> str:
        state = state_of(workspace, [sample(second, 1) for second in range(seconds)], now=seconds)
        return next(row for row in shown(state, 93, 30, view=view) if "╵" in row)

    assert axis(195) == axis(209) != axis(215)


def process(pid: int, memory: int | None, user: str = "ubuntu", **more: Any) -> Process:
    return Process(0, pid, memory, False, user=user, **more)


def test_an_order_of_the_processes_begins_with_the_largest_and_ends_with_the_unknown() -> None:
    found = [process(1, 5, "b"), process(2, None, "a"), process(3, 9, "c")]
    choice, orders = ProcessChoice(), {}
    for name, _, _ in ORDERS:
        orders[name] = [one.pid for one in choice.sort(found)]
        choice.reverse()
        orders[f"-{name}"] = [one.pid for one in choice.sort(found)]
        choice.next_order()
    assert orders["GPU"] == [1, 2, 3] and orders["-GPU"] == [3, 2, 1]
    assert orders["GPU memory"] == [3, 1, 2] and orders["-GPU memory"] == [1, 3, 2]
    assert orders["user"] == [2, 1, 3] and orders["-user"] == [3, 1, 2]
    assert choice.order == 0  # after the last comes the first


def test_the_cursor_stays_on_its_process_and_goes_to_the_next_if_it_ends() -> None:
    choice = ProcessChoice()
    choice.choosing = True
    choice.sort([process(1, 5), process(2, 7), process(3, 6)])
    choice.move(1)
    assert choice.chosen is not None and choice.chosen.pid == 2
    choice.next_order()
    choice.sort([process(1, 5), process(2, 7), process(3, 6)])
    assert choice.chosen.pid == 2
    choice.sort([process(1, 5), process(3, 6)])
    assert choice.chosen.pid == 3
    choice.sort([])
    assert choice.chosen is None and not choice.choosing


def test_a_long_table_scrolls_with_the_cursor_and_says_what_is_hidden(workspace: Workspace) -> None:
    many = [process(pid, pid << 30) for pid in range(100, 160)]
    state, choice = state_of(workspace, with_processes(many, range(100, 160))), ProcessChoice()
    shown(state, 120, 30, processes=choice)
    choice.choosing = True
    choice.move(40)
    rows = telemetry_rows(state, 120, 30, BRAILLE, processes=choice)
    text = "\n".join(row.plain for row in rows)
    assert any(row.target == "process 0 140" for row in rows) and " 140 " in text
    assert " above, " in text and len(rows) == 30
    title = next(row for row in rows if "Processes" in row.plain)
    assert title.background == "cursor" and "s by GPU" in title.plain and "y copy" in title.plain


async def test_keys_choose_sort_and_copy_a_process(workspace: Workspace, dashboard: Make) -> None:
    own = replace(TABLE[0], command="python load.py --seed 1")
    async with dashboard(second=9).run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        app.main.post_message(SamplesTaken("live", with_processes([own, replace(TABLE[1], foreign=False)], [100, 200])))
        await pilot.press("3")
        pane: Any = app.main.panes["telemetry"]
        await until(pilot, lambda: "load.py" in text_of(pane))
        assert "Tab to choose one" in text_of(pane) and pane.target is None
        await pilot.press("tab", "j")
        assert pane.target == "process 1 200"
        await pilot.press("s", "I")  # by memory, the unknown last either way
        await until(pilot, lambda: "GPU memory▴" in text_of(pane))
        await pilot.press("k", "y")
        await until(pilot, lambda: "python load.py --seed 1" in toasts_of(app))
        assert "pid 100, user ubuntu, 70.0 GiB of GPU memory" in toasts_of(app)
        await pilot.press("escape")
        assert app.main.pane == "telemetry" and pane.target is None
        await pilot.press("enter", "tab")
        assert app.main.pane == "list" and not pane.processes.choosing


async def test_a_gpu_with_a_fault_is_named_in_the_header_of_every_pane(dashboard: Make) -> None:
    async with dashboard(second=9.5).run_test(size=(80, 24)) as pilot:
        app = await ready(pilot)
        app.main.post_message(SamplesTaken("live", one_slowed()))
        await until(pilot, lambda: "GPU 5 throttled" in text_of(app.main.header))


@pytest.mark.parametrize("seconds", [40, 130, 700])
@pytest.mark.parametrize("width", [40, 61, 112])
@pytest.mark.parametrize("charts", [BRAILLE, UNICODE, ASCII])
def test_a_recording_fills_the_width_of_its_charts(tmp_path: Path, seconds: int, width: int, charts: Any) -> None:
    workspace = Workspace(tmp_path)
    state = state_of(workspace, [], now=seconds)
    state.recorded_of = "20260102T030405Z-1.2-abcdef"
    state.recorded.extend([sample(second, 2) for second in range(seconds)])
    chart = GpuView(state, state.recorded, ChartView(), charts).chart(state.recorded.gpus[0]["power_w"], [], width)
    assert len(chart.columns) == dots_across(width - LABEL, charts) and None not in chart.columns


def test_live_charts_without_a_run_are_never_mostly_blank(tmp_path: Path) -> None:
    state = state_of(Workspace(tmp_path), [])
    for second in range(700):
        state.telemetry.add(sample(second, 1))
        chart = GpuView(state, state.telemetry, ChartView(), BRAILLE).chart(state.telemetry.gpus[0]["power_w"], [], 40)
        assert second < 30 or len(chart.columns) >= 0.73 * dots_across(40 - LABEL, BRAILLE)
