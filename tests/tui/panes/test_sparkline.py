"""Charts: zero, missing and small values look different, and a chart moves only by whole cells."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.terminal.glyphs import ASCII, UNICODE, Glyphs
from llmval_tui.tui.widgets.sparkline import bar, nice_top, sparkline, tall_sparkline

BRAILLE = replace(UNICODE, braille=True)
SETS = pytest.mark.parametrize("glyphs", [UNICODE, ASCII, BRAILLE], ids=["block", "ascii", "braille"])


@SETS
def test_zero_missing_and_small_look_different(glyphs: Glyphs) -> None:
    zero, missing, small = (sparkline([v, v], 100.0, 1, glyphs) for v in (0.0, None, 30.0))
    assert len({zero, missing, small}) == 3


@SETS
@given(
    values=st.lists(st.none() | st.floats(0, 200), max_size=60),
    more=st.lists(st.floats(0, 100), min_size=2, max_size=2),
    width=st.integers(1, 20),
)
def test_a_drawn_cell_does_not_change(
    glyphs: Glyphs, values: list[float | None], more: list[float], width: int
) -> None:
    before = sparkline(values, 100.0, width, glyphs)
    after = sparkline([*values, *more], 100.0, width, glyphs)
    assert len(before) == len(after) == width
    # Two samples more move it by one cell; only the newest cell, if it was half full, may change besides.
    settled = width - 1 if len(values) % 2 == 0 else width - 2
    assert after[: max(0, settled)] == before[1 : 1 + max(0, settled)]


def test_the_drawing_does_not_depend_on_the_length_of_the_history() -> None:
    values = [float(v % 37) for v in range(101)]
    assert sparkline(values[-41:], 40.0, 20, UNICODE, first=60) == sparkline(values, 40.0, 20, UNICODE)


def test_a_tall_chart_fills_from_below() -> None:
    assert tall_sparkline([100.0] * 4, 100.0, 2, 2, UNICODE) == ["██", "██"]
    assert tall_sparkline([50.0] * 4, 100.0, 2, 2, UNICODE) == ["  ", "██"]
    assert tall_sparkline([0.0] * 4, 100.0, 2, 2, UNICODE) == ["  ", "__"]


@given(fraction=st.floats(-1, 2), width=st.integers(0, 40), glyphs=st.sampled_from([UNICODE, ASCII]))
def test_a_bar_has_its_width(fraction: float, width: int, glyphs: Glyphs) -> None:
    filled, empty = bar(fraction, width, glyphs)
    assert len(filled + empty) == width
    assert (filled == "") or fraction > 0


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_the_range_holds_every_value(values: list[float]) -> None:
    assert nice_top(values) >= max(values)
