"""Buckets: nothing short is lost, whatever the length of the run, and the memory stays flat."""

import math
import random

import pytest

from llmval_tui.terminal.buckets import Bucket, Buckets


def filled(values: list[tuple[float, float | None]], most: int = 8, width_s: float = 1.0) -> Buckets:
    buckets = Buckets(width_s, most)
    for at_s, value in values:
        buckets.add(at_s, value)
    return buckets


@pytest.mark.parametrize("seed", range(20))
def test_every_value_is_inside_its_bucket_and_halving_keeps_everything(seed: int) -> None:
    chance = random.Random(seed)
    values = [(at, chance.uniform(-5, 100)) for at in range(chance.choice((3, 9, 40, 1000)))]
    buckets = filled([(float(at), value) for at, value in values])
    whole = buckets.whole()
    assert whole is not None
    known = [value for _, value in values]
    assert (whole.lowest, whole.highest, whole.samples) == (min(known), max(known), len(known))
    assert whole.total == pytest.approx(sum(known))
    for at, value in values:
        start = at // buckets.width_s * buckets.width_s
        found = buckets.between(start, start + buckets.width_s)
        assert found is not None and found.lowest <= value <= found.highest
    assert len(buckets) <= 8 and buckets.end_s >= values[-1][0]


def test_halving_merges_two_and_two() -> None:
    buckets = filled([(0, 1.0), (1, 5.0), (2, 3.0), (7, 2.0)], most=4)
    assert buckets.width_s == 2.0
    assert buckets.between(0, 2) == Bucket(1.0, 5.0, 6.0, 2)
    assert buckets.between(2, 4) == Bucket(3.0, 3.0, 3.0, 1)
    assert buckets.between(4, 6) is None
    assert buckets.between(6, 8) == Bucket(2.0, 2.0, 2.0, 1)


def test_a_late_jump_of_the_clock_is_bounded() -> None:
    buckets = filled([(0.0, 1.0), (1e9, 2.0)], most=8)
    assert len(buckets) <= 8 and buckets.whole() == Bucket(1.0, 2.0, 3.0, 2)


def test_a_value_that_was_not_measured_leaves_a_gap_and_zero_does_not() -> None:
    buckets = filled([(0, None), (1, 0.0), (2, math.nan), (3, math.inf), (-4, 7.0)])
    assert buckets.between(1, 2) == Bucket(0.0, 0.0, 0.0, 1)
    assert buckets.between(2, 4) is None
    assert buckets.between(0, 1) == Bucket(7.0, 7.0, 7.0, 1)  # before the start: at the start


@pytest.mark.parametrize("dot_s", [0.7, 1.0, 1.5, 3.0, 64.0])
def test_adjacent_spans_have_each_bucket_once(dot_s: float) -> None:
    buckets = filled([(at, 1.0) for at in range(100)], most=64)
    spans = [buckets.between(dot * dot_s, (dot + 1) * dot_s) for dot in range(300)]
    assert sum(span.samples for span in spans if span) == 100


def test_a_new_value_changes_only_the_newest_span() -> None:
    buckets = filled([(at, float(at)) for at in range(100)], most=256)
    before = [buckets.between(at, at + 5) for at in range(0, 95, 5)]
    buckets.add(100, 1e9)
    assert [buckets.between(at, at + 5) for at in range(0, 95, 5)] == before


@pytest.mark.parametrize("seed", range(40))
def test_kept_spans_are_what_a_fresh_look_gives(seed: int) -> None:
    """Whatever comes: gaps, merges, values out of order, and several divisions at the same time."""
    chance = random.Random(seed)
    buckets = Buckets(1.0, 32)
    divisions = [(chance.choice((0.0, 7.3)), chance.uniform(0.6, 9), chance.randrange(1, 60)) for _ in range(6)]
    at_s = 0.0
    for _ in range(200):
        at_s += chance.choice((0.0, 0.4, 1.0, 1.0, 1.1, 6.0))
        buckets.add(at_s - chance.choice((0, 0, 0, 0, 3.0, 20.0)), chance.uniform(0, 9))
        for start_s, span_s, count in chance.sample(divisions, 2):
            fresh = [buckets.between(start_s + i * span_s, start_s + (i + 1) * span_s) for i in range(count)]
            assert buckets.spans(start_s, span_s, count) == fresh
