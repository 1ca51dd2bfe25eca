"""Energy, power and state of GPUs: a protocol, and its implementation by NVML.

Beside `nvml_links.py` the only runner module that imports pynvml.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from llmval_runners.process.install import how_to_install

# From nvml.h: a field of nvmlDeviceGetFieldValues, clock types, temperature sensor, bits of the clock event reasons.
_FIELD_POWER_INSTANT = 186
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_TEMPERATURE_GPU = 0
_REASONS = {
    0x001: "gpu_idle", 0x002: "applications_clocks", 0x004: "sw_power_cap", 0x008: "hw_slowdown", 0x010: "sync_boost",
    0x020: "sw_thermal_slowdown", 0x040: "hw_thermal_slowdown", 0x080: "hw_power_brake", 0x100: "display_clocks",
    0x200: "board_limit", 0x400: "reliability",
}  # fmt: skip
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t


_PLACEHOLDERS = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, -1)  # what a driver returns, as a success, if it has no value
_MOST_MILLIWATTS = 10_000_000


class MeterFault(Exception):
    """A required reading failed. The message names it, for the record."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One GPU at one moment; None for a value that the driver does not report."""

    power_w: float | None
    utilisation_percent: float | None = None  # share of time with at least one running kernel
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


class PowerMeter(Protocol):
    """Reads the GPUs of a run; `gpu` is the index in the run (0 …)."""

    power_source: str  # origin of `Reading.power_w`

    def gpus(self) -> list[dict[str, Any]]:
        """Index, uuid, name, driver and power_limit_w of each GPU."""

    def energy_j(self, gpu: int) -> float:
        """The total-energy counter in J. Raises MeterFault."""

    def read(self, gpu: int) -> Reading:
        """All other values, now. Raises MeterFault if the power cannot be read."""

    def close(self) -> None:
        """Release the driver."""


@dataclass(frozen=True, slots=True)
class NoMeter:
    """No energy here, for this reason."""

    reason: str


class NvmlMeter:
    """Reads by NVML. GPUs are found by UUID, since NVML ignores CUDA_VISIBLE_DEVICES."""

    def __init__(self, binding: Any, uuids: list[str]) -> None:
        """`binding` is the module pynvml. Raises MeterFault if a GPU is not found or has no energy counter."""
        self._nvml = binding
        self._handles = [self._call("nvmlDeviceGetHandleByUUID", uuid) for uuid in uuids]
        self._uuids = uuids
        for gpu in range(len(uuids)):
            self.energy_j(gpu)  # needs Volta or later; check this before anything is measured
        try:
            self._instant(0)
            self._power, self.power_source = self._instant, "NVML field 186, instant"
        except MeterFault:
            # Over a steady window, the 1 s average integrates to the same energy. The record names the source.
            self._power, self.power_source = self._average, "nvmlDeviceGetPowerUsage, 1 s average"
            self._average(0)

    def gpus(self) -> list[dict[str, Any]]:
        driver = self._optional("nvmlSystemGetDriverVersion")
        found = []
        for uuid, handle in zip(self._uuids, self._handles, strict=True):
            limit = self._optional("nvmlDeviceGetEnforcedPowerLimit", handle)
            found.append(
                {
                    "index": self._optional("nvmlDeviceGetIndex", handle),
                    "uuid": uuid,
                    "name": self._optional("nvmlDeviceGetName", handle),
                    "driver": driver,
                    "power_limit_w": None if limit is None else limit / 1000,
                }
            )
        return found

    def host_gpu_uuids(self) -> list[str] | None:
        """UUIDs of all GPUs that the driver shows on this host, sorted; None if it does not report them.

        They distinguish hosts with the same name, which images of virtual machines often have.
        """
        try:
            handles = [self._call("nvmlDeviceGetHandleByIndex", n) for n in range(self._call("nvmlDeviceGetCount"))]
            return sorted(str(self._call("nvmlDeviceGetUUID", handle)) for handle in handles)
        except MeterFault:
            return None

    def energy_j(self, gpu: int) -> float:
        millijoules = self._call("nvmlDeviceGetTotalEnergyConsumption", self._handles[gpu])
        if millijoules in _PLACEHOLDERS:
            raise MeterFault(f"the energy counter reads {millijoules} mJ, which means that the driver has no value")
        return float(millijoules) / 1000

    def read(self, gpu: int) -> Reading:
        handle = self._handles[gpu]
        rates = self._optional("nvmlDeviceGetUtilizationRates", handle)
        bits = self._optional("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # the name of the call before driver 535
            bits = self._optional("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return Reading(
            power_w=self._power(gpu),
            utilisation_percent=None if rates is None else float(rates.gpu),
            sm_clock_mhz=self._optional("nvmlDeviceGetClockInfo", handle, _CLOCK_SM),
            memory_clock_mhz=self._optional("nvmlDeviceGetClockInfo", handle, _CLOCK_MEMORY),
            temperature_c=self._optional("nvmlDeviceGetTemperature", handle, _TEMPERATURE_GPU),
            throttle_reasons=None if bits is None else throttle_names(bits),
        )

    def close(self) -> None:
        self._optional("nvmlShutdown")

    def _instant(self, gpu: int) -> float:
        value = self._call("nvmlDeviceGetFieldValues", self._handles[gpu], [_FIELD_POWER_INSTANT])[0]
        if value.nvmlReturn != 0 or not 0 <= value.valueType < len(_VALUE_MEMBERS):
            raise MeterFault(
                f"NVML field {_FIELD_POWER_INSTANT} (instant power) is not readable (code {value.nvmlReturn})"
            )
        return _watts(getattr(value.value, _VALUE_MEMBERS[value.valueType]))

    def _average(self, gpu: int) -> float:
        return _watts(self._call("nvmlDeviceGetPowerUsage", self._handles[gpu]))

    def _call(self, function: str, *arguments: Any) -> Any:
        target = getattr(self._nvml, function, None)
        if target is None:
            raise MeterFault(f"this nvidia-ml-py has no {function}")
        try:
            return target(*arguments)
        except self._nvml.NVMLError as error:
            raise MeterFault(f"{function} failed: {error}") from error

    def _optional(self, function: str, *arguments: Any) -> Any | None:
        try:
            return self._call(function, *arguments)
        except MeterFault:
            return None


def _watts(milliwatts: float) -> float:
    """Raises MeterFault for a power that no GPU has: 0xFFFFFFFF mW stands for "no value"."""
    if not 0 <= milliwatts <= _MOST_MILLIWATTS:
        raise MeterFault(f"the power reads {milliwatts / 1000:g} W, which means that the driver has no value")
    return float(milliwatts) / 1000


def throttle_names(bits: int) -> tuple[str, ...]:
    """The reasons that are set in NVML's mask. A bit without a name becomes `bit_<n>`."""
    return tuple(_REASONS.get(1 << n, f"bit_{n}") for n in range(bits.bit_length()) if bits >> n & 1)


def open_meter(uuids: list[str]) -> NvmlMeter | NoMeter:
    """A meter for these GPUs, or the reason why there is none. Never raises: throughput needs no energy."""
    if not uuids:
        return NoMeter("energy is measured on NVIDIA GPUs only, and this run is on a CPU")
    try:
        import pynvml
    except ImportError:
        return NoMeter(f"the Python package nvidia-ml-py is missing: {how_to_install('nvidia-ml-py')}")
    try:
        pynvml.nvmlInit()
        return NvmlMeter(pynvml, uuids)
    except (pynvml.NVMLError, MeterFault) as error:
        return NoMeter(f"NVML cannot be used: {error}")
