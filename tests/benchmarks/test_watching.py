"""The arithmetic of the watching benchmark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.watching import ratios, token_rate, token_times


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


@given(st.floats(0.5, 1.5), st.floats(100, 1e5), st.floats(-0.01, 0.01), st.integers(1, 6))
def test_a_steady_drift_cancels_out(cost, base, drift, pairs):
    rates = [base * (1 + drift * place) * (cost if place % 2 else 1) for place in range(2 * pairs + 1)]
    assert ratios(rates) == [pytest.approx(cost)] * pairs
