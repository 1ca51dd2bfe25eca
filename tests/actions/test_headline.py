"""The figures that a run is known by."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions.headline import headline, ordinary_range

RECORDED = Path(__file__).parents[2] / "docs/results/h200-x4-2026-11-26/20261126T224645Z-1.2-2a2399/verdict.json"


def shown(metrics: dict[str, float | None]) -> list[tuple[str, float | None, str]]:
    return [(figure.label, figure.value, figure.unit) for figure in headline(metrics)]


def test_a_recorded_load_test_has_three() -> None:
    found = headline(json.loads(RECORDED.read_text())["metrics"])
    assert [(f.label, f.unit, f.better) for f in found] == [
        ("completed", "QPS", "higher"),
        ("TTFT p99", "ms", "lower"),
        ("TPOT p50", "ms", "lower"),
    ]
    assert found[1].value == pytest.approx(49.42, abs=0.01)  # from the schedule, not from dispatch


def test_of_several_context_lengths_the_longest_counts() -> None:
    metrics = {
        "prefill_tokens_per_s_32768": 2.0,
        "peak_memory_bytes_32768": 2.0**30,
        "peak_memory_bytes_131072": 3.0 * 2**30,
        "decode_step_ms_131072": None,
    }
    assert shown(metrics) == [("128K peak", 3.0, "GiB"), ("32K prefill", 2.0, "tokens/s"), ("128K step", None, "ms")]


def test_each_command_of_a_run_has_its_own() -> None:
    assert shown({"with_completed_qps": 2.0, "without_completed_qps": 1.0, "best_completed_qps": 9.0}) == [
        ("with completed", 2.0, "QPS"),
        ("without completed", 1.0, "QPS"),
    ]


def test_unknown_metrics_are_named_as_they_are() -> None:
    assert shown({"rows": 3.0, "idle_w": 70.5}) == [("rows", 3.0, ""), ("idle", 70.5, "W")]
    assert shown({}) == []


def test_the_ordinary_range_leaves_out_what_is_far_from_the_median() -> None:
    assert ordinary_range([26.6, 26.8, 24.9, None, 26.7]) == (26.6, 26.8)
    assert ordinary_range([0.0, 0.0]) == (0.0, 0.0)
    assert ordinary_range([3.0, 1.0]) == (1.0, 3.0)  # none is within 5 % of the median, and nobody measured that
    assert ordinary_range([1.0, 20.0, 10.0, 99.0]) == (10.0, 20.0)
    assert ordinary_range([None]) is None
