"""The links of a GPU by NVML: NVLink and PCIe, the path to a peer, and the counters of NVLink traffic.

Beside `nvml_meter.py` the only runner module that imports pynvml.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

from llmval_runners.process.install import how_to_install

# From nvml.h: fields of nvmlDeviceGetFieldValues, nvmlNvlinkVersion_t, nvmlGpuTopologyLevel_t, …
_FIELD_DATA_TX, _FIELD_DATA_RX = 138, 139  # KiB without protocol; scope 0xFFFFFFFF: all links together
_FIELD_LINK_SPEED = 164  # MB/s of one link, what `nvidia-smi nvlink -s` prints
_ALL_LINKS = 0xFFFFFFFF
_MOST_LINKS = 36
_INVALID_ARGUMENT = 2
_REMOTE_GPU, _REMOTE_SWITCH = 0, 2
_P2P_NVLINK, _P2P_OK = 2, 0
_LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_FABRIC_COMPLETED = 3  # NVML_GPU_FABRIC_STATE_COMPLETED
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_PLACEHOLDERS = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, -1)
# NVML's version → generation, and GB/s of one link in one direction by NVIDIA's datasheets, the sum of a GPU's links in
# both directions being 160 (P100, 4 links), 300 (V100, 6), 600 (A100, 12), 900 (H100, H200, 18), 1800 GB/s (B200, 18).
NVLINK = {1: ("1.0", 20.0), 2: ("2.0", 25.0), 3: ("2.2", 25.0), 4: ("3.0", 25.0), 5: ("3.1", 25.0), 6: ("4.0", 25.0),
          7: ("5.0", 50.0)}  # fmt: skip
# GB/s of one lane in one direction, after the line code (PCI-SIG: 2.5, 5, 8, 16, 32 GT/s; 64 GT/s with FLIT).
PCIE_LANE = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


class LinkFault(Exception):
    """A reading failed. The message names it, for the record."""


@dataclass(frozen=True, slots=True)
class NoLinks:
    """No links can be read here, for this reason."""

    reason: str


class NvmlLinks:
    """The links of GPUs by their UUIDs. An unknown value is None."""

    def __init__(self, binding: Any) -> None:
        """`binding`: the module pynvml, initialised."""
        self._nvml = binding
        self._handles: dict[str, Any] = {}

    def describe(self, uuid: str) -> dict[str, Any]:
        """The GPU's `nvlink`, `pcie` and `fabric`, and its `pci_bus_id`; see docs/schemas. Raises LinkFault: no GPU."""
        handle = self._handle(uuid)
        pci = self._optional("nvmlDeviceGetPciInfo", handle)
        return {
            "pci_bus_id": None if pci is None else _text(pci.busId),
            "driver": self._optional("nvmlSystemGetDriverVersion"),
            "nvlink": self._nvlink(handle),
            "pcie": self._pcie(handle),
            "fabric": self._fabric(handle),
        }

    def path(self, uuid: str, peer: str) -> tuple[str | None, int]:
        """The path to a peer as in `nvidia-smi topo -m` (NV18, PIX, …; None: unknown), and the number of its NVLinks.

        Raises LinkFault: there is no such GPU on this host.
        """
        one, other = self._handle(uuid), self._handle(peer)
        mine, theirs = self._nvlink(one), self._nvlink(other)
        pci = self._optional("nvmlDeviceGetPciInfo", other)
        direct = 0 if pci is None else mine["peers"].get(_text(pci.busId), 0)
        through = min(mine["to_switch"], theirs["to_switch"])
        if direct:
            return f"NV{direct}", direct
        if through and self._optional("nvmlDeviceGetP2PStatus", one, other, _P2P_NVLINK) == _P2P_OK:
            return f"NV{through}", through
        level = self._optional("nvmlDeviceGetTopologyCommonAncestor", one, other)
        return (None if level is None else _LEVELS.get(level, f"level {level}")), 0

    def traffic(self, uuid: str) -> tuple[int, int]:
        """Bytes that the GPU has sent and received over all NVLinks, without protocol. Raises LinkFault."""
        handle = self._handle(uuid)
        wanted = [(_FIELD_DATA_TX, _ALL_LINKS), (_FIELD_DATA_RX, _ALL_LINKS)]
        sent, received = (int(self._field(value)) for value in self._call("nvmlDeviceGetFieldValues", handle, wanted))
        if sent in _PLACEHOLDERS or received in _PLACEHOLDERS:
            raise LinkFault(f"the NVLink counters read {sent} and {received} KiB, so the driver has no value")
        return sent * 1024, received * 1024

    def close(self) -> None:
        """Release the driver."""
        self._optional("nvmlShutdown")

    def _nvlink(self, handle: Any) -> dict[str, Any]:
        states: list[bool | None] = []
        speeds: set[float] = set()
        versions: set[int] = set()
        peers: dict[str, int] = {}
        to_switch = 0
        for link in range(_MOST_LINKS):
            try:
                state = self._nvml.nvmlDeviceGetNvLinkState(handle, link)
            except self._nvml.NVMLError as error:
                if int(error.value) == _INVALID_ARGUMENT:
                    break
                states.append(None)
                continue
            states.append(bool(state))
            if not state:
                continue
            version = self._optional("nvmlDeviceGetNvLinkVersion", handle, link)
            versions |= {int(version)} if version is not None else set()
            found = self._optional("nvmlDeviceGetFieldValues", handle, [(_FIELD_LINK_SPEED, link)])
            if found is not None and found[0].nvmlReturn == 0:
                speeds.add(float(self._field(found[0])) / 1000)
            kind = self._optional("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
            to_switch += kind == _REMOTE_SWITCH
            if kind == _REMOTE_GPU:
                pci = self._optional("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
                if pci is not None:
                    peers[_text(pci.busId)] = peers.get(_text(pci.busId), 0) + 1
        while states and states[-1] is None:  # beyond the last link; a GPU without NVLink has only such links
            states.pop()
        generation, rate = NVLINK.get(next(iter(versions)), (None, None)) if len(versions) == 1 else (None, None)
        reported = next(iter(speeds)) if len(speeds) == 1 else None
        return {
            "links": len(states),
            "active": sum(state is True for state in states),
            "inactive": [link for link, state in enumerate(states) if state is not True],
            "generation": generation,
            "link_gb_per_s": datasheet_rate(rate, reported),
            "reported_link_gb_per_s": reported,
            "to_switch": to_switch,
            "peers": peers,
        }

    def _pcie(self, handle: Any) -> dict[str, Any]:
        generation = self._optional("nvmlDeviceGetMaxPcieLinkGeneration", handle)  # what GPU and slot agree on at most
        width = self._optional("nvmlDeviceGetCurrPcieLinkWidth", handle)
        lane = PCIE_LANE.get(generation) if generation is not None else None
        return {
            "generation": generation,
            "width": width,
            "gb_per_s": None if lane is None or not width else lane * width,
        }

    def _fabric(self, handle: Any) -> dict[str, Any] | None:
        """The NVLink domain across nodes (MNNVL); None without one."""
        info_type = getattr(self._nvml, "c_nvmlGpuFabricInfoV_t", None)
        if info_type is None:
            return None
        info = info_type()
        if self._optional("nvmlDeviceGetGpuFabricInfoV", handle, ctypes.byref(info)) is None:
            return None
        cluster = bytes(info.clusterUuid).hex()
        if info.state != _FABRIC_COMPLETED or not cluster.strip("0"):
            return None
        return {"cluster_uuid": cluster, "clique_id": int(info.cliqueId)}

    def _handle(self, uuid: str) -> Any:
        if uuid not in self._handles:
            self._handles[uuid] = self._call("nvmlDeviceGetHandleByUUID", uuid)
        return self._handles[uuid]

    def _field(self, item: Any) -> Any:
        if item.nvmlReturn != 0 or not 0 <= item.valueType < len(_VALUE_MEMBERS):
            raise LinkFault(f"NVML field {item.fieldId} is not readable (code {item.nvmlReturn})")
        return getattr(item.value, _VALUE_MEMBERS[item.valueType])

    def _call(self, function: str, *arguments: Any) -> Any:
        target = getattr(self._nvml, function, None)
        if target is None:
            raise LinkFault(f"this nvidia-ml-py has no {function}")
        try:
            return target(*arguments)
        except self._nvml.NVMLError as error:
            raise LinkFault(f"{function} failed: {error}") from error

    def _optional(self, function: str, *arguments: Any) -> Any | None:
        try:
            return self._call(function, *arguments)
        except LinkFault:
            return None


def datasheet_rate(by_version: float | None, reported: float | None) -> float | None:
    """GB/s of a link in one direction. The driver's figure decides between the datasheets' (an H200 reports 26.562 for
    25), unless it is near none of them: a link that trained at a lower rate must not lower what is expected of it."""
    if reported is not None:
        nearest = min({rate for _, rate in NVLINK.values()}, key=lambda rate: abs(rate - reported))
        if abs(nearest - reported) <= 0.15 * nearest:
            return nearest
    return by_version


def open_links(*, on_gpu: bool) -> NvmlLinks | NoLinks:
    """The reader, or the reason why there is none. Never raises."""
    if not on_gpu:
        return NoLinks("these ranks are on CPUs")
    try:
        import pynvml
    except ImportError:
        return NoLinks(f"the Python package nvidia-ml-py is missing: {how_to_install('nvidia-ml-py')}")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return NoLinks(f"NVML cannot be used: {error}")
    return NvmlLinks(pynvml)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
