"""The gate on the links between the GPUs of a node, from the driver's inventory."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmval_tui.runs.records import Gate, Outcome

_NAME = "topology"
_BOUND = "NVLink between every pair, every link active"


def judge_topology(inventory: Mapping[str, Any], chosen: Sequence[int] | None = None) -> Gate:
    """Whether NVLink connects every pair of GPUs (of `chosen`, if given).

    `inventory` comes from `NvmlSource.inventory`, or is `{"error": sentence}`. A pair with the path PIX, PXB, PHB, NODE
    or SYS (as in `nvidia-smi topo -m`) falls back to PCIe.
    """
    if error := inventory.get("error"):
        return Gate(_NAME, Outcome.INCONCLUSIVE, "not available", _BOUND, str(error))
    gpus = [gpu for gpu in inventory.get("gpus") or [] if chosen is None or gpu.get("index") in chosen]
    if not gpus:
        why = "no NVIDIA driver, or no GPU, on this machine" if not inventory.get("gpus") else "none of the chosen GPUs"
        return Gate(_NAME, Outcome.INCONCLUSIVE, "not available", _BOUND, why)
    if len(gpus) == 1:
        return Gate(_NAME, Outcome.INCONCLUSIVE, "1 GPU", _BOUND, "there is no pair of GPUs")
    topology = inventory.get("topology") or {}
    order: list[int] = topology.get("gpus") or []
    links: list[list[str | None]] = topology.get("links") or []
    wanted = {gpu["index"] for gpu in gpus}
    pairs = {
        (one, other): links[row][column]
        for row, one in enumerate(order)
        for column, other in enumerate(order)
        if row < column and {one, other} <= wanted
    }
    p2p: list[list[str | None]] = topology.get("p2p") or []
    closed: dict[tuple[int, int], str | None] = {
        (one, other): p2p[row][column]
        for row, one in enumerate(order[: len(p2p)])
        for column, other in enumerate(order)
        if row < column and {one, other} <= wanted and p2p[row][column] not in (None, "ok")
    }
    return _judge(pairs, gpus, closed)


def _judge(
    pairs: Mapping[tuple[int, int], str | None],
    gpus: list[dict[str, Any]],
    closed: Mapping[tuple[int, int], str | None],
) -> Gate:
    fallback = {pair: path for pair, path in pairs.items() if path is not None and not path.startswith("NV")}
    unknown = [pair for pair, path in pairs.items() if path is None]
    kinds = ", ".join(sorted({path for path in pairs.values() if path}))
    measured = f"{len(pairs)} pairs: {kinds or 'unknown'}"
    if fallback:
        named = ", ".join(f"{one}–{other} {path}" for (one, other), path in list(fallback.items())[:6])
        return Gate(_NAME, Outcome.FAIL, measured, _BOUND, f"PCIe fallback between {len(fallback)} pairs: {named}")
    if dead := [_dead(gpu) for gpu in gpus if (gpu.get("nvlink_links") or 0) > (gpu.get("nvlink_links_active") or 0)]:
        return Gate(_NAME, Outcome.FAIL, measured, _BOUND, f"links that are not active: {'; '.join(dead)}")
    if fewer := _fewer(gpus):
        return Gate(_NAME, Outcome.FAIL, measured, _BOUND, f"fewer links than on GPUs of the same kind: {fewer}")
    if unknown or not pairs:
        reason = f"the driver reports no link for {len(unknown)} pairs"
        return Gate(_NAME, Outcome.INCONCLUSIVE, measured, _BOUND, reason)
    if closed:
        named = ", ".join(f"{one}–{other} {why}" for (one, other), why in list(closed.items())[:6])
        reason = f"the driver reports that {len(closed)} pairs cannot access each other's memory: {named}"
        return Gate(_NAME, Outcome.INCONCLUSIVE, measured, _BOUND, reason)
    return Gate(_NAME, Outcome.PASS, measured, _BOUND)


def _dead(gpu: Mapping[str, Any]) -> str:
    """`GPU 3: 17 of 18 (link 5)`."""
    links = [str(link) for link, state in enumerate(gpu.get("nvlink_states") or []) if state != "active"]
    named = f" (link {', '.join(links)})" if links else ""
    return f"GPU {gpu['index']}: {gpu['nvlink_links_active']} of {gpu['nvlink_links']}{named}"


def _fewer(gpus: list[dict[str, Any]]) -> str:
    """The GPUs that report fewer links than others of their kind: a missing link is not reported as inactive."""
    most: dict[Any, int] = {}
    for gpu in gpus:
        most[gpu.get("name")] = max(most.get(gpu.get("name"), 0), gpu.get("nvlink_links") or 0)
    return "; ".join(
        f"GPU {gpu['index']} has {gpu['nvlink_links']} of {most[gpu.get('name')]}"
        for gpu in gpus
        if gpu.get("nvlink_links") is not None and gpu["nvlink_links"] < most[gpu.get("name")]
    )


def topology_lines(inventory: Mapping[str, Any]) -> list[str]:
    """The matrix in the format of `nvidia-smi topo -m`, and the links of each GPU; [] if unknown."""
    topology = inventory.get("topology") or {}
    order = [f"GPU{index}" for index in topology.get("gpus") or []]
    if not order:
        return []
    lines = ["      " + " ".join(f"{name:>5}" for name in order)]
    for name, row in zip(order, topology.get("links") or [], strict=False):
        lines.append(f"{name:<5} " + " ".join(f"{path or '?':>5}" for path in row))
    for gpu in inventory.get("gpus") or []:
        links, active = gpu.get("nvlink_links"), gpu.get("nvlink_links_active")
        lines.append(
            f"GPU{gpu['index']}: " + ("links unknown" if links is None else f"{active} of {links} links active")
        )
    return lines
