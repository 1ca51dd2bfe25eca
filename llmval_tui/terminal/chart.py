"""Charts as text: areas, bands and shortfalls of values over time, in braille, blocks or ASCII. Pure functions.

A chart fills from the left and never scrolls: its axis is the whole run so far, and only the column of the newest value
changes. So a new value costs few bytes on the line, and what was drawn can be compared with what comes.

In braille, a cell has two columns of four dots (Unicode 15, block U+2800). Solid dots go up to the lowest value of a
column, scattered ones up to the highest. A measured zero is one dot; a column without a value is blank.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from llmval_tui.terminal.axis import TimeAxis, coarser, range_label
from llmval_tui.terminal.buckets import Bucket, Buckets
from llmval_tui.terminal.glyphs import Glyphs

Span = tuple[str, str]  # text, role
Cell = tuple[str, str]  # one character, role
LABEL = 6  # cells of the labels at the left of a chart, with a blank behind them
BLANK: Cell = (" ", "text")
MOST_COLUMNS = 2048  # columns of cells that are kept: more than 28 charts at 200×60 have, so that each is drawn once


class Kind(StrEnum):
    """What the columns of a chart show."""

    AREA = "area"  # from the bottom: solid to the lowest, scattered to the highest value
    SHORTFALL = "shortfall"  # solid to what was reached, hatched to what was asked
    BAND = "band"  # from the lowest to the highest value


class Column(NamedTuple):
    """The values of one column of dots."""

    solid: float  # AREA: the lowest value; SHORTFALL: the reached one; BAND: the lower end
    upper: float  # AREA: the highest value; SHORTFALL: the asked one; BAND: the upper end


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line, for example where a phase begins."""

    at_s: float
    label: str = ""


class Range(NamedTuple):
    """The values at the lower and the upper end of a chart."""

    bottom: float
    top: float


class Plot(NamedTuple):
    """What a chart shows, without its size. A tuple: it is looked up in a cache for every column of every chart."""

    kind: Kind
    range: Range
    role: str = "chart"
    fill: str = "fill"  # role of an area below its top row
    limit: float | None = None
    marks: tuple[Mark, ...] = ()


def columns_of(buckets: Buckets, axis: TimeAxis, step_s: float = 0.0) -> list[Column | None]:
    """The column of each dot of the axis, up to the newest value: its lowest and highest value.

    Args:
        step_s: the time between two values. A value that takes more time than a dot has all of its dots.
    """
    coarse = coarser(axis, max(step_s, buckets.width_s))
    found = [
        Column(one.lowest, one.highest) if one else None
        for one in _spans(buckets, coarse, _dots_until(buckets, coarse))
    ]
    return stretched(bridged(found), coarse, axis)


def shortfall_columns(reached: Buckets, asked: Buckets, axis: TimeAxis, step_s: float = 0.0) -> list[Column | None]:
    """The means of two series; what was asked is drawn where it is more than what was reached."""
    coarse = coarser(axis, max(step_s, reached.width_s, asked.width_s))
    found: list[Column | None] = []
    dots = max(_dots_until(reached, coarse), _dots_until(asked, coarse))
    for got, wanted in zip(*(_spans(series, coarse, dots) for series in (reached, asked)), strict=True):
        if got is None and wanted is None:
            found.append(None)
        else:
            solid = got.mean if got else 0.0
            found.append(Column(solid, max(solid, wanted.mean if wanted else 0.0)))
    return stretched(bridged(found), coarse, axis)


def band_columns(lower: Buckets, upper: Buckets, axis: TimeAxis, step_s: float = 0.0) -> list[Column | None]:
    """From the lowest value of one series to the highest of the other (p50 and p99)."""
    coarse = coarser(axis, max(step_s, lower.width_s, upper.width_s))
    found: list[Column | None] = []
    dots = max(_dots_until(lower, coarse), _dots_until(upper, coarse))
    for both in zip(*(_spans(series, coarse, dots) for series in (lower, upper)), strict=True):
        known = [one for one in both if one is not None]
        found.append(Column(min(b.lowest for b in known), max(b.highest for b in known)) if known else None)
    return stretched(bridged(found), coarse, axis)


