"""One GPU through NVML: fast readings in every pass, slow readings at their own interval, and notes on failures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmval_tui.telemetry.nvml.calls import Calls, Fault, Kind, field_value, field_values, throttle_names
from llmval_tui.telemetry.nvml.gpm import Gpm
from llmval_tui.telemetry.nvml.plausible import PLACEHOLDERS, without_placeholders
from llmval_tui.telemetry.sample import GpuSample, Note
from llmval_tui.telemetry.sampling import CounterRate

_FIELD_POWER_INSTANT = 186  # mW (nvml.h, NVML_FI_DEV_POWER_INSTANT)
_NVLINK_DATA = [(138, 0xFFFFFFFF), (139, 0xFFFFFFFF)]  # KiB sent and received without protocol, all links together
_ALL_LINKS_KIB = 1024
_MEMORY_V2 = 0x02000028  # nvmlMemory_v2: `used` without what the driver reserves, as nvidia-smi shows it
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_LOST_KINDS = (Kind.GPU_LOST, Kind.RESET_REQUIRED)
_PERMANENT_KINDS = (Kind.NOT_SUPPORTED, Kind.NO_PERMISSION)
_SILENT_PASSES = 3  # in a row, without one answer: the GPU is lost, whatever code its driver returns

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One reading: its label for the operator, its function, and the least time between two calls."""

    label: str
    read: Callable[[int], Values]
    interval_ns: int = 0  # interval of slow readings; in between, the last value is repeated


