"""The charts of a run's metrics: rates with their shortfall, latencies as bands, everything else as areas."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.actions.bounds import Bound
from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.axis import TimeAxis, coarser, dot_width, time_axis, whole_run_s
from llmval_tui.terminal.buckets import Bucket, Buckets
from llmval_tui.terminal.chart import (
    LABEL,
    Kind,
    Mark,
    Plot,
    band_columns,
    columns_of,
    dots_across,
    shortfall_columns,
)
from llmval_tui.terminal.format import number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.run_follower import MetricSeries, RunSnapshot
from llmval_tui.tui.drawing.rows import Span
from llmval_tui.tui.widgets.charts import (
    RECENT_S,
    Chart,
    ChartView,
    chosen_range,
    limit_note,
    window_axis_start,
)

EXPECTED_LONGER = 1.15  # after the load come its last answers
SHORT_S = 5.0  # a dot that is wider shows the lowest and the highest completed rate, and not their mean
SHORTFALL = 0.95  # completed below this share of offered is marked
MOST_MARKS = 8  # with more phases, marks would hide the chart


@dataclass(frozen=True, slots=True)
class Band:
    """A latency: p50 and p99 of the last seconds."""

    title: str
    lower: tuple[str, ...]  # metrics, the preferred one first
    upper: tuple[str, ...]


# What the chart of the rate says of the offered rate, from so many columns on.
LEGENDS = ((70, " offered, not yet completed"), (46, " not yet completed"), (0, " offered"))
ROOM_FOR_SINCE = 60  # columns of a chart of a latency that says from when it counts
BANDS = (
    Band("TTFT", ("ttft_p50_ms",), ("ttft_sched_p99_ms", "ttft_p99_ms")),
    Band("TPOT", ("tpot_p50_ms",), ("tpot_p99_ms",)),
)
# Title, unit, metrics of which each gets a chart.
AREAS: tuple[tuple[str, str, str], ...] = (
    ("prefill_tokens_per_s", "Prefill", "tokens/s"),
    ("decode_tokens_per_s", "Decode", "tokens/s"),
    ("output_tokens_per_s", "Output", "tokens/s"),
    ("total_tokens_per_s", "Total", "tokens/s"),
    ("running", "Running", "requests"),
    ("queued", "Queued", "requests"),
    ("in_flight", "In flight", "requests"),
    ("failed_requests", "Failed so far", "requests"),
    ("engine_running", "Server: running", "requests"),
    ("engine_waiting", "Server: waiting", "requests"),
    ("engine_kv_cache_used_percent", "Server: KV cache", "%"),
    ("kv_used_percent", "KV cache", "%"),
)
_UNITS = (
    ("_ms", "ms"),
    ("_qps", "QPS"),
    ("_tokens_per_s", "tokens/s"),
    ("_percent", "%"),
    ("_gb_per_s", "GB/s"),
    ("_w", "W"),
    ("_s", "s"),
)
RATES = ("offered_qps", "achieved_qps", "completed_qps")


def unit_of(name: str) -> str:
    """The unit in a metric's name."""
    return next((unit for end, unit in _UNITS if name.endswith(end)), "")