def stretched(columns: list[Column | None], coarse: TimeAxis, axis: TimeAxis) -> list[Column | None]:
    """The columns of an axis with fewer dots, as columns of `axis`."""
    if coarse.dots == axis.dots:
        return columns
    dots = -(-len(columns) * axis.dots // coarse.dots)
    return [columns[dot * coarse.dots // axis.dots] for dot in range(dots)]


def _spans(buckets: Buckets, axis: TimeAxis, dots: int) -> list[Bucket | None]:
    """The values of the first dots of an axis."""
    return buckets.spans(axis.start_s, axis.dot_s, dots)


def _dots_until(buckets: Buckets, axis: TimeAxis) -> int:
    """The number of dots of the axis up to the newest value."""
    return max(0, min(axis.dots, axis.dot_of(buckets.end_s - buckets.width_s / 2) + 1)) if len(buckets) else 0


def bridged(columns: list[Column | None]) -> list[Column | None]:
    """One empty column between two others repeats its left one, because a sample came late; more are a gap."""
    return [
        columns[i - 1] if column is None and 0 < i < len(columns) - 1 and columns[i + 1] is not None else column
        for i, column in enumerate(columns)
    ]


def dots_across(width: int, glyphs: Glyphs) -> int:
    """The columns of dots in `width` cells."""
    return width * (2 if glyphs.charts == "braille" else 1)


def plot_rows(
    plot: Plot, columns: Sequence[Column | None], axis: TimeAxis, width: int, height: int, glyphs: Glyphs
) -> list[list[Span]]:
    """The chart without labels: `height` rows of `width` cells, the top one first."""
    if width <= 0 or height <= 0:
        return []
    draw = {"braille": _braille_cells, "blocks": _block_cells, "ascii": _ascii_cells}[glyphs.charts]
    cells = draw(plot, columns, width, height)
    _add_lines(cells, plot, axis, width, height, glyphs)
    return [_joined(line) for line in zip(*cells, strict=True)]


def chart_rows(
    plot: Plot, columns: Sequence[Column | None], axis: TimeAxis, width: int, height: int, glyphs: Glyphs
) -> list[list[Span]]:
    """The chart in `width` cells, with the ends of its range at its left."""
    bottom, top = plot.range.bottom, plot.range.top
    labels = {0: range_label(top, bottom), height - 1: range_label(bottom, top)}
    rows = plot_rows(plot, columns, axis, width - LABEL, height, glyphs)
    return [[(f"{labels.get(y, ''):>{LABEL - 1}} ", "muted"), *spans] for y, spans in enumerate(rows)]


def limit_is_inside(limit: float, shown: Range) -> bool:
    return shown.bottom <= limit <= shown.top


# Dots of a braille cell by a mask whose bit 0 is the lowest dot, for the left and the right column.
def _dots(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(dot for bit, dot in enumerate(order) if mask >> bit & 1) for mask in range(16))


_LEFT, _RIGHT = _dots((0x40, 0x04, 0x02, 0x01)), _dots((0x80, 0x20, 0x10, 0x08))
# The scattered dots of a column: every second one, shifted by one in each second column.
_SCATTER = (sum(1 << bit for bit in range(1, 400, 2)), sum(1 << bit for bit in range(0, 400, 2)))


def _level(value: float, shown: Range, levels: int) -> int:
    """The number of levels up to the value; a measured value has at least one."""
    share = (value - shown.bottom) / (shown.top - shown.bottom) if shown.top > shown.bottom else 0.0
    return max(1, min(levels, round(share * levels)))


class _Masks(NamedTuple):
    """The levels of a column, as bits from the bottom up."""

    solid: int
    scattered: int
    top: int  # the number of levels up to the one that is drawn bright


_EMPTY = _Masks(0, 0, 0)


def _masks(column: Column | None, plot: Plot, levels: int, parity: int) -> _Masks:
    if column is None:
        return _EMPTY
    upper = _level(column.upper, plot.range, levels)
    if plot.kind is Kind.BAND:
        lower = min(_level(column.solid, plot.range, levels), upper)
        return _Masks((1 << upper) - (1 << (lower - 1)), 0, upper)
    solid = _level(column.solid, plot.range, levels)
    if upper <= solid:
        return _Masks((1 << solid) - 1, 0, solid)
    spread = (1 << upper) - (1 << solid)
    # The highest level is always drawn, so that no peak is lost.
    scattered = spread & _SCATTER[parity] | 1 << (upper - 1)
    return _Masks((1 << solid) - 1, scattered, solid if plot.kind is Kind.SHORTFALL else upper)


def _role(plot: Plot, row: int, units: int, columns: Iterable[_Masks]) -> str:
    """The role of a cell: its columns' tops are bright, the rest is dim, and what was only asked has its own role."""
    if plot.kind is Kind.BAND:
        return plot.role
    columns = tuple(columns)
    low, high = row * units, (row + 1) * units
    if any(low < masks.top <= high and masks.solid | masks.scattered for masks in columns):
        return plot.role
    inside = (1 << high) - (1 << low)
    if plot.kind is Kind.SHORTFALL and not any(masks.solid & inside for masks in columns):
        return "gap"
    return plot.fill


@lru_cache(maxsize=2048)
def _braille_cell(dots: int, role: str) -> Cell:
    """One object for each sign and role: the columns that are kept would have thousands of each."""
    return chr(0x2800 + dots), role


@lru_cache(maxsize=MOST_COLUMNS)
def _braille_column(plot: Plot, left: Column | None, right: Column | None, height: int) -> tuple[Cell, ...]:
    """The cells of one column of cells, the top one first."""
    pair = (_masks(left, plot, 4 * height, 0), _masks(right, plot, 4 * height, 1))
    a, b = (masks.solid | masks.scattered for masks in pair)
    cells = []
    for row in range(height - 1, -1, -1):
        dots = _LEFT[a >> 4 * row & 15] | _RIGHT[b >> 4 * row & 15]
        cells.append(_braille_cell(dots, _role(plot, row, 4, pair)) if dots else BLANK)
    return tuple(cells)


def _braille_cells(plot: Plot, columns: Sequence[Column | None], width: int, height: int) -> list[list[Cell]]:
    bare = _without_lines(plot)
    padded = [*columns[: 2 * width], *[None] * (2 * width - len(columns))]
    return [
        list(_braille_column(bare, left, right, height)) for left, right in zip(padded[::2], padded[1::2], strict=True)
    ]


@lru_cache(maxsize=MOST_COLUMNS)
def _block_column(plot: Plot, column: Column | None, height: int, *, ascii_only: bool) -> tuple[Cell, ...]:
    if column is None:
        return (BLANK,) * height
    units = 1 if ascii_only else 2 if plot.kind is Kind.BAND else 8
    full, scattered = ("#", ":") if ascii_only else ("█", "░")
    masks = _masks(column, plot, units * height, 0)
    cells = []
    for row in range(height - 1, -1, -1):
        part = masks.solid >> units * row & (1 << units) - 1
        if not part:
            spread = masks.scattered >> units * row
            # A scattered part of a cell is the whole cell: no sign shows less.
            sign = scattered if spread else " "
        elif part == (1 << units) - 1:
            sign = full
        elif plot.kind is Kind.BAND:
            sign = "▄" if part == 1 else "▀"
        else:
            sign = "▁▂▃▄▅▆▇█"[part.bit_length() - 1]
        cells.append((sign, _role(plot, row, units, (masks,))) if sign != " " else BLANK)
    if plot.kind is not Kind.BAND and column.upper <= 0 and plot.range.bottom == 0:
        cells[-1] = ("_", plot.role)  # a measured zero
    return tuple(cells)


def _block_cells(plot: Plot, columns: Sequence[Column | None], width: int, height: int) -> list[list[Cell]]:
    bare = _without_lines(plot)
    padded = [*columns[:width], *[None] * (width - len(columns))]
    return [list(_block_column(bare, column, height, ascii_only=False)) for column in padded]


def _ascii_cells(plot: Plot, columns: Sequence[Column | None], width: int, height: int) -> list[list[Cell]]:
    bare = _without_lines(plot)
    padded = [*columns[:width], *[None] * (width - len(columns))]
    return [list(_block_column(bare, column, height, ascii_only=True)) for column in padded]


@lru_cache(maxsize=256)
def _without_lines(plot: Plot) -> Plot:
    """The plot without limit and marks, so that drawn columns are found again in the cache."""
    return Plot(plot.kind, plot.range, plot.role, plot.fill)


def _add_lines(cells: list[list[Cell]], plot: Plot, axis: TimeAxis, width: int, height: int, glyphs: Glyphs) -> None:
    """Draw the limit and the marks where nothing else is drawn."""
    dots_per_cell = max(1, axis.dots // width)
    places = [(axis.dot_of(mark.at_s) // dots_per_cell, mark.label) for mark in plot.marks]
    places = [(x, label) for x, label in places if 0 <= x < width]
    for index, (x, label) in enumerate(places):
        for y in range(height):
            if cells[x][y] is BLANK:
                cells[x][y] = (glyphs.phase, "track")
        end = places[index + 1][0] if index + 1 < len(places) else width
        room = range(x + 1, min(end, x + 1 + len(label)))
        if len(room) == len(label) and all(cells[i][0] is BLANK for i in room):
            for i, character in zip(room, label, strict=True):
                cells[i][0] = (character, "muted")
    if plot.limit is not None and limit_is_inside(plot.limit, plot.range):
        level = _level(plot.limit, plot.range, 4 * height) - 1
        # Braille has four places in a cell. The line's dots are those of one column only, so it is not a value.
        sign = chr(0x2800 + _LEFT[1 << level % 4]) if glyphs.charts == "braille" else glyphs.limit
        y = height - 1 - level // 4
        for x in range(width):
            if cells[x][y] is BLANK:
                cells[x][y] = (sign, "muted" if plot.role == "muted" else "warn")


def _joined(cells: Sequence[Cell]) -> list[Span]:
    """A row of cells as spans. A plain loop: with `groupby`, a third of the time of all charts was spent here."""
    spans: list[Span] = []
    text, role = cells[0]
    for character, its_role in cells[1:]:
        if its_role == role:
            text += character
        else:
            spans.append((text, role))
            text, role = character, its_role
    spans.append((text, role))
    return spans
