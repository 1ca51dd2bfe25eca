"""What stands at the end of the column of a short list while the chosen step runs: the GPUs over the whole run, all
figures of the run, and charts in the rows that are left.

The column is the same beside every pane: it does not jump on a key to another pane, and it is not drawn again then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.buckets import Bucket
from llmval_tui.terminal.format import duration, fit, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import TALL, Chart, ChartView, chart_row, shares
from llmval_tui.tui.widgets.gpu_charts import NARROWEST, ODD, GpuView, from_median_span, percent
from llmval_tui.tui.widgets.run_charts import BANDS, RATES, RunCharts, unit_of
from llmval_tui.tui.widgets.stack import PaneBlock, blank, stacked
from llmval_tui.tui.widgets.table import TableColumn, table_rows
from llmval_tui.tui.widgets.text_rows import heading

if TYPE_CHECKING:
    from llmval_tui.tui.data.history import Series
    from llmval_tui.tui.data.run_follower import MetricSeries, RunSnapshot

LEAST = 5  # rows of a table: a blank one, heading, titles of the columns, one more, and how many there are besides
LEAST_CHART = 4  # a title, two rows of chart, and the axis
MOST_GPUS = 16  # rows: of more GPUs, most are alike
NOTABLE = 1.0  # per cent from the median: less is noise of the sensors, and no GPU is named
USUAL = 7  # rows for a row of charts, from which on there is one more
SHORT = {word.casefold(): word for word in ("TTFT", "TPOT", "KV", "GPU")}
# Each chart of telemetry: its series, its title, and the least top of its range. First what no pane shows, last what
# the Run pane shows.
GPU_CHARTS = (
    ("sm_clock_mhz", "GPUs MHz", 500.0),
    ("temperature_c", "GPUs °C", 50.0),
    ("sm_util_percent", "GPUs util %", 10.0),
    ("power_w", "GPUs power W", 50.0),
    ("nvlink_rx_gb_per_s", "NVLink in GB/s", 1.0),
)
HOST_CHARTS = (
    ("network_rx_mb_per_s", "network in MB/s", 1.0),
    ("network_tx_mb_per_s", "network out MB/s", 1.0),
    ("cpu_percent", "host cpu %", 10.0),
    ("memory_gib", "host memory GiB", 1.0),
)
FIRST = 2  # of either, before the run's own charts


@dataclass(frozen=True, slots=True)
class GpuOverRun:
    """One GPU over a time; `power` has its mean, `from_median` how far that is from the others', in per cent."""

    index: int
    power: Bucket | None
    from_median: float | None
    furthest: bool = False


def gpus_over_run(state: ScreenState, start_s: float) -> list[GpuOverRun]:
    """Every GPU from `start_s` on, in seconds after the first sample."""
    end_s = state.live.newest_s + 1
    power = {
        index: series["power_w"].buckets.between(start_s, end_s) for index, series in sorted(state.live.gpus.items())
    }
    known = [one.mean for one in power.values() if one is not None]
    middle = median(known) if len(known) > 1 else None
    off = {index: 100 * (one.mean / middle - 1) for index, one in power.items() if one is not None and middle}
    worst = max(off, key=lambda index: abs(off[index]), default=None) if len(off) > 2 else None
    return [
        GpuOverRun(index, one, off.get(index), index == worst and abs(off[index]) >= NOTABLE)
        for index, one in power.items()
    ]


