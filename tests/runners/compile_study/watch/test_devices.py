"""The readings from GPU libraries at a stall. The libraries are fakes, so no GPU is needed."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from llmval_runners.compile_study.watch import gpus, heartbeat


@pytest.mark.parametrize(("backend", "expected"), [("nccl", b"nccl"), ("gloo", b"fr")])
def test_the_flight_recorder_is_that_of_the_backend(
    backend: str, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch has two flight recorders. In a CUDA build, that of the unused backend exists and is empty."""
    dumps = {f"_dump_{name}_trace{kind}": lambda name=name: name.encode() for name in ("nccl", "fr") for kind in ("", "_json")}  # fmt: skip  # noqa: E501
    c10d = SimpleNamespace(is_initialized=lambda: True, get_backend=lambda: backend)
    monkeypatch.setitem(sys.modules, "torch.distributed.distributed_c10d", c10d)
    monkeypatch.setitem(sys.modules, "torch._C._distributed_c10d", SimpleNamespace(**dumps))
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "2000")
    assert heartbeat.flight_records() == {"json": expected, "pickle": expected}
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "0")
    assert heartbeat.flight_records() == {}


def test_a_device_that_blocks_nvml_costs_a_note_and_not_the_verdict() -> None:
    assert "did not answer in 0.2 s" in gpus.Reading(["sleep", "30"], timeout=0.2).result()["note"]
    assert "ended with -11" in gpus.Reading(["sh", "-c", "kill -SEGV $$"]).result()["note"]
    real = gpus.Reading().result()  # whatever this machine has
    assert real["devices"] or real["note"]


def test_an_unsupported_reading_is_null_and_not_zero() -> None:
    class Error(Exception):
        pass

    def unsupported(*_: Any) -> Any:
        raise Error

    nvml = SimpleNamespace(
        NVMLError=Error,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=0),
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=2**30),
        nvmlDeviceGetPowerUsage=lambda _: 412_000,
        nvmlDeviceGetClockInfo=lambda *_: 1980,
        nvmlDeviceGetTemperature=lambda *_: 41,
        nvmlDeviceGetCurrentClocksThrottleReasons=unsupported,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=7)],
    )
    assert gpus._device(nvml, 1) == {
        "index": 1,
        "utilisation_percent": 0,
        "memory_used_bytes": 2**30,
        "sm_clock_mhz": 1980,
        "temperature_c": 41,
        "throttle_reasons_mask": None,
        "power_w": 412.0,
        "pids": [7],
    }
