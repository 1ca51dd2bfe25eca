"""Charts: the exact cells in each character set, what a new value changes, and how little it changes."""

import random

import pytest

from llmval_tui.terminal.axis import TimeAxis, axis_row, time_axis
from llmval_tui.terminal.buckets import Buckets
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import (
    Column,
    Kind,
    Mark,
    Plot,
    Range,
    band_columns,
    bridged,
    chart_rows,
    columns_of,
    dots_across,
    plot_rows,
    shortfall_columns,
)
from llmval_tui.terminal.glyphs import ASCII, glyphs

BRAILLE, BLOCKS = glyphs(False, "braille"), glyphs(False, "blocks")
SETS = {"braille": BRAILLE, "blocks": BLOCKS, "ascii": ASCII}
AREA = Plot(Kind.AREA, Range(0, 8))


def drawn(plot: Plot, columns: list[Column | None], width: int, height: int, charts: str = "braille") -> list[str]:
    axis = TimeAxis(0, 1, dots_across(width, SETS[charts]))
    rows = plot_rows(plot, columns, axis, width, height, SETS[charts])
    assert all(sum(cell_len(text) for text, _ in row) == width for row in rows) and len(rows) == height
    return ["".join(text for text, _ in row) for row in rows]


def roles(plot: Plot, columns: list[Column | None], width: int, height: int) -> list[list[str]]:
    rows = plot_rows(plot, columns, TimeAxis(0, 1, 2 * width), width, height, BRAILLE)
    return [[role for text, role in row for _ in text] for row in rows]


def flat(*values: float | None) -> list[Column | None]:
    return [None if value is None else Column(value, value) for value in values]


@pytest.mark.parametrize(
    ("charts", "columns", "expected"),
    [
        ("braille", (3, 4, 4.5, 6, 6, 7), [" ⢠⣴", "⣾⣿⣿"]),
        ("blocks", (1, 2, 3, 4, 5, 7), ["    ▂▆", "▂▄▆███"]),
        ("ascii", (1, 2, 3, 4, 5, 7), ["     #", "######"]),
    ],
)
def test_an_area_fills_from_the_bottom(charts: str, columns: tuple[float, ...], expected: list[str]) -> None:
    assert drawn(AREA, flat(*columns), len(expected[0]), 2, charts) == expected


def test_zero_is_drawn_and_what_was_not_measured_is_blank() -> None:
    assert drawn(AREA, flat(0, 0, None, None, 0, None), 3, 1) == ["⣀ ⡀"]
    assert drawn(AREA, flat(0, None, 8), 3, 1, "blocks") == ["_ █"]
    assert drawn(AREA, flat(0, None, 8), 3, 1, "ascii") == ["_ #"]


def test_the_spread_is_scattered_and_its_peak_is_never_lost() -> None:
    # Solid to the lowest value (2 of 8 levels), every second dot above, and always the highest one.
    for highest in (5, 6):
        for first in (0, 1):
            columns = [*[None] * first, Column(2, highest)]
            text = "".join(drawn(AREA, columns, 1, 2))
            dots = sum((ord(cell) - 0x2800).bit_count() for cell in text if cell != " ")
            assert dots >= 2 + 1 + (highest - 3) // 2
    assert drawn(AREA, [Column(2, 6)] * 2, 1, 2) == ["⢤", "⣵"]
    assert drawn(AREA, [Column(4, 8)], 1, 2, "blocks") == ["░", "█"]
    assert drawn(AREA, [Column(4, 8)], 1, 2, "ascii") == [":", "#"]


def test_the_top_row_is_bright_and_the_rest_is_dim() -> None:
    assert roles(AREA, flat(8, 8), 1, 3) == [["chart"], ["fill"], ["fill"]]
    assert roles(AREA, [Column(1, 8)] * 2, 1, 2) == [["chart"], ["fill"]]


def test_a_shortfall_has_its_own_role_above_what_was_reached() -> None:
    plot = Plot(Kind.SHORTFALL, Range(0, 12))
    assert roles(plot, [Column(4, 12)] * 2, 1, 3) == [["gap"], ["gap"], ["chart"]]
    assert roles(plot, [Column(12, 12)] * 2, 1, 3) == [["chart"], ["fill"], ["fill"]]


def test_a_band_reaches_from_its_lower_to_its_upper_end() -> None:
    plot = Plot(Kind.BAND, Range(0, 8), role="chart2")
    assert drawn(plot, [Column(3, 6)] * 2, 1, 2) == ["⣤", "⠛"]
    assert drawn(plot, [Column(6, 8)], 1, 2, "ascii") == ["#", " "]
    assert drawn(plot, [Column(3, 6)], 1, 2, "blocks") == ["▄", "▀"]
    assert drawn(plot, [Column(4, 6)], 1, 3, "blocks") == [" ", "█", " "]
    assert roles(plot, [Column(1, 8)] * 2, 1, 2) == [["chart2"], ["chart2"]]


