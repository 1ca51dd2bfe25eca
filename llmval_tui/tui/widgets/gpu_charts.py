"""The GPUs together: charts from the lowest to the highest of them, and a table that compares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.terminal.axis import TimeAxis, time_axis, usual_step, whole_run_s
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, Kind, Mark, Plot, columns_of, dots_across
from llmval_tui.terminal.format import NOT_AVAILABLE, fit, gib, number, parse_utc
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import Series, TelemetryHistory, sum_of
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import RECENT_S, Chart, ChartView, chosen_range, window_axis_start
from llmval_tui.tui.widgets.sparkline import bar
from llmval_tui.tui.widgets.table import TableColumn, fitting, table_rows

NARROWEST = 24  # columns of a chart
IDLE = "gpu_idle"  # a harmless reason for lower clocks
ODD = 5.0  # per cent from the median, from which on a GPU is marked
ROLLING_S = 600.0  # of live hardware without a run
MOST_MARKS = 8
AFTER_LOAD = 1.08  # after the load come its last answers and the result


class GpuView:
    """The time axis and the marks of the charts of telemetry: those of the shown run, or of the last ten minutes."""

    def __init__(self, state: ScreenState, history: TelemetryHistory, view: ChartView, glyphs: Glyphs) -> None:
        self.history, self.view, self.glyphs = history, view, glyphs
        self.newest_s = history.newest_s
        self.sampled_s = usual_step([history.step_ns / 1e9])
        run = state.run
        recorded = state.recorded_of is not None
        self.of_run = recorded or (run is not None and (run.alive or state.timeline is not None))
        self._alive = run is not None and run.alive and not recorded
        self._expected_s: float | None = None
        self.marks: tuple[Mark, ...] = ()
        start_s, phase_s = 0.0, None
        if self.of_run and run is not None and (not recorded or run.id == state.recorded_of):
            began = parse_utc(run.status.started_utc)
            if began is not None:
                start_s = history.at_s(began.timestamp())
            if recorded:
                start_s = min(0.0, start_s)
            if run.expected_end_s is not None:
                self._expected_s = (history.at_s(run.expected_end_s) - start_s) * AFTER_LOAD
            phases = [(history.at_s(phase.wall_s), phase.name) for phase in run.phases[-MOST_MARKS:]]
            self.marks = tuple(Mark(at_s, name) for at_s, name in phases)
            phase_s = phases[-1][0] if phases else None
        self.zero_s = start_s  # what the axis calls 0:00
        if view.window == "phase" and phase_s is not None:
            self.start_s = max(start_s, phase_s)
        elif view.window == "recent":
            self.start_s = start_s + window_axis_start("recent", self.newest_s - start_s, None)
        elif not self.of_run:
            step = ROLLING_S / 4
            self.start_s = max(0.0, -(-(self.newest_s - ROLLING_S) // step) * step)
        else:
            self.start_s = start_s

    def axis(self, width: int) -> TimeAxis:
        """The time axis of a chart that is `width` cells wide with its labels."""
        dots = dots_across(max(1, width - LABEL), self.glyphs)
        elapsed = self.newest_s - self.start_s
        if self.view.window == "recent":
            span = RECENT_S
        elif not self.of_run:
            # It grows to its length once, and then steps on.
            span = ROLLING_S if self.start_s else min(ROLLING_S, whole_run_s(elapsed, ROLLING_S))
        elif self._alive:
            expected = None if self._expected_s is None else self._expected_s - (self.start_s - self.zero_s)
            span = whole_run_s(elapsed, expected)
        else:
            span = max(elapsed, 1.0)
        return time_axis(span, dots, self.start_s)

    def chart(
        self,
        series: Series | None,
        title: Sequence[Span],
        width: int,
        *,
        least: float = 0.0,
        limit: float | None = None,
        notes: Sequence[Span] = (),
        stale: bool = False,
    ) -> Chart:
        """A chart of one series of telemetry."""
        axis = self.axis(width)
        series = series or Series()
        buckets = series.near(axis.start_s) if self.view.window == "recent" else series.buckets
        shown = chosen_range(Kind.AREA, buckets.whole(), limit, self.view.range, least)
        # The columns count from the first sample, the labels of the axis and the marks from the start of the run.
        zero, first = self.zero_s, axis.start_s + axis.dot_s
        marks = tuple(Mark(mark.at_s - zero, mark.label) for mark in self.marks if mark.at_s >= first)
        role, fill = ("muted", "track") if stale else ("chart", "fill")
        plot = Plot(Kind.AREA, shown, role, fill, limit, marks)
        labelled = TimeAxis(axis.start_s - zero, axis.dot_s, axis.dots)
        columns = columns_of(buckets, axis, self.sampled_s)
        return Chart(tuple(title), plot, columns, labelled, tuple(notes))


def limit_words(limit: float | None, top: float) -> str:
    """Where a limit is that the chart does not reach."""
    return "" if limit is None or limit <= top else f"limit {number(limit)} off the top"


def all_gpu_charts(view: GpuView, width: int, count: int, *, stale: bool = False) -> list[Chart]:
    """Utilisation, power and NVLink (or temperature without it) of all GPUs, each `width` cells wide."""
    series, last = view.history.all_gpus, view.history.last
    limits = [gpu.power_limit_w for gpu in last.gpus if gpu.power_limit_w] if last else []
    limit = min(limits) if limits else None
    power = view.chart(series.get("power_w"), [], width, least=50.0, limit=limit, stale=stale)
    words = limit_words(limit, power.plot.range.top)
    notes: list[Span] = [(words, "muted")] if words else []
    charts = [
        view.chart(series.get("sm_util_percent"), [("util %", "text")], width, least=10.0, stale=stale),
        Chart((("power W", "text"),), power.plot, power.columns, power.axis, tuple(notes)),
    ]
    links = series.get("nvlink_rx_gb_per_s")
    if links is not None and links.peak is not None:
        charts.append(view.chart(links, [("NVLink in GB/s", "text")], width, least=1.0, stale=stale))
    else:
        heat = series.get("temperature_c")
        charts.append(view.chart(heat, [("temperature °C", "text")], width, least=50.0, stale=stale))
    return charts[:count]


@dataclass(frozen=True, slots=True)
class ComparedGpu:
    """A GPU, and how far its power is from the median of all of them, in per cent."""

    gpu: GpuSample
    from_median: float | None


def compared(gpus: Sequence[GpuSample]) -> list[ComparedGpu]:
    """Every GPU with its distance from the median; None for one GPU alone, and without a reading."""
    known = [gpu.power_w for gpu in gpus if gpu.power_w is not None]
    middle = median(known) if len(known) > 1 else None

    def off(gpu: GpuSample) -> float | None:
        return None if not middle or gpu.power_w is None else 100 * (gpu.power_w / middle - 1)

    return [ComparedGpu(gpu, off(gpu)) for gpu in gpus]


def slowed_by(gpu: GpuSample) -> list[str]:
    """The reasons for lower clocks, without the harmless ones."""
    return [clean_line(reason) for reason in gpu.throttle_reasons or () if reason != IDLE]


def is_lost(gpu: GpuSample) -> bool:
    """Whether a listed GPU gives no reading."""
    return gpu.sm_util_percent is None and gpu.memory_used_bytes is None and gpu.power_w is None


def problems_of(gpu: GpuSample) -> list[str]:
    """What is wrong with a GPU, the worst first."""
    found = ["no reading"] if is_lost(gpu) else []
    found += [] if gpu.xid is None else [f"XID {gpu.xid}"]
    if gpu.foreign_processes:
        found.append(f"not of this run: pid {', '.join(map(str, gpu.foreign_processes))}")
    slowed = slowed_by(gpu)
    return found + ([f"throttled: {', '.join(slowed)}"] if slowed else [])


POWER_CAP = "throttled: sw_power_cap"  # a software power cap is not a fault


def faults_of(gpu: GpuSample) -> list[str]:
    """What is wrong with a GPU, without what happens to healthy ones too."""
    return [problem for problem in problems_of(gpu) if problem != POWER_CAP]


def is_odd(one: "ComparedGpu") -> bool:
    """Whether a GPU has a fault, or is far from the others."""
    return bool(faults_of(one.gpu)) or abs(one.from_median or 0.0) >= ODD


def is_hot(gpu: GpuSample) -> bool:
    """Whether its driver slows it for heat: the limits of its temperature are not known, but this is."""
    return any("thermal" in reason for reason in slowed_by(gpu))


def worst_first(gpus: Sequence[ComparedGpu]) -> list[ComparedGpu]:
    """Those with a fault first, then the furthest from the median. A software power cap is not a fault."""
    return sorted(gpus, key=lambda one: (-len(faults_of(one.gpu)), -abs(one.from_median or 0.0), one.gpu.index))


def summary(gpus: Sequence[GpuSample]) -> tuple[str, str]:
    """Total power and problems of all GPUs in one line, and its role."""
    total = sum_of([gpu.power_w for gpu in gpus])
    parts = [f"{total:,.0f} W together" if total is not None else f"power {NOT_AVAILABLE}"]
    bad = {f"GPU {gpu.index} {problems[0]}": problems for gpu in gpus if (problems := problems_of(gpu))}
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        serious = any(not problem.startswith("throttled") for problems in bad.values() for problem in problems)
        return f"{parts[0]}, {next(iter(bad))}{more}", "bad" if serious else "warn"
    if all(gpu.throttle_reasons is not None for gpu in gpus):
        parts.append("no throttling")
    parts.append("no XID")
    if all(gpu.foreign_processes is not None for gpu in gpus):
        parts.append("no foreign process")
    return ", ".join(parts), "muted"


def percent(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.0f} %"


def memory_text(gpu: GpuSample) -> str:
    if gpu.memory_used_bytes is None:
        return NOT_AVAILABLE
    total = gib(gpu.memory_total_bytes) if gpu.memory_total_bytes else "?"
    return f"{gib(gpu.memory_used_bytes)}/{total}"


def from_median_span(value: float | None) -> Span:
    if value is None:
        return NOT_AVAILABLE, "muted"
    text = f"{value:+.1f} %" if abs(value) >= 0.05 else "0.0 %"  # never -0.0
    return text, "warn" if abs(value) >= ODD else "text"


def gpu_columns(
    glyphs: Glyphs, *, stale: bool, bar_cells: int = 8, slowed: bool = False
) -> list[TableColumn[ComparedGpu]]:
    """The columns of the table of GPUs, from left to right; the clock stays longer if a GPU is `slowed`."""

    def figure(text: str) -> Span:
        return text, "warn" if text == NOT_AVAILABLE else "muted" if stale else "text"

    def name(one: ComparedGpu) -> list[Span]:
        bad = problems_of(one.gpu)
        return [(f"{one.gpu.index:>2}", "title"), ("!" if bad else " ", "bad")]

    def power(one: ComparedGpu) -> list[Span]:
        gpu = one.gpu
        share = None if gpu.power_w is None or not gpu.power_limit_w else gpu.power_w / gpu.power_limit_w
        filled, empty = bar(share, bar_cells, glyphs)
        text = NOT_AVAILABLE if gpu.power_w is None else f"{number(gpu.power_w)} W"
        return [(filled, "muted" if stale else "chart"), (empty, "track"), (f"{text:>8}", figure(text)[1])]

    def clock(one: ComparedGpu) -> Span:
        text, role = figure(number(one.gpu.sm_clock_mhz))
        return text, "warn" if not stale and faults_of(one.gpu) and slowed_by(one.gpu) else role

    def heat(gpu: GpuSample) -> str:
        return NOT_AVAILABLE if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C"

    return [
        TableColumn("GPU", 3, name),
        TableColumn("util", 5, lambda one: figure(percent(one.gpu.sm_util_percent))),
        TableColumn("tensor", 6, lambda one: figure(percent(one.gpu.tensor_util_percent)), 7),
        TableColumn("DRAM", 5, lambda one: figure(percent(one.gpu.dram_util_percent)), 8),
        TableColumn(" power".ljust(bar_cells + 8), bar_cells + 8, power, 1),
        TableColumn(
            "temp",
            5,
            lambda one: (heat(one.gpu), "warn") if is_hot(one.gpu) and not stale else figure(heat(one.gpu)),
            2,
        ),
        TableColumn("memory GiB", 11, lambda one: figure(memory_text(one.gpu)), 1),
        TableColumn("NVL in", 6, lambda one: figure(number(one.gpu.nvlink_rx_gb_per_s)), 4),
        TableColumn("out", 5, lambda one: figure(number(one.gpu.nvlink_tx_gb_per_s)), 5),
        TableColumn("MHz", 5, clock, 3 if slowed else 6),
    ]


def gpu_table(gpus: Sequence[GpuSample], width: int, height: int, glyphs: Glyphs, *, stale: bool) -> list[Row]:
    """A row for each GPU; if they do not fit, the furthest from the median, and one row for the others."""
    every = compared(gpus)
    slowed = any(faults_of(gpu) and slowed_by(gpu) for gpu in gpus)
    columns = gpu_columns(glyphs, stale=stale, slowed=slowed)
    if len(fitting(columns, width)) < len(columns) - 5:
        columns = gpu_columns(glyphs, stale=stale, bar_cells=5, slowed=slowed)
    room = max(1, height - 1)
    if len(every) <= room:
        return table_rows(columns, every, width, glyphs.ellipsis)
    first = worst_first(every)[: room - 1]
    others = [one for one in every if one not in first]
    rows = table_rows(columns, sorted(first, key=lambda one: one.gpu.index), width, glyphs.ellipsis)
    text = others_text(others)
    return [*rows, row((f" {text if cell_len(text) < width else fit(text, width - 1, glyphs.ellipsis)}", "muted"))]


def others_text(others: Sequence[ComparedGpu]) -> str:
    """The GPUs that have no row of their own."""
    known = [abs(one.from_median) for one in others if one.from_median is not None]
    within = f" within {max(known):.1f} % of the median" if known else ""
    util = [one.gpu.sm_util_percent for one in others if one.gpu.sm_util_percent is not None]
    busy = f", util {min(util):.0f} to {max(util):.0f} %" if util else ""
    return f"{len(others)} other{'s' if len(others) > 1 else ''}{within}{busy}"
