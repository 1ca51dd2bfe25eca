"""Ranges grow in few steps and contain every value; times and dots are round."""

import pytest

from llmval_tui.terminal.axis import (
    GROWTH,
    band_range,
    clock,
    coarser,
    dot_width,
    fitted_range,
    range_label,
    range_top,
    time_axis,
    usual_step,
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


def test_the_axis_is_the_span_and_a_coarser_one_is_the_same_time() -> None:
    for span in (1, 30, 61, 74, 300, 3600, 8 * 3600, 30 * 86400, 1e8):
        axis = time_axis(span, 84)
        assert axis.end_s == pytest.approx(span) and axis.dots == 84
        for step in (0.1, 0.5, 1.0, 32.0, span / 84, 2 * span):
            coarse = coarser(axis, step)
            assert coarse.end_s == pytest.approx(axis.end_s) and coarse.dots <= 84
            assert coarse.dot_s >= min(step, span) * (1 - 1e-6)


@pytest.mark.parametrize("expected", [None, 40, 66, 300, 3600, 8 * 3600])
def test_a_run_at_work_fills_its_chart_after_half_a_minute(expected: float | None) -> None:
    spans = []
    for elapsed in range(1, 36000):
        span = whole_run_s(elapsed, expected)
        assert span >= elapsed
        assert elapsed >= 0.799 * span or span <= 30 * GROWTH + 1e-6
        spans.append(span)
    assert spans == sorted(spans)  # it never shrinks
    assert len(set(spans)) < 35  # each other one draws the charts again
    assert expected is None or any(span == pytest.approx(expected) for span in spans)


def test_the_usual_step_does_not_follow_a_trembling_clock() -> None:
    assert {usual_step([1 + off / 1000, 0.5, 3, 1 - off / 1000, 1]) for off in range(-40, 41)} == {1.0}
    assert (usual_step([]), usual_step([0, 0]), usual_step([0.5] * 3), usual_step([31, 29, 30])) == (0, 0, 0.5, 30)


def test_words() -> None:
    assert [dot_width(seconds) for seconds in (0.5, 0.5454, 3, 300, 7200)] == [
        "0.5 s",
        "0.55 s",
        "3 s",
        "5 min",
        "2 h",
    ]
    assert (dot_width(59.9), dot_width(90), dot_width(3599)) == ("1 min", "1.5 min", "1 h")
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
