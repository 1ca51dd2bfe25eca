"""A downsampled series keeps its minimum, maximum and gaps."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.report.charts.axes import tick_label, ticks, time_label, time_ticks
from llmval_tui.report.downsample import DownsampledSeries

_SERIES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=400)


@given(_SERIES)
def test_extremes_and_mean_survive_any_merging(values: list[float | None]) -> None:
    series = DownsampledSeries(max_buckets=8)
    for at, value in enumerate(values):
        series.add(float(at), value)
    known = [value for value in values if value is not None]
    assert len(series.buckets) < 16
    assert sum(bucket.count for bucket in series.buckets) == len(known) == series.summary.count
    assert series.summary.missing == len(values) - len(known)
    if known:
        assert min(bucket.low for bucket in series.buckets) == min(known)
        assert max(bucket.high for bucket in series.buckets) == max(known)
        assert abs(sum(bucket.total for bucket in series.buckets) - sum(known)) < 1e-3
    starts = [bucket.start_s for bucket in series.buckets]
    assert starts == sorted(starts)


@given(_SERIES)
def test_no_line_crosses_a_missing_value_unless_inside_one_bucket(values: list[float | None]) -> None:
    series = DownsampledSeries(max_buckets=8)
    for at, value in enumerate(values):
        series.add(float(at), value)
    missing = [at for at, value in enumerate(values) if value is None]
    for segment in series.segments():
        for one, other in itertools.pairwise(segment):
            assert not any(one.end_s < at < other.start_s for at in missing)


def test_a_missing_value_and_a_long_silence_break_the_line() -> None:
    series = DownsampledSeries(gap_s=5.0)
    for at, value in [(0, 1.0), (1, 2.0), (2, None), (3, 3.0), (9, 4.0)]:
        series.add(at, value)
    assert [[bucket.start_s for bucket in part] for part in series.segments()] == [[0, 1], [3], [9]]


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_are_round_and_enclose(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 12
    slack = 1e-6 * max(1, abs(low), span)
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack


def test_labels_have_the_decimals_their_step_needs() -> None:
    assert [tick_label(value, 0.05) for value in (0.0, 0.05)] == ["0.00", "0.05"]
    assert tick_label(1500, 500) == "1,500"
    assert [time_label(second, 300) for second in time_ticks(300)][:2] == ["0:00", "1:00"]
    assert time_label(3661, 28800) == "1:01:01"
