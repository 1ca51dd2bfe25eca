"""What the replicas of a load test say of their machines, taken together."""

from collections.abc import Mapping, Sequence
from typing import Any

_MOST = {"queue": ("most_waiting", "most_running"), "memory": ("kv_used_percent", "peak_allocated_bytes")}
_SUMS = ("joules", "power_w", "gpus")


def together(parts: Sequence[tuple[Mapping[str, Any], int]]) -> dict[str, Any]:
    """`queue`, `memory`, `energy` and `utilisation` of all replicas, from each one's extras and completed requests.

    Maxima are those of the replica that has the most. Energy adds. MFU and MBU are means over the replicas, which have
    equal numbers of GPUs. What one replica does not know is not known of all.
    """
    extras = [extra for extra, _ in parts]
    found: dict[str, Any] = {}
    for name, keys in _MOST.items():
        if all(name in extra for extra in extras):
            known = [key for key in keys if all(key in extra[name] for extra in extras)]
            found[name] = {key: max(extra[name][key] for extra in extras) for key in known}
    if "queue" in found:
        found["queue"]["mean_wait_s"] = _mean_wait(parts)
    if all("energy" in extra for extra in extras):
        found["energy"] = _energy([extra["energy"] for extra in extras])
    if all("utilisation" in extra for extra in extras):
        found["utilisation"] = _utilisation([extra["utilisation"] for extra in extras])
    return found


def _mean_wait(parts: Sequence[tuple[Mapping[str, Any], int]]) -> float | None:
    """Over all completed requests: a replica without one has no mean, and adds nothing."""
    waits = [(extra["queue"]["mean_wait_s"], done) for extra, done in parts if done]
    if not waits or any(wait is None for wait, _ in waits):
        return None
    return float(sum(wait * done for wait, done in waits)) / sum(done for _, done in waits)


def _energy(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = {key: sum(part[key] for part in parts) for key in _SUMS}
    limits, rates = [part["power_limit_w"] for part in parts], [part["tokens_per_joule"] for part in parts]
    tokens = None if None in rates else sum(part["tokens_per_joule"] * part["joules"] for part in parts)
    return {
        **sums,
        "tokens_per_joule": None if tokens is None or not sums["joules"] else tokens / sums["joules"],
        "power_limit_w": None if None in limits else sum(limits),
    }


def _utilisation(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    missing = next((part["missing"] for part in parts if part["missing"]), None)
    found: dict[str, Any] = {key: _mean([part[key] for part in parts]) for key in ("tflops_per_s", "tb_per_s")}
    for name, rate in (("mfu", found["tflops_per_s"]), ("mbu", found["tb_per_s"])):
        sources = {tuple(peak["source"] for peak in part[name]) for part in parts}
        rows = list(zip(*(part[name] for part in parts), strict=True)) if len(sources) == 1 else []
        if len(sources) > 1:
            missing = missing or "the replicas have GPUs of different kinds"
        peaks = [(_mean([peak["peak"] for peak in row]), row[0]["source"]) for row in rows]
        found[name] = [{"percent": 100 * rate / peak, "peak": peak, "source": source} for peak, source in peaks]
    return {**found, "missing": missing}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
