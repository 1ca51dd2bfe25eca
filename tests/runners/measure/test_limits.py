"""What limited a GPU: each rule at its bound, and the words for several measurements."""

import pytest
from llmval_runners.measure.limits import (
    BANDWIDTH,
    COMPUTE,
    HEAT,
    NOT_SEEN,
    POWER,
    UNKNOWN,
    Peak,
    Power,
    clauses,
    limit_of,
    peak_of,
)  # fmt: skip

MFU, MBU = Peak("MFU", 0.30, "790 TFLOP/s measured"), Peak("MBU", 0.81, "4.21 TB/s measured")


def share(metric: str, value: float) -> Peak:
    return Peak(metric, value, "the peak")


@pytest.mark.parametrize(("peaks", "power", "name", "figures"), [
    ([MFU, MBU], None, BANDWIDTH, "MBU 81 % of 4.21 TB/s measured"),
    ([share("MFU", 0.70), share("MBU", 0.69)], None, COMPUTE, "MFU 70 % of the peak"),
    ([share("MFU", 0.699), share("MBU", 0.1)], None, NOT_SEEN, "MFU 70 % and MBU 10 %, below 70 %"),
    ([share("MBU", 0.4)], None, NOT_SEEN, "MBU 40 %, below 70 %"),
    ([None, None], None, UNKNOWN, "no peak"),
    # Power and heat come before the shares: they lower the rates that the GPU can reach.
    ([MBU], Power(679.0, 700.0), POWER, "679 W of 700 W"),
    ([MBU], Power(678.9, 700.0), BANDWIDTH, "MBU 81 % of 4.21 TB/s measured"),
    ([MBU], Power(679.0, None), BANDWIDTH, "MBU 81 % of 4.21 TB/s measured"),
    ([MBU], Power(None, 700.0), BANDWIDTH, "MBU 81 % of 4.21 TB/s measured"),
    ([], Power(600.0, 700.0, {"sw_power_cap": 0.5}), POWER, "sw_power_cap in 50 % of the samples, 600 W of 700 W"),
    ([], Power(None, None, {"sw_power_cap": 1.0}), POWER, "sw_power_cap in 100 % of the samples"),
    ([MBU], Power(600.0, 700.0, {"sw_power_cap": 0.49}), BANDWIDTH, "MBU 81 % of 4.21 TB/s measured"),
    ([MBU], Power(None, None, {"sw_power_cap": 1.0, "hw_thermal_slowdown": 0.01, "hw_slowdown": 0.02}), HEAT,
     "hw_slowdown in 2 % of the samples"),
    ([MBU], Power(None, None, {"hw_slowdown": 0.009, "gpu_idle": 1.0}), BANDWIDTH, "MBU 81 % of 4.21 TB/s measured"),
])  # fmt: skip
def test_the_first_rule_that_applies_names_the_limit(
    peaks: list[Peak | None], power: Power | None, name: str, figures: str
) -> None:
    found = limit_of(peaks, power, "no peak")
    assert (found.name, found.figures) == (name, figures)


@pytest.mark.parametrize(("metric", "entry", "value", "of"), [
    ("MBU", {"percent": 81.0, "peak": 4.21, "source": "measured on one H200 (torch 2): copy, bytes read and written"},
     0.81, "4.21 TB/s, measured on one H200"),
    ("MFU", {"percent": 50.0, "peak_tflops": 989.0, "peak_source": "NVIDIA H200 datasheet, dense"}, 0.5,
     "989 TFLOP/s, NVIDIA H200 datasheet"),
    ("MBU", {"percent": 50.0, "peak_tb_per_s": 4.8, "peak_source": "NVIDIA H200 datasheet"}, 0.5,
     "4.8 TB/s, NVIDIA H200 datasheet"),
    ("MFU", {"value": 0.76, "peak_tflops_per_s": 790.0, "source": "measured on this GPU before the load: a product"},
     0.76, "790 TFLOP/s, measured on this GPU before the load"),
])  # fmt: skip
def test_the_last_peak_of_every_record_is_read(metric: str, entry: dict[str, object], value: float, of: str) -> None:
    other = entry | {"source": "another", "peak_source": "another"}
    found = peak_of(metric, [other, entry])
    assert found is not None and (found.metric, found.of) == (metric, of)
    assert found.value == pytest.approx(value)
    assert peak_of(metric, []) is None


def test_several_measurements_are_one_clause_for_each_phase() -> None:
    high, low = limit_of([share("MBU", 0.86)]), limit_of([share("MBU", 0.77)])
    below, capped = limit_of([share("MBU", 0.5)]), limit_of([], Power(None, None, {"sw_power_cap": 1.0}))
    assert clauses([("prefill", [capped, capped]), ("decode", [high, below, low]), ("none", [])]) == [
        "prefill: power limit (sw_power_cap in 100 % of the samples)",
        "decode: memory bandwidth in 2 of 3 (MBU 77 to 86 % of the peak), not seen in 1 of 3 (MBU 50 %, below 70 %)",
    ]


def test_nothing_known_is_said_once() -> None:
    unknown = limit_of([], unknown="no peak rate is known for a CPU")
    assert clauses([("prefill", [unknown]), ("decode", [unknown] * 2)]) == ["n/a (no peak rate is known for a CPU)"]
    assert clauses([]) == []
