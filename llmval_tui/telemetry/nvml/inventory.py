"""Constant facts about the GPUs of a host: versions, limits, bus addresses and links."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llmval_tui.telemetry.nvml.calls import Calls, Fault
from llmval_tui.telemetry.nvml.plausible import known

# Topology levels of nvml.h (nvmlGpuTopologyLevel_t), named as in `nvidia-smi topo -m`.
_LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_P2P_READ, _P2P_NVLINK = 0, 2  # nvmlGpuP2PCapsIndex_t; the binding's own READ constant is wrongly a tuple
_P2P_STATUS = {
    0: "ok",
    1: "chipset_not_supported",
    2: "gpu_not_supported",
    3: "topology_not_supported",
    4: "disabled_by_regkey",
    5: "not_supported",
}
_REMOTE_GPU, _REMOTE_SWITCH = 0, 2  # nvmlIntNvLinkDeviceType_t
_SM_CLOCK, _MEMORY_CLOCK = 1, 2  # nvmlClockType_t
_NO_SUCH_LINK, _NOT_SUPPORTED = 2, 3  # nvmlReturn_t
_MOST_LINKS = 36  # NVML_NVLINK_MAX_LINKS; a GPU with fewer links returns "invalid argument" beyond its last


def describe(calls: Calls, chosen: Sequence[int] | None = None) -> dict[str, Any]:
    """The inventory as plain JSON values; unknown values are None.

    Keys: `driver_version`, `cuda_driver_version` ("13.0"), `nvml_version`, `gpu_count` (on the host), `gpus` (one
    dictionary per GPU), and `topology`: `gpus` (indices in matrix order), `links` (a matrix of "X", "NV<links>" or the
    PCIe path as in `nvidia-smi topo -m`) and `p2p` (whether peer reads work: "ok" or the reason why not).
    """
    count = calls.optional("nvmlDeviceGetCount")
    indices = list(chosen) if chosen is not None else list(range(count or 0))
    handles = {index: calls.optional("nvmlDeviceGetHandleByIndex", index) for index in indices}
    gpus = [_gpu(calls, index, handle) for index, handle in handles.items()]
    return {
        "driver_version": calls.optional("nvmlSystemGetDriverVersion"),
        "cuda_driver_version": _cuda_version(calls.optional("nvmlSystemGetCudaDriverVersion")),
        "nvml_version": calls.optional("nvmlSystemGetNVMLVersion"),
        "gpu_count": count,
        "gpus": gpus,
        "topology": _topology(calls, handles, {gpu["index"]: gpu for gpu in gpus}),
    }


def _gpu(calls: Calls, index: int, handle: Any | None) -> dict[str, Any]:
    def ask(function: str, *arguments: Any) -> Any | None:
        return None if handle is None else calls.optional(function, handle, *arguments)

    memory = ask("nvmlDeviceGetMemoryInfo")
    limits = ask("nvmlDeviceGetPowerManagementLimitConstraints") or (None, None)
    capability = ask("nvmlDeviceGetCudaComputeCapability")
    pci = ask("nvmlDeviceGetPciInfo")
    mig = ask("nvmlDeviceGetMigMode")
    ecc = ask("nvmlDeviceGetCurrentEccMode")
    persistence = ask("nvmlDeviceGetPersistenceMode")
    return {
        "index": index,
        "name": ask("nvmlDeviceGetName"),
        "uuid": ask("nvmlDeviceGetUUID"),
        "memory_total_bytes": None if memory is None else known("memory_total_bytes", memory.total),
        "power_limit_w": _watts(ask("nvmlDeviceGetEnforcedPowerLimit")),
        "power_limit_default_w": _watts(ask("nvmlDeviceGetPowerManagementDefaultLimit")),
        "power_limit_min_w": _watts(limits[0]),
        "power_limit_max_w": _watts(limits[1]),
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "pci_bus_id": None if pci is None else _text(pci.busId),
        "numa_node": ask("nvmlDeviceGetNumaNodeId"),
        "mig_enabled": None if mig is None else mig[0] == 1,
        "vbios_version": ask("nvmlDeviceGetVbiosVersion"),
        "ecc_enabled": None if ecc is None else ecc == 1,
        "persistence_enabled": None if persistence is None else persistence == 1,
        "sm_clock_max_mhz": ask("nvmlDeviceGetMaxClockInfo", _SM_CLOCK),
        "memory_clock_max_mhz": ask("nvmlDeviceGetMaxClockInfo", _MEMORY_CLOCK),
        "sm_clock_application_mhz": ask("nvmlDeviceGetApplicationsClock", _SM_CLOCK),
        **_nvlinks(calls, handle),
    }


def _nvlinks(calls: Calls, handle: Any | None) -> dict[str, Any]:
    """`nvlink_links` and `nvlink_links_active` (None: unknown); `nvlink_states`, by link number: "active", "inactive",
    "not supported" or None (unknown); `nvlink_remote`: number of active links by their other end, which is "switch", a
    peer's PCI bus id or "unknown"."""
    states: list[str | None] = []
    remote = Counter[str]()
    unknown: dict[str, Any] = {
        "nvlink_links": None,
        "nvlink_links_active": None,
        "nvlink_states": [],
        "nvlink_remote": {},
    }
    if handle is None:
        return unknown
    for link in range(_MOST_LINKS):
        try:
            state = calls("nvmlDeviceGetNvLinkState", handle, link)
        except Fault as fault:
            if fault.number == _NO_SUCH_LINK:
                break
            if fault.number != _NOT_SUPPORTED and link == 0:  # unknown, which is not the same as none
                return unknown
            states.append("not supported" if fault.number == _NOT_SUPPORTED else None)
            continue
        states.append("active" if state else "inactive")
        if not state:
            continue
        kind = calls.optional("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
        pci = calls.optional("nvmlDeviceGetNvLinkRemotePciInfo", handle, link) if kind == _REMOTE_GPU else None
        remote["switch" if kind == _REMOTE_SWITCH else "unknown" if pci is None else _text(pci.busId)] += 1
    while states and states[-1] == "not supported":  # beyond the last link; a GPU without NVLink has only such links
        states.pop()
    return {
        "nvlink_links": len(states),
        "nvlink_links_active": states.count("active"),
        "nvlink_states": states,
        "nvlink_remote": dict(remote),
    }


def _topology(calls: Calls, handles: dict[int, Any], gpus: dict[int, dict[str, Any]]) -> dict[str, Any]:
    links: list[list[str | None]] = []
    p2p: list[list[str | None]] = []
    for first, one in handles.items():
        links.append([])
        p2p.append([])
        for second, other in handles.items():
            if first == second:
                links[-1].append("X")
                p2p[-1].append("X")
            elif one is None or other is None:
                links[-1].append(None)
                p2p[-1].append(None)
            else:
                links[-1].append(_path(calls, one, other, gpus[first], gpus[second]))
                p2p[-1].append(_p2p(calls, one, other, _P2P_READ))
    return {"gpus": list(handles), "links": links, "p2p": p2p}


def _path(calls: Calls, one: Any, other: Any, first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """`NV<n>` for n direct NVLinks; through a switch, n is that of the GPU with fewer links. Else the PCIe path."""
    direct = first["nvlink_remote"].get(second["pci_bus_id"], 0)
    through = min(first["nvlink_remote"].get("switch", 0), second["nvlink_remote"].get("switch", 0))
    if direct:
        return f"NV{direct}"
    # Without a fabric manager, links to the switch are active but its GPUs have no NVLink between them.
    if through and _p2p(calls, one, other, _P2P_NVLINK) == "ok":
        return f"NV{through}"
    level = calls.optional("nvmlDeviceGetTopologyCommonAncestor", one, other)
    return None if level is None else _LEVELS.get(level, f"level {level}")


def _p2p(calls: Calls, one: Any, other: Any, capability: int) -> str | None:
    status = calls.optional("nvmlDeviceGetP2PStatus", one, other, capability)
    return None if status is None else _P2P_STATUS.get(status, "unknown")


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else known("power_limit_w", milliwatts / 1000)


def _cuda_version(number: int | None) -> str | None:
    """12080 is "12.8" (nvml.h: major × 1000 + minor × 10)."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
