"""The arithmetic of the watching benchmark."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.watching import interval, token_rate, token_times, verdict


def test_token_times_are_those_of_the_record():
    record = {
        "start_times": [1.0, 0.5, 3.0],
        "ttfts": [0.25, 1.0, 0.0],
        "itls": [[0.25, 0.5], [], []],
        "output_lens": [3, 1, 0],  # the last one never got a token
    }
    times = token_times(record)
    assert times == [1.25, 1.5, 1.5, 2.0]
    assert token_rate(times, 1.5, 2.0) == 4, "two tokens in half a second; the end belongs to the next slice"


@given(st.floats(0.9, 1.1), st.integers(2, 30), st.floats(1e-6, 0.01))
def test_the_interval_holds_the_mean_and_narrows_with_pairs(ratio, pairs, spread):
    found = [ratio * (1 + spread * (-1) ** index) for index in range(2 * pairs)]
    low, high = interval(found)
    assert low < ratio * math.sqrt(1 - spread**2) < high
    assert interval(found * 4)[1] - interval(found * 4)[0] < high - low


@pytest.mark.parametrize(
    ("low", "high", "reached", "words"),
    [
        (0.996, 1.002, True, ""),
        (1.002, 1.030, False, "biased in the dashboard's favour by 0.20 to 3.00 %"),
        (0.996, 0.999, True, "slower by 0.10 to 0.40 %"),
        (0.980, 0.990, False, "slower by 1.00 to 2.00 %"),
        (0.980, 1.010, None, "too wide to tell"),
    ],
)
def test_an_interval_beside_one_is_a_bias_and_no_pass(low, high, reached, words):
    found, why = verdict(low, high)
    assert found is reached and words in why