def test_limit_and_marks_are_drawn_only_where_nothing_else_is() -> None:
    plot = Plot(Kind.AREA, Range(0, 8), limit=6, marks=(Mark(4, "load"),))
    assert drawn(plot, flat(8, 8), 8, 2) == ["⣿⠄┊load⠄", "⣿ ┊     "]
    assert drawn(plot, flat(*[8] * 16), 8, 2) == ["⣿" * 8] * 2
    # In braille the line is where the limit is, to a quarter of a cell.
    places = [drawn(Plot(Kind.AREA, Range(0, 8), limit=limit), [], 1, 1) for limit in (0.1, 4, 6, 8)]
    assert places == [["⡀"], ["⠄"], ["⠂"], ["⠁"]]
    outside = Plot(Kind.AREA, Range(0, 8), limit=9)
    assert drawn(outside, [], 4, 2) == ["    ", "    "]
    assert drawn(Plot(Kind.AREA, Range(0, 8), limit=6, marks=(Mark(2, "a"),)), [], 6, 2, "ascii") == [
        "--|a--",
        "  |   ",
    ]
    # No room for the whole label: none, because half a word is a wrong one.
    close = Plot(Kind.AREA, Range(0, 8), marks=(Mark(2, "warmup"), Mark(6, "x")))
    assert drawn(close, [], 6, 1) == [" ┊ ┊x "]


def test_one_late_sample_is_bridged_and_more_are_a_gap() -> None:
    one, two = Column(1, 1), Column(2, 2)
    assert bridged([one, None, two]) == [one, one, two]
    assert bridged([one, None, None, two]) == [one, None, None, two]
    assert bridged([None, one, None]) == [None, one, None]


@pytest.mark.parametrize("charts", list(SETS))
@pytest.mark.parametrize("seed", range(5))
def test_a_new_value_changes_only_the_newest_cells(charts: str, seed: int) -> None:
    chance = random.Random(seed)
    buckets, width, height = Buckets(), 20, 4
    axis = time_axis(300, dots_across(width, SETS[charts]))

    def picture() -> list[str]:
        rows = plot_rows(AREA, columns_of(buckets, axis), axis, width, height, SETS[charts])
        return ["".join(text for text, _ in row) for row in rows]

    before = picture()
    for second in range(300):
        buckets.add(second, chance.uniform(0, 8))
        after = picture()
        changed = {x for old, new in zip(before, after, strict=True) for x in range(width) if old[x] != new[x]}
        cell = second * width // axis.dots // (axis.dot_s or 1)
        assert len(changed) <= 2 and all(abs(x - cell) <= 1 for x in changed), (second, changed)
        before = after


def test_the_columns_of_two_series() -> None:
    reached, asked, axis = Buckets(1.0), Buckets(1.0), TimeAxis(0, 1, 10)
    for at, (got, wanted) in enumerate([(1.0, 4.0), (5.0, 4.0)]):
        reached.add(at, got)
        asked.add(at, wanted)
    asked.add(2, 4.0)
    assert shortfall_columns(reached, asked, axis) == [Column(1, 4), Column(5, 5), Column(0, 4)]
    assert band_columns(reached, asked, TimeAxis(0, 2, 5)) == [Column(1, 5), Column(4, 4)]
    assert columns_of(reached, TimeAxis(0, 2, 5)) == [Column(1, 5)]


@pytest.mark.parametrize("charts", list(SETS))
@pytest.mark.parametrize(
    ("span", "every", "width"), [(64, 0.5, 60), (66, 1, 130), (7, 1, 93), (40, 10, 31), (3600, 1, 7)]
)
def test_values_fill_their_axis_whatever_its_width(charts: str, span: int, every: float, width: int) -> None:
    """A value that lasts longer than a dot has all of its dots, also where the two do not divide."""
    buckets, dots = Buckets(), dots_across(width, SETS[charts])
    for number in range(int(span / every)):
        buckets.add(number * every, 3.0 + number % 2)
    columns = columns_of(buckets, time_axis(span, dots), every)
    assert len(columns) == dots and None not in columns
    assert {column.solid for column in columns if column} <= {3.0, 4.0}


def test_a_gap_of_a_coarse_series_stays_a_gap() -> None:
    buckets = Buckets()
    for second in (*range(10), *range(20, 30)):
        buckets.add(second, 1.0)
    columns = columns_of(buckets, time_axis(30, 120), 1.0)
    assert [column is None for column in columns] == [40 <= dot < 80 for dot in range(120)]


def test_a_chart_has_both_ends_of_its_range_at_its_left() -> None:
    rows = chart_rows(Plot(Kind.BAND, Range(7, 9.5)), [], TimeAxis(0, 1, 8), 10, 3, BRAILLE)
    assert ["".join(text for text, _ in row) for row in rows] == ["  9.5     ", "          ", "  7.0     "]


@pytest.mark.parametrize(
    ("span", "width", "expected"),
    [
        (60, 40, "╵0:00  ╵0:10 ╵0:20  ╵0:30  ╵0:40 ╵0:50  "),
        (8 * 3600, 48, "╵0h   ╵1h   ╵2h   ╵3h   ╵4h   ╵5h   ╵6h   ╵7h   "),
    ],
)
def test_the_labels_of_the_time_axis(span: float, width: int, expected: str) -> None:
    assert axis_row(TimeAxis(0, span / width / 2, 2 * width), width, "╵") == expected


@pytest.mark.parametrize("charts", list(SETS))
def test_any_values_in_any_size_fill_exactly_the_chart(charts: str) -> None:
    chance = random.Random(7)
    for _ in range(300):
        width, height = chance.randint(1, 40), chance.randint(1, 9)
        columns: list[Column | None] = [
            None if chance.random() < 0.2 else Column(low := chance.uniform(-10, 20), low + chance.uniform(0, 9))
            for _ in range(chance.randint(0, 90))
        ]
        kind = chance.choice(list(Kind))
        bottom = chance.uniform(-1, 1)
        plot = Plot(kind, Range(bottom, bottom + chance.choice((0, 5))), limit=3.0, marks=(Mark(3, "load"), Mark(99)))
        drawn(plot, columns, width, height, charts)
