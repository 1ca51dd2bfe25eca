"""Series of telemetry: the newest values with their times, flat in memory, and readable by another thread."""

from llmval_tui.tui.data.history import RECENT_SAMPLES, Recent, Series


def test_the_newest_values_are_kept_with_their_times() -> None:
    recent = Recent()
    for second in range(10 * RECENT_SAMPLES + 7):
        recent.add(float(second), second * 2.0)
        assert len(recent._times) <= 2 * RECENT_SAMPLES
    kept = list(recent)
    assert len(kept) == RECENT_SAMPLES and kept[-1] == (10 * RECENT_SAMPLES + 6.0, 2 * (10 * RECENT_SAMPLES + 6.0))
    assert recent.reaches(kept[0][0]) and not recent.reaches(kept[0][0] - 3)
    assert not Recent().reaches(0.0) and list(Recent()) == []


def test_a_copy_does_not_change_with_the_original() -> None:
    recent = Recent()
    recent.add(1.0, 5.0)
    before = recent.copy()
    recent.add(2.0, 6.0)
    assert list(before) == [(1.0, 5.0)] and len(list(recent)) == 2


def test_the_window_of_a_long_series_has_single_samples() -> None:
    series = Series()
    for second in range(4 * 3600):
        series.add(100.0 if second == 4 * 3600 - 60 else 1.0, float(second))
    assert series.buckets.width_s > 0.5
    near = series.near(4 * 3600 - 120.0)
    found = near.between(4 * 3600 - 60.0, 4 * 3600 - 59.5)
    assert near.width_s == 0.5 and len(near) <= 2 * RECENT_SAMPLES and found is not None and found.highest == 100.0
    assert near.between(4 * 3600 - 60.5, 4 * 3600 - 60.0) is None  # between two samples
    assert series.near(0.0) is series.buckets
    series.add(None)
    assert series.last is None and series.peak == 100.0
