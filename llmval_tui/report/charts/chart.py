"""Draws plots as inline SVG: strips (one row per GPU), lines and cumulative distributions.

All plots of a run over time share one axis. Every plot has a title and a description in words. Several lines of a plot
differ in dash and marker, not only in colour. A missing value is not drawn: the line is broken there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmval_tui.actions.request_records import percentile
from llmval_tui.report.charts.axes import tick_label, ticks, time_label, time_ticks
from llmval_tui.report.downsample import Bucket, DownsampledSeries
from llmval_tui.report.pages.markup import esc
from llmval_tui.report.timeline import MEASURE, Phase

WIDTH, LEFT, RIGHT = 960, 84, 26
_MARKERS = ("circle", "square", "triangle", "diamond", "cross")
STYLES = 5  # line styles, each with a colour, a dash and a marker
_MARK_EVERY_PX = 90


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot."""

    label: str
    series: DownsampledSeries
    style: int = 0


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of a stack of strips: a label, lines, and a note with the figures."""

    label: str
    lines: Sequence[Line]
    note: str = ""
    limit: float | None = None  # drawn as a horizontal line, such as the power limit


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time axis that all plots of a run share: converts seconds to pixels and draws the phases behind the lines."""

    end_s: float
    phases: Sequence[Phase]
    zero: str  # wall clock at 0, as text

    def x(self, time_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time_s / (self.end_s or 1.0)

    def bands(self, top: float, bottom: float) -> str:
        """The measured window as a shaded band, and the start of every phase as a line."""
        parts, starts = [], []
        for phase in self.phases:
            left, right = self.x(phase.start_s), self.x(phase.end_s)
            if phase.name == MEASURE:
                size = f'width="{max(right - left, 0.5):.1f}" height="{bottom - top:.1f}"'
                parts.append(f'<rect class="measured" x="{left:.1f}" y="{top:.1f}" {size}/>')
            starts.append(f"M{left:.1f},{top:.1f}V{bottom:.1f}")
        return "".join(parts) + (f'<path class="phase" d="{"".join(starts)}"/>' if starts else "")

    def labels(self, top: float) -> str:
        """Ticks and numbers below a plot."""
        marks = time_ticks(self.end_s)
        parts = []
        for mark in marks:
            x = self.x(mark)
            parts.append(rule("axis", x, top, x, top + 4))
            parts.append(text(x, top + 16, time_label(mark, self.end_s), "middle"))
        unit = "s" if self.end_s < 60 else "m:ss" if self.end_s < 3600 else "h:mm:ss"
        parts.append(text((LEFT + WIDTH - RIGHT) / 2, top + 31, f"time since {self.zero} ({unit})", "middle"))
        return "".join(parts)


def phase_strip(name: str, axis: TimeAxis) -> str:
    """The phases as boxes on the time axis. Labels that would overlap go to further rows."""
    rows: list[float] = []  # where the last label of each row ends
    boxes, labels = [], []
    for phase in axis.phases:
        left, right = axis.x(phase.start_s), axis.x(phase.end_s)
        kind = "box measured" if phase.name == MEASURE else "box"
        boxes.append(f'<rect class="{kind}" x="{left:.1f}" y="4" width="{max(right - left, 0.5):.1f}" height="16"/>')
        needed = 7.0 * len(phase.name) + 6
        start = min(left, WIDTH - needed)
        row = next((at for at, end in enumerate(rows) if end <= start), len(rows))
        rows[row : row + 1] = [start + needed]
        labels.append(rule("phase", left, 20, left, 24 + 14 * row) + text(start + 2, 33 + 14 * row, phase.name))
    bottom = 42 + 14 * len(rows)
    description = "; ".join(f"{phase.name} {phase.start_s:.1f} to {phase.end_s:.1f} s" for phase in axis.phases)
    return svg(
        name,
        "Phases",
        description or "no phase was reported",
        bottom + 34,
        "".join(boxes + labels) + _frame(axis, bottom),
    )


def _frame(axis: TimeAxis, bottom: float) -> str:
    return rule("axis", LEFT, bottom, WIDTH - RIGHT, bottom) + axis.labels(bottom)


def strips(name: str, title: str, unit: str, rows: Sequence[Strip], axis: TimeAxis, bounds: tuple[float, float]) -> str:
    """One row per GPU, all on the same axes, so that a GPU that differs stands out."""
    height = {1: 110, 2: 76, 3: 60, 4: 54}.get(len(rows), 40)
    key, top = _legend(rows[0].lines, 8) if len(rows[0].lines) > 1 else ("", 6)
    low, high = _bounds(bounds, [line for row in rows for line in row.lines])
    parts = [key]
    description = []
    for number, row in enumerate(rows):
        upper = top + number * (height + 24) + 18
        lower = upper + height
        parts.append(axis.bands(upper, lower))
        parts.append(f'<text class="label" x="{LEFT}" y="{upper - 5:.1f}">{esc(row.label)}</text>')
        parts.append(f'<text class="note" x="{WIDTH - RIGHT}" y="{upper - 5:.1f}">{esc(row.note)}</text>')
        parts.append(_y_axis(low, high, upper, lower, 3 if height < 60 else 4))
        if row.limit is not None and low <= row.limit <= high:
            y = _y(row.limit, low, high, upper, lower)
            parts.append(rule("limit", LEFT, y, WIDTH - RIGHT, y))
        several = len(row.lines) > 1
        drawn = [_line(line, axis, low, high, upper, lower, marked=several) for line in row.lines]
        parts += drawn
        if not any(drawn):
            parts.append(
                text((LEFT + WIDTH) / 2, (upper + lower) / 2 + 4, "not available: no value was recorded", "middle")
            )
        description.append(f"{row.label}: {row.note}")
    bottom = top + len(rows) * (height + 24) - 6
    parts.append(axis.labels(bottom))
    return svg(name, f"{title} ({unit})", ". ".join(description), bottom + 36, "".join(parts))


def lines(name: str, title: str, unit: str, drawn: Sequence[Line], axis: TimeAxis, low: float = 0.0) -> str:
    """Several lines in one plot."""
    key, top = _legend(drawn, 12)
    top += 6
    bottom = top + 150
    bottom_value, top_value = _bounds((low, low), drawn)
    parts = [key, axis.bands(top, bottom), _y_axis(bottom_value, top_value, top, bottom, 5)]
    parts += [_line(line, axis, bottom_value, top_value, top, bottom, marked=len(drawn) > 1) for line in drawn]
    parts.append(axis.labels(bottom))
    description = []
    for line in drawn:
        summary = line.series.summary
        if summary.count:
            description.append(
                f"{line.label}: minimum {summary.low:.4g}, mean {summary.mean:.4g}, maximum {summary.high:.4g} {unit}"
            )
        else:
            description.append(f"{line.label}: not available")
    return svg(name, f"{title} ({unit})", "; ".join(description), bottom + 36, "".join(parts))


def distribution(name: str, title: str, unit: str, curves: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Cumulative distributions of one or two sets of ascending values; p50, p90 and p99 of the first are marked."""
    width, left, right, top, bottom = 470, 46, 24, 42, 216
    high = max(values[-1] for _, values in curves)
    marks = ticks(0.0, high, 6)
    span = marks[-1] or 1.0

    def x(value: float) -> float:
        return left + (width - left - right) * value / span

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(rule("grid", left, y(share), width - right, y(share)))
        parts.append(text(left - 6, y(share) + 4, f"{share:.0%}", "end"))
    for mark in marks:
        parts.append(rule("axis", x(mark), bottom, x(mark), bottom + 4))
        parts.append(text(x(mark), bottom + 16, tick_label(mark, marks[1] - marks[0]), "middle"))
    parts.append(
        text(
            (left + width - right) / 2,
            bottom + 31,
            f"{unit}: share of requests that took at most this long",
            "middle",
        )
    )
    parts.append(f'<text class="label" x="{left}" y="13">{esc(title)} ({esc(unit)})</text>')
    offset = float(left)
    for style, (label, values) in enumerate(curves):
        path = polyline([(x(value), y(share)) for value, share in _steps(values)])
        parts.append(f'<path class="line s{style}" d="{path}"/>')
        parts.append(rule(f"line s{style}", offset, 28, offset + 26, 28) + text(offset + 31, 32, label))
        offset += 44 + 6.6 * len(label)
    values = curves[0][1]
    description = []
    for number, percent in enumerate((50, 90, 99)):
        value = percentile(values, percent)
        parts.append(marker(number, x(value), y(percent / 100), 0))
        description.append(f"p{percent} {value:.4g} {unit}")
    label = ", ".join(description)
    parts.append(text(width - right - 4, bottom - 8, label.replace(f" {unit}", ""), "end"))
    return svg(name, f"{title} ({unit})", f"{len(values)} requests: {label}", bottom + 38, "".join(parts), width)


def _steps(values: Sequence[float], max_points: int = 200) -> list[tuple[float, float]]:
    """Points of the cumulative distribution: all values, or evenly spaced ranks and the last 40 if there are many."""
    count = len(values)
    ranks = (
        range(count)
        if count <= max_points
        else sorted({*range(0, count, count // max_points), *range(count - 40, count)})
    )
    return [(values[0], 0.0), *((values[rank], (rank + 1) / count) for rank in ranks)]


def _bounds(bounds: tuple[float, float], drawn: Sequence[Line]) -> tuple[float, float]:
    lows = [line.series.summary.low for line in drawn if line.series.summary.low is not None]
    highs = [line.series.summary.high for line in drawn if line.series.summary.high is not None]
    marks = ticks(min([bounds[0], *lows]), max([bounds[1], *highs, bounds[0] + 1e-9]), 4)
    return marks[0], marks[-1]


def _y(value: float, low: float, high: float, top: float, bottom: float) -> float:
    return bottom - (bottom - top) * (value - low) / (high - low)


def _y_axis(low: float, high: float, top: float, bottom: float, max_ticks: int) -> str:
    marks = ticks(low, high, max_ticks)
    if len(marks) > max_ticks:
        marks = [low, high]
    parts = []
    for mark in marks:
        if low <= mark <= high:
            y = _y(mark, low, high, top, bottom)
            parts.append(rule("grid", LEFT, y, WIDTH - RIGHT, y))
            parts.append(text(LEFT - 6, y + 4, tick_label(mark, marks[1] - marks[0]), "end"))
    parts.append(rule("axis", LEFT, top, LEFT, bottom))
    return "".join(parts)


def _line(line: Line, axis: TimeAxis, low: float, high: float, top: float, bottom: float, *, marked: bool) -> str:
    """One series: a path of the means, a band from minimum to maximum, and if `marked` a marker now and then."""

    def y(value: float) -> float:
        return _y(value, low, high, top, bottom)

    path, band, marks = [], [], []
    next_mark = -1.0
    for segment in line.series.segments():
        points = [(axis.x(bucket.middle_s), y(bucket.mean)) for bucket in segment]
        # A path of one point draws nothing, so a single sample between two gaps becomes a short dash.
        path.append(polyline(points) + ("h2.5" if len(points) == 1 else ""))
        if any(bucket.high > bucket.low for bucket in segment):
            band.append(_band(segment, axis, y))
        for bucket in segment:
            x = axis.x(bucket.middle_s)
            if marked and x >= next_mark:
                marks.append(marker(line.style, x, y(bucket.mean), line.style))
                next_mark = x + _MARK_EVERY_PX
    if not path:
        return ""
    style = line.style % STYLES
    shadow = f'<path class="band s{style}" d="{"".join(band)}"/>' if band else ""
    return f'{shadow}<path class="line s{style}" d="{"".join(path)}"/>{"".join(marks)}'


def _band(segment: Sequence[Bucket], axis: TimeAxis, y: Callable[[float], float]) -> str:
    upper = [(axis.x(bucket.middle_s), y(bucket.high)) for bucket in segment]
    lower = [(axis.x(bucket.middle_s), y(bucket.low)) for bucket in reversed(segment)]
    return polyline([*upper, *lower]) + "Z"


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """The path of a line through these points, to a tenth of a pixel, as short as SVG allows: `M84,30.5l2.2-.3`."""
    at = [(round(10 * x), round(10 * y)) for x, y in points]
    (x0, y0), *_ = at
    steps = [(x - px, y - py) for (px, py), (x, y) in pairwise(at)]
    numbers = "".join(_number(value) for step in steps for value in step)
    return f"M{_number(x0).lstrip(',')}{_number(y0)}" + (f"l{numbers.lstrip(',')}" if numbers else "")


def _number(tenths: int) -> str:
    """A number after a separator; a sign is one already."""
    sign = "-" if tenths < 0 else ","
    whole, rest = divmod(abs(tenths), 10)
    return f"{sign}{whole or ('' if rest else 0)}{f'.{rest}' if rest else ''}"


def _legend(drawn: Sequence[Line], top: float) -> tuple[str, float]:
    """The legend above a plot, and the y coordinate below it."""
    parts = []
    x = float(LEFT)
    for line in drawn:
        needed = 52 + 6.6 * len(line.label)
        if x + needed > WIDTH - RIGHT and x > LEFT:
            x, top = float(LEFT), top + 16
        style = line.style % STYLES
        parts.append(rule(f"line s{style}", x, top, x + 30, top) + marker(line.style, x + 15, top, line.style))
        parts.append(text(x + 36, top + 4, line.label))
        x += needed
    return "".join(parts), top + 10


def marker(shape: int, x: float, y: float, style: int) -> str:
    """A small mark: circle, square, triangle, diamond or cross."""
    name, kind = f'class="mark s{style % STYLES}"', _MARKERS[shape % len(_MARKERS)]
    if kind == "circle":
        return f'<circle {name} cx="{x:.1f}" cy="{y:.1f}" r="2.8"/>'
    paths = {
        "square": f"M{x - 2.6:.1f},{y - 2.6:.1f}h5.2v5.2h-5.2Z",
        "triangle": f"M{x:.1f},{y - 3.4:.1f}l3.2,5.8h-6.4Z",
        "diamond": f"M{x:.1f},{y - 3.6:.1f}l3.6,3.6l-3.6,3.6l-3.6,-3.6Z",
        "cross": f"M{x - 2.8:.1f},{y - 2.8:.1f}l5.6,5.6m0,-5.6l-5.6,5.6",
    }
    return f'<path {name} d="{paths[kind]}"/>'


def rule(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="{name}" d="M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{place}>{esc(words)}</text>'


def svg(name: str, title: str, description: str, height: float, body: str, width: int = WIDTH) -> str:
    """An SVG element with a title and a description; `name` must be unique on the page."""
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{name}-t">{esc(title)}</title>'
        f'<desc id="{name}-d">{esc(description)}</desc>{body}</svg>'
    )
