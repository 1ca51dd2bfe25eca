"""The axes of charts: round ranges, round times, the width of a dot, and their labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.terminal.format import number

# Few steps, so that a range rarely changes: a new range draws the whole chart again.
_RANGES = (1, 1.5, 2, 3, 4, 4.5, 5, 6, 7.5, 8, 10)
_TIMES_S = (
    0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600,
    43200, 86400,
)  # fmt: skip
FITTED_FROM = 0.6  # a band whose lowest value is over this share of its highest does not begin at 0
UNKNOWN_END_S = 60.0  # the axes of a run without an expected end are this length times a power of GROWTH
SHORTEST_AXIS_S = 30.0  # narrower, each of the first values would be some cells wide
# An axis that has become too short is made longer by a quarter. So at least 80 % of a chart are filled, except in the
# first seconds, and it is drawn again 20 times in a run of an hour. A doubled axis would leave half of the chart blank.
GROWTH = 1.25


def range_top(highest: float | None, least: float = 0.0) -> float:
    """The upper end of a range from 0 that contains `highest`: 1, 1.5, 2, 3, … 8 times a power of ten.

    Args:
        highest: the highest value so far; None: none.
        least: the range is at least this high.
    """
    wanted = max(highest or 0.0, least)
    if not wanted > 0 or not math.isfinite(wanted):
        return 1.0
    power = 10.0 ** math.floor(math.log10(wanted))
    # A value that is as high as the range, but for its last bits, must not need the next one.
    return next(step * power for step in _RANGES if step * power >= wanted * (1 - 1e-9))


def band_range(lowest: float | None, highest: float | None) -> tuple[float, float]:
    """The range of a band or a line: from 0, or close around it if it is far from 0."""
    if lowest is None or highest is None or lowest < FITTED_FROM * highest or lowest <= 0:
        return 0.0, range_top(highest)
    return fitted_range(lowest, highest)


def fitted_range(lowest: float, highest: float) -> tuple[float, float]:
    """Round ends close around the values: multiples of 1, 2 or 5 times a power of ten, at most half their spread."""
    wanted = max(highest - lowest, abs(highest) * 0.05, 1e-9) / 2
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * factor for factor in (5, 2, 1) if power * factor <= wanted * (1 + 1e-9))
    bottom = math.floor(lowest / step) * step
    top = math.ceil(highest / step) * step
    return bottom, top if top > bottom else bottom + step


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time axis of a chart: `dots` columns of dots, each `dot_s` wide, from `start_s` on."""

    start_s: float
    dot_s: float
    dots: int

    @property
    def end_s(self) -> float:
        return self.start_s + self.dots * self.dot_s

    def dot_of(self, at_s: float) -> int:
        """The dot of a time; it may be outside the chart."""
        return math.floor((at_s - self.start_s) / self.dot_s)


def time_axis(span_s: float, dots: int, start_s: float = 0.0) -> TimeAxis:
    """An axis on which `span_s` seconds take the whole width, whatever the width of a dot is then."""
    dots = max(1, dots)
    return TimeAxis(start_s, max(span_s, 1e-3) / dots, dots)


def coarser(axis: TimeAxis, step_s: float) -> TimeAxis:
    """The same time in dots of at least `step_s` seconds: the axis itself if its dots are not narrower."""
    if axis.dot_s >= step_s * (1 - 1e-9):
        return axis
    span_s = axis.dot_s * axis.dots
    dots = max(1, math.floor(span_s / step_s + 1e-9))
    return TimeAxis(axis.start_s, span_s / dots, dots)


def usual_step(steps_s: Sequence[float]) -> float:
    """The time between two values, from the times between the newest ones: rounded to one digit; 0 without any.

    Rounded, because the columns of a chart depend on it: a clock that is off by a millisecond must not draw it again.
    """
    known = sorted(step for step in steps_s if step > 0)
    if not known:
        return 0.0
    middle = known[len(known) // 2]
    power = 10.0 ** math.floor(math.log10(middle))
    return round(middle / power) * power


def whole_run_s(elapsed_s: float, expected_s: float | None) -> float:
    """The length of the axis of a run that is at work: a little more than what has passed, by steps of `GROWTH`.

    The last step but those of a late run ends at the expected end. How far a run has come is what its progress bar
    says; a chart shows what has been measured, and so uses its whole width from the first half minute on.
    """
    span = expected_s if expected_s is not None and expected_s > 0 else UNKNOWN_END_S
    wanted = max(elapsed_s, SHORTEST_AXIS_S)
    while span / GROWTH >= wanted:
        span /= GROWTH
    while span < elapsed_s:
        span *= GROWTH
    return span


def axis_row(axis: TimeAxis, width: int, tick: str) -> str:
    """The labels below a chart of `width` cells, each behind the sign `tick` at its time."""
    if width <= 0:
        return ""
    cell_s = axis.dot_s * axis.dots / width
    for step in _TIMES_S:
        longest = len(tick) + len(clock(axis.end_s, step))
        if step / cell_s >= longest + 1 and (step >= 1 or axis.end_s - axis.start_s < 5):
            break
    cells = [" "] * width
    at_s = math.ceil(axis.start_s / step - 1e-9) * step
    while at_s < axis.end_s:
        text = tick + clock(at_s, step)
        start = round((at_s - axis.start_s) / cell_s)
        if start + len(text) <= width:
            cells[start : start + len(text)] = text
        at_s += step
    return "".join(cells)


def clock(seconds: float, step_s: float = 1.0) -> str:
    """A time on an axis whose labels are `step_s` apart: `0:10`, `1:02:30`, `3h`, `3h30`."""
    if step_s < 1:
        return f"{seconds:.1f}"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if step_s >= 3600:
        return f"{hours}h"
    if step_s >= 600 and hours:
        return f"{hours}h{minutes:02d}" if minutes else f"{hours}h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def dot_width(seconds: float) -> str:
    """The width of a dot in words: `0.5 s`, `5 min`, `2 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size * 0.995:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


def range_label(value: float, other: float = 0.0) -> str:
    """An end of a range. With a fraction on one end, both ends have one: `7.0` to `9.5`."""
    if value != int(value) or (value and other != int(other)):
        return f"{value:.2f}" if abs(value) < 1 and round(value, 1) != value else f"{value:.1f}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (size > 1e3 and abs(value) >= size):
            return f"{value / size:g}{letter}"  # at most five cells
    return number(value)
