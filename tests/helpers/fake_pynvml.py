"""A stand-in for the pynvml module: GPUs as plain objects whose answers and failures a test sets.

`nvml.fail[("nvmlDeviceGetPowerUsage", 0)] = 15` makes that call fail for GPU 0 (None: for every GPU, and for calls that
have no GPU). Every function it has exists in the real binding with the same parameters; a test checks that.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


@dataclass
class FakeGpu:
    index: int
    name: str = "NVIDIA H200"
    gpm: bool = True
    mig: bool = False
    sm_util: float = 87.5
    nvlink_mib_per_s: float = 1000.0
    nvlink_kib: list[int] = field(default_factory=lambda: [0, 0])
    energy_mj: int = 5_000_000
    throttle: int = 0x4
    pids: list[int] = field(default_factory=list)
    links: int = 18
    down: set[int] = field(default_factory=set)  # links that are inactive
    untold: set[int] = field(default_factory=set)  # links that the driver does not support
    remote: str = "switch"  # or the peer's PCI bus id

    @property
    def bus_id(self) -> str:
        return f"00000000:{self.index + 1:02X}:00.0"


class FakeNvml:
    """The module itself: put it into sys.modules as `pynvml`."""

    NVMLError = NVMLError

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.fail: dict[tuple[str, int | None], int] = {}
        self.xids: list[tuple[int, int]] = []  # (GPU, XID) not yet reported
        self.calls: list[str] = []
        self.open_count = 0
        self._samples_taken = 0

    def _enter(self, function: str, gpu: FakeGpu | None = None) -> None:
        self.calls.append(function)
        for key in ((function, None), (function, gpu.index if gpu else None), ("*", gpu.index if gpu else -1)):
            if key in self.fail:
                raise NVMLError(self.fail[key])

    # -- the system
    def nvmlInit(self) -> None:
        self._enter("nvmlInit")
        self.open_count += 1

    def nvmlShutdown(self) -> None:
        self.open_count -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._enter("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.159.04"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13000

    def nvmlSystemGetNVMLVersion(self) -> str:
        return "13.580.159.04"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if not 0 <= index < len(self.gpus):
            raise NVMLError(2)
        self._enter("nvmlDeviceGetHandleByIndex", self.gpus[index])
        return self.gpus[index]

    # -- plain readings
    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        self._enter("nvmlDeviceGetUUID", handle)
        return f"GPU-{handle.index}"

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetIndex(self, handle: FakeGpu) -> int:
        return handle.index

    def nvmlDeviceGetMigMode(self, device: FakeGpu) -> list[int]:
        self._enter("nvmlDeviceGetMigMode", device)
        return [int(device.mig), int(device.mig)]

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> Any:
        self._enter("nvmlDeviceGetUtilizationRates", handle)
        if handle.mig:
            raise NVMLError(3)
        return SimpleNamespace(gpu=int(handle.sm_util), memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu, version: int | None = None) -> Any:
        self._enter("nvmlDeviceGetMemoryInfo", handle)
        return SimpleNamespace(used=12 * GIB, total=141 * GIB, free=129 * GIB)

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetPowerUsage", handle)
        return 612_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetEnforcedPowerLimit", handle)
        return 700_000

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: FakeGpu) -> int:
        return 700_000

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: FakeGpu) -> list[int]:
        return [200_000, 700_000]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetTotalEnergyConsumption", handle)
        return handle.energy_mj

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> int:
        self._enter("nvmlDeviceGetTemperature", handle)
        return 61

    def nvmlDeviceGetClockInfo(self, handle: FakeGpu, type: int) -> int:
        self._enter("nvmlDeviceGetClockInfo", handle)
        return {1: 1980, 2: 3201}[type]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetCurrentClocksEventReasons", handle)
        return handle.throttle

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: FakeGpu) -> int:
        self._enter("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return handle.throttle

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu) -> list[Any]:
        self._enter("nvmlDeviceGetComputeRunningProcesses", handle)
        return [SimpleNamespace(pid=pid, usedGpuMemory=70 << 30) for pid in handle.pids]

    def nvmlDeviceGetFieldValues(self, handle: FakeGpu, fieldIds: list[Any]) -> list[Any]:
        self._enter("nvmlDeviceGetFieldValues", handle)
        values = {138: (handle.nvlink_kib[0], "ullVal", 3), 139: (handle.nvlink_kib[1], "ullVal", 3)}
        values[186] = (630_000, "uiVal", 1)
        found = []
        for field_id, scope in fieldIds:
            value, member, kind = values[field_id]
            assert field_id == 186 or scope == 0xFFFFFFFF
            code = 3 if field_id != 186 and not handle.links else 0
            union = SimpleNamespace(**{member: value})
            found.append(SimpleNamespace(fieldId=field_id, nvmlReturn=code, valueType=kind, value=union))
        return found

    # -- GPM
    def nvmlGpmQueryDeviceSupport(self, device: FakeGpu) -> Any:
        self._enter("nvmlGpmQueryDeviceSupport", device)
        return SimpleNamespace(isSupportedDevice=int(device.gpm))

    def nvmlGpmSampleAlloc(self) -> Any:
        return SimpleNamespace(gpu=None)

    def nvmlGpmSampleFree(self, gpmSample: Any) -> None:
        gpmSample.gpu = "freed"

    def nvmlGpmSampleGet(self, device: FakeGpu, gpmSample: Any) -> Any:
        self._enter("nvmlGpmSampleGet", device)
        assert gpmSample.gpu != "freed"
        gpmSample.gpu = device
        self._samples_taken += 1
        gpmSample.order = self._samples_taken
        return gpmSample

    def c_nvmlGpmMetricsGet_t(self) -> Any:
        metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(20)]
        return SimpleNamespace(version=0, numMetrics=0, sample1=None, sample2=None, metrics=metrics)

    def nvmlGpmMetricsGet(self, metricsGet: Any) -> Any:
        gpu: FakeGpu = metricsGet.sample2.gpu
        self._enter("nvmlGpmMetricsGet", gpu)
        assert metricsGet.version == 1
        assert metricsGet.sample1.order < metricsGet.sample2.order, "the older sample comes first"
        percent = {2: gpu.sm_util, 3: 30.0, 5: 55.0, 10: 70.0}
        traffic = {20: 100.0, 21: 200.0, 60: gpu.nvlink_mib_per_s, 61: 2 * gpu.nvlink_mib_per_s}
        for metric in metricsGet.metrics[: metricsGet.numMetrics]:
            metric.nvmlReturn = 3 if metric.metricId in (60, 61) and not gpu.links else 0
            metric.value = (percent | traffic)[metric.metricId]
        return metricsGet

    # -- events
    def nvmlEventSetCreate(self) -> str:
        self._enter("nvmlEventSetCreate")
        return "set"

    def nvmlDeviceRegisterEvents(self, handle: FakeGpu, eventTypes: int, eventSet: str) -> None:
        self._enter("nvmlDeviceRegisterEvents", handle)

    def nvmlEventSetWait_v2(self, eventSet: str, timeoutms: int) -> Any:
        self._enter("nvmlEventSetWait_v2")
        assert timeoutms == 0, "sampling never waits"
        if not self.xids:
            raise NVMLError(10)
        gpu, xid = self.xids.pop(0)
        return SimpleNamespace(device=self.gpus[gpu], eventType=0x8, eventData=xid)

    def nvmlEventSetFree(self, eventSet: str) -> None:
        pass

    # -- links and places
    def nvmlDeviceGetCudaComputeCapability(self, handle: FakeGpu) -> tuple[int, int]:
        return (9, 0)

    def nvmlDeviceGetVbiosVersion(self, handle: FakeGpu) -> str:
        return "96.00.A5.00.01"

    def nvmlDeviceGetCurrentEccMode(self, handle: FakeGpu) -> int:
        return 1

    def nvmlDeviceGetPersistenceMode(self, handle: FakeGpu) -> int:
        return 1

    def nvmlDeviceGetMaxClockInfo(self, handle: FakeGpu, type: int) -> int:
        return {1: 1980, 2: 3201}[type]

    def nvmlDeviceGetApplicationsClock(self, handle: FakeGpu, type: int) -> int:
        self._enter("nvmlDeviceGetApplicationsClock", handle)
        return 1980

    def nvmlDeviceGetPciInfo(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(busId=handle.bus_id.encode())

    def nvmlDeviceGetNumaNodeId(self, handle: FakeGpu) -> int:
        return handle.index // 4

    def nvmlDeviceGetNvLinkState(self, device: FakeGpu, link: int) -> int:
        self._enter("nvmlDeviceGetNvLinkState", device)
        if link >= device.links:
            raise NVMLError(2)
        if link in device.untold:
            raise NVMLError(3)
        return int(link not in device.down)

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: FakeGpu, link: int) -> int:
        return 2 if handle.remote == "switch" else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, device: FakeGpu, link: int) -> Any:
        return SimpleNamespace(busId=device.remote.encode())

    def nvmlDeviceGetTopologyCommonAncestor(self, device1: FakeGpu, device2: FakeGpu) -> int:
        return 20 if device1.index // 4 == device2.index // 4 else 50

    def nvmlDeviceGetP2PStatus(self, device1: FakeGpu, device2: FakeGpu, p2pIndex: int) -> int:
        self._enter("nvmlDeviceGetP2PStatus", device1)
        assert p2pIndex in (0, 2)
        return 0