class GpuReader:
    """Reads one GPU. `read` never raises: a failed reading is None and has a note."""

    def __init__(
        self,
        calls: Calls,
        index: int,
        *,
        slow_interval_s: float = 1.0,
        energy_interval_s: float = 1.0,
        is_foreign: Callable[[int], bool] | None = None,
    ) -> None:
        self.index = index
        self.handle: Any = None
        self.uuid: str | None = None
        self.name: str | None = None
        self._calls = calls
        self._is_foreign = is_foreign
        self._slow_ns, self._energy_ns = _tolerant_ns(slow_interval_s), _tolerant_ns(energy_interval_s)
        self._slow_read_ns: dict[str, int] = {}
        self._last_values: dict[str, Values] = {}
        self._missing: dict[Kind, list[str]] = {}
        self._implausible: dict[str, str] = {}  # field -> its newest value, if no GPU can have it
        self._answers: dict[str, int] = {}  # label of an item -> how often it was read
        self._silent_passes = 0
        self._lost: Fault | None = None
        self._gpm: Gpm | None = None
        self._gpm_fault: Fault | None = None
        self._gpm_nvlink = False
        self._mig = False
        self._nvlink_rates = (CounterRate(), CounterRate())
        self._items = self._all_items()
        # By pid, the bytes of each process on this GPU as last read; None if NVML does not report it.
        self.process_memory: dict[int, int | None] = {}

    def open(self, *, listed: bool = True) -> None:
        """Find the GPU and its capabilities. `listed`: whether the driver counts a GPU with this index."""
        try:
            self.handle = self._calls("nvmlDeviceGetHandleByIndex", self.index)
        except Fault as fault:
            # A GPU that the driver counts and does not hand out has fallen off the bus, whatever the code: 15, 999 …
            gone = listed and fault.kind not in (*_LOST_KINDS, Kind.NO_PERMISSION)
            self._lost = fault.as_kind(Kind.GPU_LOST) if gone else fault
            return
        self.uuid = self._calls.optional("nvmlDeviceGetUUID", self.handle)
        self.name = self._calls.optional("nvmlDeviceGetName", self.handle)
        mode = self._calls.optional("nvmlDeviceGetMigMode", self.handle)
        self._mig = mode is not None and mode[0] == 1
        try:
            self._gpm = Gpm(self._calls, self.handle)
        except Fault as fault:
            self._gpm_fault = fault

    def read(self, now_ns: int, xid: int | None = None) -> tuple[GpuSample, list[Note]]:
        """One reading at monotonic time `now_ns`; `xid` is the newest XID of the event watch.

        A lost GPU is never accessed again: drivers have crashed their caller then (nvitop#139).
        """
        values: Values = {}
        notes: list[Note] = []
        if self._lost is None:
            newest: Fault | None = None
            before = sum(self._answers.values())
            for item in list(self._items):
                try:
                    values |= self._one(item, now_ns)
                except Fault as fault:
                    if fault.kind in _LOST_KINDS:
                        self._lost, values = fault, {}
                        break
                    newest = fault
                    self._failed(item, fault, notes)
            if self._lost is not None:
                self.process_memory = {}
            if self._lost is None and newest is not None and sum(self._answers.values()) == before:
                values = {}
                self._no_answer(newest)
            else:
                self._silent_passes = 0
        sample = GpuSample(index=self.index, uuid=self.uuid, name=self.name, xid=xid, **values)
        return sample, [*self._standing_notes(), *notes]

    def close(self) -> None:
        """Free NVML's samples, unless the GPU is lost."""
        if self._gpm is not None and self._lost is None:
            self._gpm.close()
        self._gpm = None

    def _no_answer(self, fault: Fault) -> None:
        """No call of a pass had an answer. Ask for the handle again; after a few such passes the GPU is lost."""
        self._silent_passes += 1
        try:
            self._calls("nvmlDeviceGetHandleByIndex", self.index)
        except Fault as refused:
            self._lost = refused if refused.kind in _LOST_KINDS else refused.as_kind(Kind.GPU_LOST)
        else:
            if self._silent_passes >= _SILENT_PASSES:
                self._lost = fault.as_kind(Kind.GPU_LOST)

    def _believable(self, values: Values) -> Values:
        kept, refused = without_placeholders(values)
        for name in values:
            self._implausible.pop(name, None)
        self._implausible |= refused
        return kept

    def _one(self, item: Item, now_ns: int) -> Values:
        if not item.interval_ns:
            return self._read_now(item, now_ns)
        last = self._slow_read_ns.get(item.label)
        if last is not None and 0 <= now_ns - last < item.interval_ns:
            return self._last_values.get(item.label, {})
        self._slow_read_ns[item.label] = now_ns
        self._last_values.pop(item.label, None)  # after a failure the old value must not be repeated
        self._last_values[item.label] = values = self._read_now(item, now_ns)
        return values

    def _read_now(self, item: Item, now_ns: int) -> Values:
        values = self._believable(item.read(now_ns))
        if any(value is not None for value in values.values()):
            self._answers[item.label] = self._answers.get(item.label, 0) + 1
        return values

    def _failed(self, item: Item, fault: Fault, notes: list[Note]) -> None:
        if fault.kind in _PERMANENT_KINDS and item.label not in self._answers:
            self._items.remove(item)
            self._missing.setdefault(fault.kind, []).append(item.label)
        else:
            text = f"GPU {self.index}: {item.label} could not be read ({fault})."
            notes.append(Note("nvml", Kind.FAILED, text, self.index))

    def _standing_notes(self) -> list[Note]:
        index, found = self.index, []

        def add(code: str, message: str) -> None:
            found.append(Note("nvml", code, message, index))

        if self._lost is not None:
            add(*_lost_note(index, self._lost))
            return found
        missing = ", ".join(self._missing.get(Kind.NOT_SUPPORTED, []))
        if self._mig:
            lacks = f"; not readable there: {missing}" if missing else ""
            add("mig", f"GPU {index} is in MIG mode: values are of the whole GPU, not of an instance{lacks}.")
        elif missing:
            add(Kind.NOT_SUPPORTED, f"GPU {index} or its driver does not offer: {missing}.")
        if self._gpm is None and self._gpm_fault is not None:
            cause = (
                "this user may not read it"
                if self._gpm_fault.kind is Kind.NO_PERMISSION
                else "it needs Hopper or later and its driver"
                if self._gpm_fault.kind is Kind.NOT_SUPPORTED
                else str(self._gpm_fault)
            )
            add(
                "gpm_missing",
                f"GPU {index} has no GPM ({cause}): no occupancy, tensor, DRAM and PCIe values, and its "
                "utilisation is the share of time in which any kernel ran.",
            )
        if self._implausible:
            refused = ", ".join(self._implausible.values())
            add("implausible", f"GPU {index}: the driver reports {refused}. No GPU has that, so it counts as unknown.")
        denied = self._missing.get(Kind.NO_PERMISSION)
        if denied:
            add(Kind.NO_PERMISSION, f"GPU {index}: the driver does not let this user read {', '.join(denied)}.")
        return found

    def _all_items(self) -> list[Item]:
        return [
            Item("utilisation", self._utilisation),
            Item("memory", self._memory),
            Item("power", lambda _: {"power_w": self._ask("nvmlDeviceGetPowerUsage") / 1000}),
            Item("temperature", lambda _: {"temperature_c": self._ask("nvmlDeviceGetTemperature", 0)}),
            Item("SM clock", lambda _: {"sm_clock_mhz": self._ask("nvmlDeviceGetClockInfo", _CLOCK_SM)}),
            Item("memory clock", lambda _: {"memory_clock_mhz": self._ask("nvmlDeviceGetClockInfo", _CLOCK_MEMORY)}),
            Item("throttle reasons", self._throttle),
            Item("power limit", self._power_limit, self._slow_ns),
            Item("instant power", self._power_instant, self._slow_ns),
            # The slowest. Its value has its own time stamp, so a repeated value shows its age.
            Item("energy counter", self._energy, self._energy_ns),
            Item("compute processes", self._processes, self._slow_ns),
            # After utilisation: only read if GPM did not give the traffic.
            Item("NVLink traffic", self._nvlink, self._slow_ns),
        ]

    def _ask(self, function: str, *arguments: Any) -> Any:
        return self._calls(function, self.handle, *arguments)

    def _utilisation(self, now_ns: int) -> Values:
        if self._gpm is not None:
            try:
                found = self._believable(self._gpm.read(now_ns))
            except Fault as fault:
                if fault.kind not in _PERMANENT_KINDS:
                    raise
                self._gpm.close()
                self._gpm, self._gpm_fault, self._gpm_nvlink = None, fault, False
            else:
                self._gpm_nvlink = "nvlink_tx_gb_per_s" in found
                if not found or found.get("sm_util_percent") is not None:
                    return {**found, "sm_util_source": "gpm"} if found else {}
                # GPM without SM utilisation: NVML's utilisation, marked as such, beside the GPM metrics.
                return {**found, **self._plain_utilisation()}
        return self._plain_utilisation()

    def _plain_utilisation(self) -> Values:
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return {"sm_util_percent": rates.gpu, "sm_util_source": "nvml"}

    def _memory(self, _now_ns: int) -> Values:
        try:
            memory = self._calls("nvmlDeviceGetMemoryInfo", self.handle, version=_MEMORY_V2)
        except Fault as fault:
            if fault.kind is not Kind.NOT_SUPPORTED:
                raise
            memory = self._ask("nvmlDeviceGetMemoryInfo")
        return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}

    def _throttle(self, _now_ns: int) -> Values:
        try:
            bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        except Fault as fault:
            if fault.kind is not Kind.NOT_SUPPORTED:
                raise
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")  # the function's name before driver 535
        return {"throttle_reasons": throttle_names(bits)}

    def _power_limit(self, _now_ns: int) -> Values:
        return {"power_limit_w": self._ask("nvmlDeviceGetEnforcedPowerLimit") / 1000}

    def _power_instant(self, _now_ns: int) -> Values:
        return {"power_instant_w": field_value(self._calls, self.handle, _FIELD_POWER_INSTANT) / 1000}

    def _energy(self, now_ns: int) -> Values:
        return {"energy_j": self._ask("nvmlDeviceGetTotalEnergyConsumption") / 1000, "energy_mono_ns": now_ns}

    def _processes(self, _now_ns: int) -> Values:
        self.process_memory = {}
        for process in self._ask("nvmlDeviceGetComputeRunningProcesses"):
            used = getattr(process, "usedGpuMemory", None)  # None under MIG, WSL and some containers
            before = self.process_memory.get(process.pid)
            self.process_memory[process.pid] = used if before is None or used is None else before + used
        pids = sorted(self.process_memory)
        if self._is_foreign is None:
            return {"processes": pids}
        return {"processes": pids, "foreign_processes": [pid for pid in pids if self._is_foreign(pid)]}

    def _nvlink(self, now_ns: int) -> Values:
        if self._gpm_nvlink or (self._gpm is not None and self._gpm.waiting):
            return {}
        counters = field_values(self._calls, self.handle, _NVLINK_DATA)
        if unknown := [kib for kib in counters if kib in PLACEHOLDERS]:
            self._implausible["nvlink"] = f"an NVLink counter of {unknown[0]:g} KiB"
            return {}
        self._implausible.pop("nvlink", None)
        rates = [rate.update(kib, now_ns) for rate, kib in zip(self._nvlink_rates, counters, strict=True)]
        tx, rx = (None if rate is None else rate * _ALL_LINKS_KIB / 1e9 for rate in rates)
        return {"nvlink_tx_gb_per_s": tx, "nvlink_rx_gb_per_s": rx}


def _tolerant_ns(interval_s: float) -> int:
    """The interval with a tolerance, so that a pass that is a little early does not delay a slow reading by a pass."""
    return int((interval_s - min(0.1 * interval_s, 0.1)) * 1e9)


def _lost_note(index: int, fault: Fault) -> tuple[str, str]:
    if fault.kind is Kind.GPU_LOST:
        return Kind.GPU_LOST, (
            f"GPU {index} is lost (fallen off the bus; {fault}): it is not read again. Look for its XID with "
            "`dmesg | grep -i xid`, then reset it or restart the node."
        )
    if fault.kind is Kind.RESET_REQUIRED:
        return Kind.RESET_REQUIRED, f"GPU {index} must be reset before it can be used (`nvidia-smi -r -i {index}`)."
    if fault.kind is Kind.NO_PERMISSION:
        return Kind.NO_PERMISSION, f"GPU {index} may not be opened by this user."
    if fault.kind is Kind.NOT_SUPPORTED:
        return "gpu_not_found", f"There is no GPU {index} on this host: choose others with --gpus."
    return Kind.FAILED, f"GPU {index} cannot be opened ({fault})."
