"""Ranges grow in few steps and contain every value; times and dots are round."""

import pytest

from llmval_tui.terminal.axis import (
    band_range,
    clock,
    dot_width,
    fitted_range,
    range_label,
    range_top,
    time_axis,
    whole_run_s,
)


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0, 1), (None, 1), (0.003, 0.003), (1.2, 1.5), (31, 40), (49.4, 50), (61, 75), (425, 450), (99, 100), (700, 750)],
)
def test_the_range_is_the_next_round_one(highest: float | None, top: float) -> None:
    assert range_top(highest) == pytest.approx(top)


def test_a_range_contains_its_values_and_only_grows() -> None:
    before = 0.0
    for value in range(1, 5000):
        top = range_top(value / 7)
        assert value / 7 <= top * (1 + 1e-9) and top >= before
        before = top


def test_a_band_far_from_zero_is_fitted_and_another_begins_at_zero() -> None:
    assert band_range(28, 50) == (0, 50)
    bottom, top = band_range(7.2, 8.8)
    assert (bottom, top) == (7.0, 9.0)
    assert band_range(None, None) == (0, 1)


def test_a_fitted_range_contains_equal_values() -> None:
    bottom, top = fitted_range(5.0, 5.0)
    assert bottom <= 5.0 <= top and bottom < top


def test_dots_have_a_round_width_and_the_axis_holds_the_span() -> None:
    for span in (1, 30, 61, 74, 300, 3600, 8 * 3600, 30 * 86400, 1e8):
        axis = time_axis(span, 84)
        assert axis.end_s >= span * (1 - 1e-9)
    assert time_axis(74, 148).dot_s == 0.5 and time_axis(74, 40, 1.0).dot_s == 2 and time_axis(10, 84, 3.0).dot_s == 3


def test_the_axis_doubles_when_the_expected_end_has_passed() -> None:
    assert whole_run_s(10, 74) == 74 and whole_run_s(75, 74) == 148 and whole_run_s(500, None) == 960


def test_words() -> None:
    assert [dot_width(seconds) for seconds in (0.5, 3, 300, 7200)] == ["0.5 s", "3 s", "5 min", "2 h"]
    assert [clock(3750, step) for step in (1, 600, 3600)] == ["1:02:30", "1h02", "1h"]
    assert clock(75) == "1:15"
    assert (range_label(7, 9.5), range_label(9.5, 7), range_label(0, 9.5), range_label(40)) == ("7.0", "9.5", "0", "40")
    assert [range_label(value) for value in (9_999, 20_000, 12_500, 300_000, 2e6)] == [
        "9,999",
        "20k",
        "12.5k",
        "300k",
        "2M",
    ]