class RunCharts:
    """The charts of one run for one width; all have the same axis, so that they can be compared."""

    def __init__(self, run: RunSnapshot, view: ChartView, glyphs: Glyphs) -> None:
        self.run, self.view, self.glyphs = run, view, glyphs
        self.newest_s = max((metric.buckets.end_s for metric in run.metrics), default=0.0)
        now = run.phases[-1].at_s if run.phases else None
        self._start_s = window_axis_start(view.window, self.newest_s, now)
        self.marks = tuple(Mark(phase.at_s, phase.name) for phase in run.phases[-MOST_MARKS:] if phase.at_s is not None)

    def axis(self, width: int) -> TimeAxis:
        """The time axis of a chart that is `width` cells wide with its labels."""
        dots = dots_across(max(1, width - LABEL), self.glyphs)
        newest, start = self.newest_s, self._start_s
        if self.view.window == "recent":
            return time_axis(RECENT_S, dots, start)
        if not self.run.alive:
            span = newest - start
        else:
            expected = None
            if self.run.expected_end_s is not None and self.run.metrics_began_s is not None:
                expected = (self.run.expected_end_s - self.run.metrics_began_s) * EXPECTED_LONGER - start
            span = whole_run_s(newest - start, expected)
        return time_axis(span, dots, start)

    def _buckets(self, metric: MetricSeries) -> Buckets:
        fine = self.view.window != "whole" and metric.buckets.width_s > 0.5 and metric.recent.reaches(self._start_s)
        return metric.recent.buckets() if fine else metric.buckets

    def _step_s(self, axis: TimeAxis, *metrics: MetricSeries | None) -> float:
        """The seconds that one drawn value covers: those of a dot, or more if the values or their buckets are wider."""
        known = [metric for metric in metrics if metric is not None]
        steps = [max(metric.recent.step_s, self._buckets(metric).width_s) for metric in known]
        return coarser(axis, max(steps, default=0.0)).dot_s

    def _marks(self, axis: TimeAxis) -> tuple[Mark, ...]:
        # The phase in which the axis begins would only hide the first column, and one after the last value explains
        # nothing: its label would take the room of the phase before.
        last_s = self.newest_s - max(axis.dot_s, *(metric.buckets.width_s for metric in self.run.metrics))
        return tuple(mark for mark in self.marks if axis.start_s + axis.dot_s <= mark.at_s < last_s)

    def bound(self, *names: str) -> Bound | None:
        """The bound of the first of these metrics that has one, else the baseline's."""
        return next((of[name] for of in (self.run.bounds, self.run.baseline) for name in names if name in of), None)

    def rate(self, width: int) -> Chart | None:
        """Offered and completed rate; None if the run reports no completed rate."""
        completed, offered = self.run.metric("completed_qps"), self.run.metric("offered_qps")
        if completed is None:
            return None
        axis = self.axis(width)
        step_s = self._step_s(axis, completed, offered)
        reached = self._buckets(completed)
        asked = self._buckets(offered) if offered else Buckets()
        both = [found for series in (reached, asked) if (found := series.whole()) is not None]
        whole = Bucket(min(b.lowest for b in both), max(b.highest for b in both), 0.0, 1) if both else None
        bound = self.bound("completed_qps", "goodput_qps")
        lane, lane_note = "", ""
        title: list[Span] = [("Rate", "accent"), (" QPS  ", "text")]
        if step_s <= SHORT_S and offered is not None:
            kind, columns = Kind.SHORTFALL, shortfall_columns(reached, asked, axis, step_s)
            full, part = signs(self.glyphs)
            title += [
                (full, "chart"),
                (" completed  ", "text"),
                (part, "gap"),
                # Short, because a narrow pane must also say how long a dot is.
                (next(words for least, words in LEGENDS if width >= least), "muted"),
            ]
        else:
            kind, columns = Kind.AREA, columns_of(reached, axis, step_s)
            full, part = signs(self.glyphs)
            title += [
                ("completed ", "text"),
                (full, "fill"),
                (" lowest ", "text"),
                (part, "chart"),
                (" to highest", "text"),
            ]
            lane = shortfall_lane(reached, asked, coarser(axis, step_s), width - LABEL, self.glyphs)
            lane_note = f"{'v' if self.glyphs.ascii else '▾'} 5 % short of offered" if lane.strip() else ""
        shown = chosen_range(kind, whole, bound.value if bound else None, self.view.range)
        notes: list[Span] = [*self._drained(), *self._sent(), (dot_words(axis, step_s), "muted")]
        notes.sort(key=lambda note: note[1] == "warn")  # the first to go is what is usual
        plot = Plot(kind, shown, limit=bound.value if bound else None, marks=self._marks(axis))
        return Chart(tuple(title), plot, columns, axis, tuple(notes), lane if lane.strip() else "", lane_note)

    def _drained(self) -> list[Span]:
        """Why the rates fall at the end: they are means of the last seconds, and in the drain nothing arrives."""
        return [("in drain no request arrives", "muted")] if any(mark.label == "drain" for mark in self.marks) else []

    def _sent(self) -> list[Span]:
        """Whether the generator sends what it should: if not, the run measures the generator."""
        offered, achieved = self.run.metric("offered_qps"), self.run.metric("achieved_qps")
        if not self.run.alive or offered is None or achieved is None or not offered.last or achieved.last is None:
            return []
        if achieved.last >= SHORTFALL * offered.last:
            return [("sent = offered", "text")]
        return [(f"sent {number(achieved.last)} of {number(offered.last)}", "warn")]

    def band(self, band: Band, width: int) -> Chart | None:
        """A latency from p50 to p99; None if the run reports neither."""
        lower = next((metric for name in band.lower if (metric := self.run.metric(name))), None)
        upper = next((metric for name in band.upper if (metric := self.run.metric(name))), None)
        if lower is None and upper is None:
            return None
        first, second = (self._buckets(metric) for metric in (lower or upper, upper or lower) if metric is not None)
        axis = self.axis(width)
        step_s = self._step_s(axis, lower, upper)
        both = [found for series in (first, second) if (found := series.whole()) is not None]
        whole = Bucket(min(b.lowest for b in both), max(b.highest for b in both), 0.0, 1) if both else None
        bound = self.bound(*band.upper, *band.lower)
        limit = bound.value if bound else None
        shown = chosen_range(Kind.BAND, whole, limit, self.view.range)
        plot = Plot(Kind.BAND, shown, "chart2", limit=limit, marks=self._marks(axis))
        full, _ = signs(self.glyphs)
        words = "p50 to p99" if lower and upper else "p99" if upper else "p50"
        since = " from arrival" if upper is not None and "_sched_" in upper.name else ""
        since = since if width >= ROOM_FOR_SINCE else ""
        title = ((band.title, "accent"), (f" ms{since}  ", "text"), (full, "chart2"), (f" {words}", "text"))
        return Chart(
            title,
            plot,
            band_columns(first, second, axis, step_s),
            axis,
            limit_note(limit, bound.set_by, shown, self.glyphs) if bound else (),
        )

    def area(self, name: str, title: str, unit: str, width: int) -> Chart | None:
        """One metric from zero; None if the run does not report it."""
        metric = self.run.metric(name)
        if metric is None:
            return None
        axis, bound = self.axis(width), self.bound(name)
        limit = bound.value if bound else None
        buckets = self._buckets(metric)
        shown = chosen_range(Kind.AREA, buckets.whole(), limit, self.view.range)
        plot = Plot(Kind.AREA, shown, limit=limit, marks=self._marks(axis))
        notes: list[Span] = [*(limit_note(limit, bound.set_by, shown, self.glyphs) if bound else ())]
        if self.run.alive:
            notes.append((number(metric.last), "warn" if metric.last is None else "title"))
        else:
            notes.append((f"last {number(metric.last)}", "muted"))
        columns = columns_of(buckets, axis, self._step_s(axis, metric))
        return Chart(((title, "accent"), (f" {unit}", "text")), plot, columns, axis, tuple(notes))

    def other_areas(self) -> list[tuple[str, str, str]]:
        """The metrics with an area: name, title and unit. Those of the rates and latencies have charts of their own."""
        own = {*(name for band in BANDS for name in (*band.lower, *band.upper))}
        own |= set(RATES) if self.run.metric("completed_qps") else set()
        known = [area for area in AREAS if self.run.metric(area[0])]
        own |= {name for name, _, _ in known}
        more = [metric.name for metric in self.run.metrics if metric.name not in own]
        return known + [(name, clean_line(name), unit_of(name)) for name in more]


