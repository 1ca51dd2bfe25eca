"""The NVML meter: names, units and failures, against a fake whose signatures are checked against the real binding."""

import inspect
import sys
from types import SimpleNamespace

import pytest
import torch
from llmval_runners.load_test import energy
from llmval_runners.measure.nvml_meter import MeterFault, NoMeter, NvmlMeter, open_meter, throttle_names
from llmval_runners.power.machine import identity_of


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.fail: set[str] = set()
        self.field_code = 0
        self.open = 0

    def _maybe_fail(self, name: str) -> None:
        if name in self.fail:
            raise self.NVMLError(f"{name} broke")

    def nvmlInit(self):
        self._maybe_fail("nvmlInit")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):
        return "580.159.04"

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"GPU-{'cab'[index]}"

    def nvmlDeviceGetUUID(self, handle):
        self._maybe_fail("nvmlDeviceGetUUID")
        return handle

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self._maybe_fail("nvmlDeviceGetHandleByUUID")
        return uuid

    def nvmlDeviceGetIndex(self, handle):
        return 3

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA H200"

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        self._maybe_fail("nvmlDeviceGetEnforcedPowerLimit")
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self._maybe_fail("nvmlDeviceGetTotalEnergyConsumption")
        return 1_234_567

    def nvmlDeviceGetFieldValues(self, handle, fieldIds):
        assert fieldIds == [186]
        return [
            SimpleNamespace(fieldId=186, nvmlReturn=self.field_code, valueType=1, value=SimpleNamespace(uiVal=630_500))
        ]

    def nvmlDeviceGetPowerUsage(self, handle):
        return 612_000

    def nvmlDeviceGetUtilizationRates(self, handle):
        self._maybe_fail("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=98, memory=40)

    def nvmlDeviceGetClockInfo(self, handle, type):
        return {1: 1980, 2: 3201}[type]

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == 0
        return 61

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        self._maybe_fail("nvmlDeviceGetCurrentClocksEventReasons")
        return 0x4

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return 0x24


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_units_are_watts_joules_and_percent(nvml):
    meter = open_meter(["GPU-a"])
    assert meter.energy_j(0) == pytest.approx(1234.567)
    reading = meter.read(0)
    assert (reading.power_w, reading.utilisation_percent, reading.temperature_c) == (630.5, 98.0, 61)
    assert (reading.sm_clock_mhz, reading.memory_clock_mhz, reading.throttle_reasons) == (1980, 3201, ("sw_power_cap",))
    assert meter.gpus() == [
        {"index": 3, "uuid": "GPU-a", "name": "NVIDIA H200", "driver": "580.159.04", "power_limit_w": 700.0}
    ]
    assert "186" in meter.power_source
    meter.close()
    assert nvml.open == 0


def test_the_hosts_gpus_are_all_that_nvml_shows(nvml):
    meter = open_meter(["GPU-a"])
    assert meter.host_gpu_uuids() == ["GPU-a", "GPU-b", "GPU-c"]
    assert identity_of([torch.device("cuda", 0)], meter)["host_gpu_uuids"] == ["GPU-a", "GPU-b", "GPU-c"]
    nvml.fail = {"nvmlDeviceGetUUID"}
    assert meter.host_gpu_uuids() is None


def test_average_power_replaces_instant_power_and_is_named_so(nvml):
    nvml.field_code = 3
    meter = open_meter(["GPU-a"])
    assert meter.read(0).power_w == 612.0
    assert "average" in meter.power_source


def test_unreported_values_are_none_and_never_zero(nvml):
    nvml.fail = {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEnforcedPowerLimit"}
    meter = open_meter(["GPU-a"])
    assert meter.read(0).utilisation_percent is None
    assert meter.gpus()[0]["power_limit_w"] is None
    nvml.fail = {"nvmlDeviceGetCurrentClocksEventReasons"}  # a driver before 535
    assert meter.read(0).throttle_reasons == ("sw_power_cap", "sw_thermal_slowdown")


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"])
def test_without_nvml_there_is_a_reason_and_no_exception(nvml, broken):
    nvml.fail = {broken}
    meter = open_meter(["GPU-a"])
    assert isinstance(meter, NoMeter)
    assert "broke" in meter.reason


def test_a_missing_binding_or_gpu_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert f"run `{sys.executable} -m pip install nvidia-ml-py`" in open_meter(["GPU-a"]).reason
    assert "CPU" in open_meter([]).reason


def test_a_counter_that_fails_later_is_a_meter_fault(nvml):
    meter = NvmlMeter(nvml, ["GPU-a"])
    nvml.fail = {"nvmlDeviceGetTotalEnergyConsumption"}
    with pytest.raises(MeterFault, match="broke"):
        meter.energy_j(0)


def test_throttle_bits_have_nvmls_meanings():
    pynvml = pytest.importorskip("pynvml")
    for name, ours in [
        ("SwPowerCap", "sw_power_cap"), ("HwSlowdown", "hw_slowdown"), ("SwThermalSlowdown", "sw_thermal_slowdown"),
        ("HwThermalSlowdown", "hw_thermal_slowdown"), ("HwPowerBrakeSlowdown", "hw_power_brake"),
    ]:  # fmt: skip
        assert throttle_names(getattr(pynvml, f"nvmlClocksThrottleReason{name}")) == (ours,)
    assert throttle_names(0x8000) == ("bit_15",)
    assert pynvml.NVML_FI_DEV_POWER_INSTANT == 186


def test_the_fake_has_the_parameters_of_the_real_binding():
    pynvml = pytest.importorskip("pynvml")
    for name, fake in inspect.getmembers(FakeNvml, inspect.isfunction):
        if name.startswith("nvml"):
            real = getattr(pynvml, name)
            real = getattr(real, "__wrapped__", real)
            assert list(inspect.signature(fake).parameters)[1:] == list(inspect.signature(real).parameters), name


@pytest.mark.parametrize("name", ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"])
@pytest.mark.parametrize("value", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, -1])
def test_a_placeholder_of_the_driver_is_neither_energy_nor_power(monkeypatch, name, value):
    binding = FakeNvml()
    binding.field_code = 3  # no instant power, so the average is read
    meter = NvmlMeter(binding, ["GPU-a"])
    monkeypatch.setattr(binding, name, lambda handle: value)
    with pytest.raises(MeterFault, match="the driver has no value"):
        meter.energy_j(0) if "Energy" in name else meter.read(0)


@pytest.mark.parametrize(("broken", "limit"), [((), 1400.0), (("nvmlDeviceGetEnforcedPowerLimit",), None)])
def test_the_energy_of_a_load_test_has_the_power_limit_of_its_gpus(nvml, monkeypatch, broken, limit):
    nvml.fail.update(broken)
    seconds = iter((0.0, 4.0))
    monkeypatch.setattr(energy, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(energy, "uuids_of", lambda devices: ["GPU-a", "GPU-b"][: len(devices)])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    measured = energy.WindowEnergy()
    measured.begin(torch.device("cuda"), 2)
    measured.end()
    found = measured.record(10)
    assert found is not None and (found["gpus"], found["power_limit_w"]) == (2, limit)