def gpu_rows(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """A row for each GPU with its means over the phase; if they do not fit, those furthest from the median."""
    run = state.run
    if run is None or not run.alive or not state.live.gpus or height < LEAST:
        return []
    # The phases before, such as that of loading the weights, would hide how the GPUs differ in this one.
    view, phase = GpuView(state, state.live, ChartView(window="phase"), glyphs), run.phases[-1:]
    if view.start_s > state.live.newest_s:  # no sample of this phase
        view, phase = GpuView(state, state.live, ChartView(), glyphs), ()
    every = gpus_over_run(state, view.start_s)
    end_s = state.live.newest_s + 1
    title = f"GPUs in {fit(clean_line(phase[0].name), 20).rstrip()}" if phase else "GPUs over the run"
    rows = heading(title, width, glyphs, f"means of {duration(end_s - 1 - max(0.0, view.start_s))}")
    room = min(height - len(rows) - 1, MOST_GPUS)
    shown = every
    if len(every) > room:
        first = sorted(every, key=lambda one: -abs(one.from_median or 0.0))[: max(1, room - 1)]
        shown = sorted(first, key=lambda one: one.index)

    def over(one: GpuOverRun, name: str) -> Bucket | None:
        return state.live.gpus[one.index][name].buckets.between(view.start_s, end_s)

    def mean(one: GpuOverRun, name: str) -> float | None:
        found = over(one, name)
        return None if found is None else found.mean

    def highest(one: GpuOverRun, name: str) -> float | None:
        found = over(one, name)
        return None if found is None else found.highest

    def figure(text: str) -> Span:
        return text, "muted" if text == "n/a" else "text"

    def off(one: GpuOverRun) -> list[Span]:
        text, role = from_median_span(one.from_median)
        word = " furthest" if one.furthest else ""
        return [(f"{text:>9}", role), (f"{word:<9}", "warn" if abs(one.from_median or 0.0) >= ODD else "title")]

    def watts(one: GpuOverRun) -> Span:
        return figure(number(one.power.mean) if one.power is not None else "n/a")

    columns: list[TableColumn[GpuOverRun]] = [
        TableColumn("GPU", 3, lambda one: (f"{one.index:>2} ", "title")),
        TableColumn("util", 5, lambda one: figure(percent(mean(one, "sm_util_percent"))), 2),
        TableColumn("power W", 7, watts, 1),
        TableColumn("vs median".ljust(18), 18, off),
        TableColumn(f"{glyphs.peak}°C", 4, lambda one: figure(number(highest(one, "temperature_c"))), 3),
        TableColumn("MHz", 5, lambda one: figure(number(mean(one, "sm_clock_mhz"))), 4),
        TableColumn(f"{glyphs.peak}GiB", 5, lambda one: figure(number(highest(one, "memory_gib"))), 5),
    ]
    rows += table_rows(columns, shown, width, glyphs.ellipsis)
    if len(shown) < len(every):
        rest = [one for one in every if one not in shown]
        known = [abs(one.from_median) for one in rest if one.from_median is not None]
        within = f" within {max(known):.1f} % of the median" if known else ""
        rows.append(row((fit(f" {len(rest)} others{within}", width, glyphs.ellipsis), "muted")))
    return rows


def metric_rows(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Every figure that the run reports: now, and its lowest, mean and highest value so far."""
    run = state.run
    if run is None or not run.alive or not run.metrics or height < LEAST:
        return []
    rows = heading("Figures of the run", width, glyphs, "so far")

    def figure(value: float | None) -> Span:
        return number(value), "muted" if value is None else "text"

    def so_far(of: Callable[[Bucket], float]) -> "Callable[[MetricSeries], Span]":
        return lambda one: figure(None if (every := one.buckets.whole()) is None else of(every))

    metrics = [one for one in run.metrics if one.buckets.whole() is not None or one.last is not None]
    if not metrics:
        return []
    shown = metrics if len(metrics) <= height - 3 else metrics[: height - 4]
    names = [metric_name(metric.name) for metric in shown]
    name_cells = min(max(map(len, names)), max(12, width - 40))
    columns: list[TableColumn[MetricSeries]] = [
        TableColumn("", name_cells, lambda one: (metric_name(one.name), "text"), left=True),
        TableColumn("now", 8, lambda one: (number(one.last), "warn" if one.last is None else "title")),
        TableColumn("lowest", 8, so_far(lambda every: every.lowest), 2),
        TableColumn("mean", 8, so_far(lambda every: every.mean), 1),
        TableColumn("highest", 8, so_far(lambda every: every.highest), 2),
    ]
    rows += table_rows(columns, shown, width, glyphs.ellipsis)
    more = len(metrics) - len(shown)
    return [*rows, row((f" {more} more", "muted"))] if more else rows


def metric_name(name: str) -> str:
    """The name of a metric for people: `TTFT sched p99, ms`."""
    unit = unit_of(name)
    words = " ".join(SHORT.get(word, word) for word in clean_line(name).split("_"))
    tail = {"tokens/s": " tokens per s", "GB/s": " gb per s", "%": " percent"}.get(unit, f" {unit.lower()}")
    return f"{words.removesuffix(tail)}, {unit}" if unit and words.endswith(tail) else words


def filling_charts(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Charts in the rows that are left, first those that no pane shows; none in fewer than four rows."""
    run = state.run
    if run is None or not run.alive or height < LEAST_CHART:
        return []
    across = 2 if width >= 2 * NARROWEST + 3 else 1
    cells = min(shares(width, across, gap=2))
    every, host = state.live.all_gpus, state.live.host
    first = telemetry_charts(state, every, GPU_CHARTS[:FIRST], cells, glyphs)
    first += telemetry_charts(state, host, HOST_CHARTS[:FIRST], cells, glyphs)
    last = telemetry_charts(state, host, HOST_CHARTS[FIRST:], cells, glyphs)
    last += telemetry_charts(state, every, GPU_CHARTS[FIRST:], cells, glyphs)
    charts = (first + run_charts(run, cells, glyphs) + last)[: across * max(1, height // USUAL)]
    blocks: list[PaneBlock] = [blank("above", rank=9)]
    for index in range(0, len(charts), across):
        part = charts[index : index + across]
        widths = [cells] * len(part)
        blocks.append(chart_row(f"{index}", part, widths, glyphs, rank=index, least=2, wish=3, tallest=TALL))
    return stacked(blocks, height) if charts else []


def telemetry_charts(
    state: ScreenState, of: "Mapping[str, Series]", shown: Sequence[tuple[str, str, float]], cells: int, glyphs: Glyphs
) -> list[Chart]:
    """Those of `shown` that have values."""
    view, stale = GpuView(state, state.live, ChartView(), glyphs), state.stale
    found = [(series, title, least) for name, title, least in shown if (series := of.get(name)) is not None]
    return [
        view.chart(series, [(title, "text")], cells, least=least, stale=stale)
        for series, title, least in found
        if series.peak is not None
    ]


def run_charts(run: "RunSnapshot", cells: int, glyphs: Glyphs) -> list[Chart]:
    """Those of the run's metrics that the Run pane does not show."""
    made = RunCharts(run, ChartView(), glyphs)
    areas = made.other_areas()
    loaded = any(run.metric(name) for name in (RATES[2], *(name for band in BANDS for name in band.lower + band.upper)))
    areas = areas if loaded else areas[2:]
    return [chart for name, title, unit in areas if (chart := made.area(name, title, unit, cells)) is not None]
