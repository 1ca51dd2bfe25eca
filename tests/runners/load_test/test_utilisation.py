"""MFU and MBU of a window against the datasheet's peaks and those that were measured before the load."""

from array import array

import pytest
from llmval_runners.engine.request import Request
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.load_test.utilisation import utilisation

SHAPE = SHAPES["llama-3.1-8b"]
MEASURED = {"copy_bytes_per_s": 4e12, "gemm_flops": 800e12, "gemm_fp8_flops": 1400e12}


def shares(fp8_mode: str, measured: dict[str, float] | None, gpu: str | None = "NVIDIA H200"):
    sent = [Request(0, [1] * 512, 3, 0.0, 0.0, array("d", [0.1, 0.2, 0.3]))]
    return utilisation(
        sent, 3, 1.0, shape=SHAPE, ranks=1, weight_bytes=15_000_000_000, kv_element_bytes=2, fp8_mode=fp8_mode, gpu=gpu,
        measured=measured,
    )  # fmt: skip


@pytest.mark.parametrize(("fp8_mode", "peak"), [("none", 800), ("native", 1400), ("transformer-engine", 1400)])
def test_the_last_peak_is_the_one_measured_before_the_load(fp8_mode: str, peak: float) -> None:
    found = shares(fp8_mode, MEASURED)
    for name, value, unit in (("mfu", peak, "tflops_per_s"), ("mbu", 4, "tb_per_s")):
        last = found[name][-1]
        assert last["peak"] == pytest.approx(value) and "before the load" in last["source"]
        assert last["percent"] == pytest.approx(100 * found[unit] / value)
        assert any("datasheet" in one["source"] for one in found[name])


def test_an_unknown_gpu_has_what_was_measured_on_it() -> None:
    found = shares("none", MEASURED, "NVIDIA Unheard-Of")
    assert [one["peak"] for one in found["mfu"]] == [800] and found["missing"] is None


def test_without_a_measurement_and_a_datasheet_the_reason_is_named() -> None:
    found = shares("none", None, None)
    assert found["mfu"] == found["mbu"] == [] and found["missing"] == "no peak rate is known for a CPU"
    without_fp8 = shares("native", {"copy_bytes_per_s": 4e12, "gemm_flops": 8e14})
    assert all("before the load" not in one["source"] for one in without_fp8["mfu"]), "bf16 is not a peak of FP8"
