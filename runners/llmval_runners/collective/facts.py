"""What each rank runs on, and whether the ranks fit together. Gathered before NCCL starts."""

import os
import platform
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from llmval_runners.collective import expected
from llmval_runners.measure.free_memory import free_memory
from llmval_runners.measure.nvml_links import LinkFault, NoLinks, NvmlLinks

# Variables that choose the way of the data; kept in the record.
_PREFIXES = ("NCCL_", "TORCH_NCCL_", "TORCH_SYMM_MEM_", "NVSHMEM_", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def rank_facts(
    device: torch.device, rank: int, local_rank: int, links: NvmlLinks | NoLinks, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """One rank's facts as plain JSON values. `asked`: the flags that must be equal on all ranks."""
    found: dict[str, Any] = {
        "rank": rank,
        "local_rank": local_rank,
        "host": socket.gethostname(),
        # Several nodes of one machine have one host name; torchrun numbers its agents.
        "node": os.environ.get("SLURMD_NODENAME"),
        "agent": int(os.environ.get("GROUP_RANK", "0")),
        "boot_id": _boot_id(),
        "pid": os.getpid(),
        "device": str(device),
        "name": platform.processor() or platform.machine(),
        "uuid": None,
        "memory_free_bytes": free_memory(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "nccl": None, "cuda": None},
        "environment": {key: value for key, value in sorted(os.environ.items()) if key.startswith(_PREFIXES)},
        "asked": dict(asked),
        "links_unknown": None,
        **dict.fromkeys(("pci_bus_id", "driver", "nvlink", "pcie", "fabric")),
    }
    if device.type == "cuda":
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        found["uuid"] = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        found["name"] = torch.cuda.get_device_name(device)
        found["versions"] |= {"nccl": nccl_version(), "cuda": torch.version.cuda}
    if isinstance(links, NoLinks):
        found["links_unknown"] = links.reason
    else:
        try:
            found |= links.describe(str(found["uuid"]))
        except LinkFault as fault:
            found["links_unknown"] = str(fault)
    return found


def nccl_version() -> str | None:
    """The version of the NCCL library that this process has loaded."""
    if not torch.distributed.is_nccl_available():
        return None
    return ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]  # torch's


def disagreement(facts: Sequence[Mapping[str, Any]]) -> str | None:
    """Why these ranks cannot be measured together, and what to do; None if they can."""
    first = facts[0]
    for what, remedy in (("nccl", "NCCL"), ("torch", "PyTorch")):
        for one in facts[1:]:
            mine, theirs = one["versions"][what], first["versions"][what]
            if mine != theirs:
                return (
                    f"rank {one['rank']} on {one['host']} has {remedy} {mine} and rank 0 on {first['host']} has "
                    f"{theirs}: install the same PyTorch for all ranks."
                )
    for one in facts[1:]:
        if one["asked"] != first["asked"]:
            key = next(key for key in first["asked"] if one["asked"].get(key) != first["asked"][key])
            return (
                f"rank {one['rank']} was started with {key} {one['asked'].get(key)} and rank 0 with "
                f"{first['asked'][key]}: start all ranks with the same flags."
            )
    by_gpu: dict[str, int] = {}
    for one in facts:
        if one["uuid"] is not None and (other := by_gpu.setdefault(one["uuid"], one["rank"])) != one["rank"]:
            return (
                f"ranks {other} and {one['rank']} have the same GPU {one['uuid']}: start one rank for each GPU, with "
                "the same CUDA_VISIBLE_DEVICES for all ranks of a node."
            )
    return None


def warnings(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Facts that do not stop the test and may explain a figure."""
    found = []
    for name in sorted({name for one in facts for name in one["environment"] if name.startswith("NCCL_")}):
        values = {one["environment"].get(name) for one in facts}
        if len(values) > 1:
            shown = ", ".join(sorted("unset" if value is None else value for value in values))
            found.append(f"{name} is not the same on all ranks: {shown}")
    for name, value in (("NCCL_P2P_DISABLE", "1"), ("NCCL_P2P_LEVEL", "LOC")):
        if any(one["environment"].get(name) == value for one in facts):
            found.append(f"{name}={value} keeps NCCL off NVLink")
    return found


def name_hosts(facts: Sequence[dict[str, Any]]) -> None:
    """Tell hosts with the same name apart, which images of virtual machines have: by the id of their boot."""
    boots: dict[str, set[str]] = {}
    for one in facts:
        boots.setdefault(one["host"], set()).add(one["boot_id"])
    several = {host for host, ids in boots.items() if len(ids) > 1}
    for one in facts:
        if one["host"] in several:
            one["host"] = f"{one['host']} (boot {one['boot_id'][:8]})"


def paths_from(rank: int, facts: Sequence[Mapping[str, Any]], links: NvmlLinks | NoLinks) -> list[dict[str, Any]]:
    """The path and the line rate from a rank to each other rank; see `expected`."""
    mine, found = facts[rank], []
    for other in facts:
        if other["rank"] == rank:
            continue
        path, count = None, 0
        if not isinstance(links, NoLinks) and other["host"] == mine["host"]:
            try:
                path, count = links.path(str(mine["uuid"]), str(other["uuid"]))
            except LinkFault:
                path, count = None, 0
        line = expected.line_rate_of_pair(mine, other, path, count)
        if isinstance(links, NoLinks) and line["kind"] == expected.UNKNOWN:
            line["reason"] = links.reason
        found.append(
            {
                "from": rank, "to": other["rank"], "path": path, "links": count, "kind": line["kind"],
                "line_gb_per_s": line["gb_per_s"], "reason": line["reason"] or None,
            }
        )  # fmt: skip
    return found


def nodes_of(facts: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """The ranks on each host."""
    return Counter(str(one["host"]) for one in facts)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
