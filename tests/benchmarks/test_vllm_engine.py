"""The arithmetic of the rows beside vLLM, with an engine of known times in its place."""

import pytest

from benchmarks.vllm_engine import rows


def test_steps_and_rates_of_an_engine_of_known_times() -> None:
    """0.1 ms for each prompt token, then 5 ms for each step, whatever the batch."""
    found = rows(lambda count, length, new: count * length * 1e-4 + (new - 1) * 5e-3)
    assert found["decode_step_ms"] == pytest.approx({1: 5.0, 32: 5.0, 256: 5.0})
    assert found["prefill_tokens_per_s"] == pytest.approx(1e4)
    assert found["long_prefill_s"] == pytest.approx(6.5536)
    assert found["long_decode_step_ms"] == pytest.approx(5.0)
