"""What is read from a GPU for its energy.

A protocol, and NVML behind it. The only runner module that imports pynvml.
"""

from dataclasses import dataclass
from typing import Any, Protocol

# nvml.h: fields of nvmlDeviceGetFieldValues, clock types, bits of the clocks-event reasons
_FIELD_POWER_INSTANT = 186
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_TEMPERATURE_GPU = 0
_REASONS = {
    0x001: "gpu_idle", 0x002: "applications_clocks", 0x004: "sw_power_cap", 0x008: "hw_slowdown", 0x010: "sync_boost",
    0x020: "sw_thermal_slowdown", 0x040: "hw_thermal_slowdown", 0x080: "hw_power_brake", 0x100: "display_clocks",
    0x200: "board_limit", 0x400: "reliability",
}  # fmt: skip
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t


class MeterFault(Exception):
    """A reading that should be there failed. The message says which, for the record."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One GPU at one instant; None where the driver does not tell."""

    power_w: float | None
    utilisation_percent: float | None = None  # share of time in which any kernel ran
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


class PowerMeter(Protocol):
    """Reads the GPUs of a sweep, by their place in it (0 …)."""

    power_source: str  # what `Reading.power_w` is

    def gpus(self) -> list[dict[str, Any]]:
        """Who they are: index, uuid, name, power_limit_w."""

    def energy_j(self, gpu: int) -> float:
        """The total-energy counter. Raises MeterFault."""

    def read(self, gpu: int) -> Reading:
        """Everything else, now. Raises MeterFault where nothing can be read any more."""

    def close(self) -> None:
        """Let go of the driver."""


@dataclass(frozen=True, slots=True)
class NoMeter:
    """Why there is no energy here."""

    reason: str


class NvmlMeter:
    """NVML. GPUs are found by UUID: NVML knows nothing of CUDA_VISIBLE_DEVICES."""

    def __init__(self, binding: Any, uuids: list[str]) -> None:
        """Raises MeterFault where a GPU cannot be found or has no energy counter."""
        self._nvml = binding
        self._handles = [self._call("nvmlDeviceGetHandleByUUID", uuid) for uuid in uuids]
        self._uuids = uuids
        for gpu in range(len(uuids)):
            self.energy_j(gpu)  # Volta and later; said before a cell runs, not after
        try:
            self._instant(0)
            self._power, self.power_source = self._instant, "NVML field 186, instant"
        except MeterFault:
            # Over a steady window the 1 s average integrates to the same energy; the record names it.
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
        """All GPUs that the driver shows here, sorted, used or not; None where it does not tell.

        They tell hosts of one name apart, as images of virtual machines make them.
        """
        try:
            handles = [self._call("nvmlDeviceGetHandleByIndex", n) for n in range(self._call("nvmlDeviceGetCount"))]
            return sorted(str(self._call("nvmlDeviceGetUUID", handle)) for handle in handles)
        except MeterFault:
            return None

    def energy_j(self, gpu: int) -> float:
        return self._call("nvmlDeviceGetTotalEnergyConsumption", self._handles[gpu]) / 1000

    def read(self, gpu: int) -> Reading:
        handle = self._handles[gpu]
        rates = self._optional("nvmlDeviceGetUtilizationRates", handle)
        bits = self._optional("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # the call's name before driver 535
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
        return float(getattr(value.value, _VALUE_MEMBERS[value.valueType])) / 1000

    def _average(self, gpu: int) -> float:
        return self._call("nvmlDeviceGetPowerUsage", self._handles[gpu]) / 1000

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


def throttle_names(bits: int) -> tuple[str, ...]:
    """The reasons set in NVML's mask; a bit without a name appears as `bit_<n>`."""
    return tuple(_REASONS.get(1 << n, f"bit_{n}") for n in range(bits.bit_length()) if bits >> n & 1)


def open_meter(uuids: list[str]) -> NvmlMeter | NoMeter:
    """NVML for these GPUs, or why there is none. Never raises: a sweep without energy still measures throughput."""
    if not uuids:
        return NoMeter("energy is measured on NVIDIA GPUs only, and this run is on a CPU")
    try:
        import pynvml
    except ImportError:
        return NoMeter("the Python package nvidia-ml-py is missing: pip install nvidia-ml-py")
    try:
        pynvml.nvmlInit()
        return NvmlMeter(pynvml, uuids)
    except (pynvml.NVMLError, MeterFault) as error:
        return NoMeter(f"NVML cannot be used: {error}")