def signs(glyphs: Glyphs) -> tuple[str, str]:
    """The solid and the scattered sign of the legend."""
    return {"braille": ("⣿", "⢕"), "blocks": ("█", "░"), "ascii": ("#", ":")}[glyphs.charts]


def dot_words(axis: TimeAxis, step_s: float) -> str:
    """The time that one drawn value covers: that of a dot, or of several if the values are further apart."""
    return f"{'a dot' if step_s <= axis.dot_s * (1 + 1e-9) else 'a value'} = {dot_width(step_s)}"


def shortfall_lane(reached: Buckets, asked: Buckets, axis: TimeAxis, width: int, glyphs: Glyphs) -> str:
    """A sign for each cell in which completed stayed 5 % below offered in a bucket."""
    sign = "v" if glyphs.ascii else "▾"
    cells = [" "] * width
    for dot in range(axis.dots):
        start = axis.start_s + dot * axis.dot_s
        got, wanted = (series.between(start, start + axis.dot_s) for series in (reached, asked))
        if got is not None and wanted is not None and got.mean < SHORTFALL * wanted.mean:
            first, last = dot * width // axis.dots, -(-(dot + 1) * width // axis.dots)
            cells[first:last] = sign * (last - first)
    return "".join(cells)


@dataclass(frozen=True, slots=True)
class Drift:
    """A metric at the beginning and at the end of a run."""

    first: float
    last: float
    words: str  # "in the 1st hour, 66 in the 6th"

    @property
    def change(self) -> float | None:
        """The share by which it has changed; None if it began at 0."""
        return self.last / self.first - 1 if self.first else None


def drift_of(buckets: Buckets) -> Drift | None:
    """The mean of the first hour against that of the last full one; of a shorter run, the first and last quarter.

    None for a run under four minutes: its first quarter is still the start of the load.
    """
    end = buckets.end_s
    if end >= 2 * 3600:
        hours = int(end // 3600)
        first, last = buckets.between(0, 3600), buckets.between((hours - 1) * 3600, hours * 3600)
        names = ("in the 1st hour", f"in the {ordinal(hours)}")
    elif end >= 240:
        first, last = buckets.between(0, end / 4), buckets.between(end * 3 / 4, end + buckets.width_s)
        names = ("in the first quarter", "in the last")
    else:
        return None
    if first is None or last is None:
        return None
    return Drift(first.mean, last.mean, f"{number(first.mean)} {{unit}} {names[0]}, {number(last.mean)} {names[1]}")


def ordinal(value: int) -> str:
    end = "th" if 10 <= value % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{end}"


def metric_charts(charts: RunCharts, names: Sequence[tuple[str, str, str]], width: int) -> list[Chart]:
    return [chart for name, title, unit in names if (chart := charts.area(name, title, unit, width)) is not None]
