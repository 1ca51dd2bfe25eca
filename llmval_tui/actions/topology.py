"""How the GPUs of a node reach one another, judged from the driver's inventory."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmval_tui.runs.records import Gate, Outcome

_NAME = "topology"
_BOUND = "NVLink between every pair, every link active"


def judge_topology(inventory: Mapping[str, Any], chosen: Sequence[int] | None = None) -> Gate:
    """Whether every pair of GPUs (of `chosen`, if given) is joined by NVLink.

    `inventory` is what `NvmlSource.inventory` gives, or `{"error": sentence}`. A pair whose path is PIX, PXB, PHB,
    NODE or SYS (`nvidia-smi topo -m`) falls back to PCIe.
    """
    if error := inventory.get("error"):
        return Gate(_NAME, Outcome.INCONCLUSIVE, "not available", _BOUND, str(error))
    gpus = [gpu for gpu in inventory.get("gpus") or [] if chosen is None or gpu.get("index") in chosen]
    if not gpus:
        why = "no NVIDIA driver, or no GPU, on this machine" if not inventory.get("gpus") else "none of the chosen GPUs"
        return Gate(_NAME, Outcome.INCONCLUSIVE, "not available", _BOUND, why)
    if len(gpus) == 1:
        return Gate(_NAME, Outcome.INCONCLUSIVE, "1 GPU", _BOUND, "there is no pair to look at")
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
    return _judge(pairs, gpus)


def _judge(pairs: Mapping[tuple[int, int], str | None], gpus: list[dict[str, Any]]) -> Gate:
    fallback = {pair: path for pair, path in pairs.items() if path is not None and not path.startswith("NV")}
    unknown = [pair for pair, path in pairs.items() if path is None]
    kinds = ", ".join(sorted({path for path in pairs.values() if path}))
    measured = f"{len(pairs)} pairs: {kinds or 'not known'}"
    if fallback:
        named = ", ".join(f"{one}–{other} {path}" for (one, other), path in list(fallback.items())[:6])
        return Gate(_NAME, Outcome.FAIL, measured, _BOUND, f"PCIe fallback between {len(fallback)} pairs: {named}")
    dead = [
        f"GPU {gpu['index']}: {gpu['nvlink_links_active']} of {gpu['nvlink_links']}"
        for gpu in gpus
        if gpu.get("nvlink_links") is not None and gpu["nvlink_links_active"] < gpu["nvlink_links"]
    ]
    if dead:
        return Gate(_NAME, Outcome.FAIL, measured, _BOUND, f"links that are not active: {'; '.join(dead)}")
    if unknown or not pairs:
        return Gate(_NAME, Outcome.INCONCLUSIVE, measured, _BOUND, f"the driver tells nothing of {len(unknown)} pairs")
    return Gate(_NAME, Outcome.PASS, measured, _BOUND)
