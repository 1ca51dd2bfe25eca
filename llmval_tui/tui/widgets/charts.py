"""Charts as rows of a pane: a title, the chart, its time axis; one or several side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.terminal.axis import TimeAxis, axis_row, band_range, fitted_range, range_top
from llmval_tui.terminal.buckets import Bucket
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, Column, Kind, Plot, Range, chart_rows, limit_is_inside
from llmval_tui.terminal.format import number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.rows import Row, Span, fit_spans
from llmval_tui.tui.widgets.stack import PaneBlock, block

RANGES = ("zero", "fitted", "limit")
WINDOWS = ("whole", "phase", "recent")
RANGE_WORDS = {"zero": "from zero", "fitted": "fitted", "limit": "to the limit"}
WINDOW_WORDS = {"whole": "the whole run", "phase": "this phase", "recent": "the last 2 min"}
RECENT_S = 120.0
STEP_S = RECENT_S / 4  # the window of the last minutes steps on by a quarter: each step draws all charts again
TALLEST = 9  # rows of a chart
TALL = 30  # where nothing else can use the rows


@dataclass
class ChartView:
    """The operator's choices for the charts of a pane; they last until the dashboard ends."""

    range: str = RANGES[0]
    window: str = WINDOWS[0]

    def next_range(self) -> None:
        self.range = RANGES[(RANGES.index(self.range) + 1) % len(RANGES)]

    def next_window(self) -> None:
        self.window = WINDOWS[(WINDOWS.index(self.window) + 1) % len(WINDOWS)]

    def changed(self) -> list[str]:
        """The choices that are not the usual ones, in words."""
        found = [] if self.range == RANGES[0] else [f"range {RANGE_WORDS[self.range]}"]
        return found + ([] if self.window == WINDOWS[0] else [WINDOW_WORDS[self.window]])


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart with its title, ready to be drawn at any height."""

    title: tuple[Span, ...]
    plot: Plot
    columns: Sequence[Column | None]
    axis: TimeAxis
    notes: tuple[Span, ...] = ()  # at the right end of the title; the first ones go if there is no room
    lane: str = ""  # signs below the chart, one for each cell
    lane_note: str = ""


def chosen_range(kind: Kind, found: Bucket | None, limit: float | None, choice: str, least: float = 0.0) -> Range:
    """The range of a chart for its values and the operator's choice."""
    lowest, highest = (found.lowest, found.highest) if found else (None, None)
    if choice == "limit" and limit is not None:
        return Range(0.0, range_top(max(highest or 0.0, limit), least))
    if choice == "fitted" and lowest is not None and highest is not None:
        return Range(*fitted_range(lowest, highest))
    return Range(*band_range(lowest, highest)) if kind is Kind.BAND else Range(0.0, range_top(highest, least))


def limit_note(limit: float | None, name: str, shown: Range, glyphs: Glyphs) -> tuple[Span, ...]:
    """What the limit is, and where it is if it is not in the chart."""
    if limit is None:
        return ()
    if limit_is_inside(limit, shown):
        sign = "⠂⠂" if glyphs.charts == "braille" else glyphs.limit
        return ((f"{sign} {name} {number(limit)}", "warn"),)
    return ((f"{name} {number(limit)} off the {'top' if limit > shown.top else 'bottom'}", "muted"),)


def window_axis_start(window: str, newest_s: float, phase_s: float | None) -> float:
    """The time at which the axis begins: 0, the start of the phase, or a multiple of `STEP_S`."""
    if window == "phase" and phase_s is not None:
        return max(0.0, phase_s)
    if window == "recent":
        return max(0.0, -(-(newest_s - RECENT_S) // STEP_S) * STEP_S)
    return 0.0


def title_row(chart: Chart, width: int) -> list[Span]:
    """The title, and its notes at the right end as far as they fit: half a note says something else."""
    title = fit_spans(chart.title, width)[:-1] if _length(chart.title) > width else list(chart.title)
    notes = list(chart.notes)
    while notes and _length(title) + _length(notes) + 2 * len(notes) > width:
        notes.pop(0)
    gap = width - _length(title) - _length(notes) - 2 * max(0, len(notes) - 1)
    spans = [*title, (" " * gap, "text")]
    for index, note in enumerate(notes):
        spans += [("  ", "text"), note] if index else [note]
    return spans


def _length(spans: Sequence[Span]) -> int:
    return sum(cell_len(text) for text, _ in spans)


def chart_block(chart: Chart, width: int, height: int, glyphs: Glyphs, *, axis: bool = True) -> list[list[Span]]:
    """The title, `height` rows of chart, the lane if there is one, and the time axis; each exactly `width` cells."""
    inner = width - LABEL
    rows = [title_row(chart, width)]
    rows += chart_rows(chart.plot, chart.columns, chart.axis, width, height, glyphs)
    if chart.lane:
        lane = chart.lane[:inner].ljust(inner)
        spans: list[Span] = [(" " * LABEL, "text"), (lane, "warn")]
        if chart.lane_note and not lane[-len(chart.lane_note) :].strip():
            spans[1:] = [(lane[: -len(chart.lane_note)], "warn"), (chart.lane_note, "muted")]
        rows.append(spans)
    if axis:
        rows.append([(" " * LABEL + axis_row(chart.axis, inner, glyphs.tick), "muted")])
    return rows


def beside(blocks: Sequence[Sequence[Sequence[Span]]], gap: int = 1) -> list[Row]:
    """Blocks of the same height side by side, one blank before each."""
    rows = []
    for parts in zip(*blocks, strict=True):
        spans: list[Span] = []
        for index, part in enumerate(parts):
            spans += [(" " * (gap if index else 1), "text"), *part]
        rows.append(Row(tuple(spans)))
    return rows


def shares(width: int, count: int, gap: int = 1) -> list[int]:
    """The widths of `count` charts side by side in `width` cells, with the blank before each."""
    room = width - 1 - gap * (count - 1)
    return [room // count + (index < room % count) for index in range(count)]


def chart_row(
    name: str,
    charts: Sequence[Chart],
    widths: Sequence[int],
    glyphs: Glyphs,
    *,
    rank: int,
    least: int,
    wish: int,
    late: bool = False,
    tallest: int = TALLEST,
) -> PaneBlock:
    """Charts side by side; `least` and `wish` are rows of chart, to which title, lane and axis come."""
    lane = int(any(chart.lane for chart in charts))
    more = 2 + lane

    def draw(rows: int) -> list[Row]:
        return beside(
            [chart_block(one, cells, rows - more, glyphs) for one, cells in zip(charts, widths, strict=True)], 2
        )

    return block(name, draw, rank=rank, least=least + more, wish=wish + more, most=tallest + more, grows=1, late=late)
