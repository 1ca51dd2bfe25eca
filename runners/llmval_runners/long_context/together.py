"""The record of several replicas: each one's lengths, and figures for all together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmval_runners.long_context.last_screen import verdict_of

Value = dict[str, Any]
_STATES = ("out_of_memory", "not_run", "passed")  # the worst first
_COMPARISONS = ("not_run", "compared", "not_compared")


def replica_json(value: Mapping[str, Any], facts: Mapping[str, Any]) -> Value:
    """The part of a replica's own record that the record of all keeps. `facts`: which replica it is."""
    verdict = {key: value["verdict"][key] for key in ("word", "reason")}
    kept = {key: value[key] for key in ("partial", "reasons", "memory", "lengths", "find_max")}
    return {**facts, "device_name": value["identity"]["device_name"], "verdict": verdict, **kept}


def together(own: Mapping[str, Any], replicas: Sequence[Value], ranks: int, early: str | None = None) -> Value:
    """The record of all: `own` is rank 0's. Throughput and energy add; a time is that of the slowest replica.

    A replica without lengths has reported nothing of its own.

    Args:
        own: the record of rank 0's replica.
        replicas: of each one, `replica_json`.
        ranks: of a replica.
        early: why the run ended early.
    """
    lengths = [
        _length([next((e for e in one["lengths"] if e["sequence_length"] == length), None) for one in replicas], ranks)
        for length in (entry["sequence_length"] for entry in own["lengths"])
    ]
    reasons = [f"replica {one['replica']} on {one['host']}: {reason}" for one in replicas for reason in one["reasons"]]
    memories = [one["memory"] for one in replicas if one["memory"]]
    value = {
        **own,
        "reasons": reasons if early is None else [early],
        "memory": min(memories, key=lambda memory: int(memory["free_bytes"])) if memories else None,
        "lengths": lengths,
        "find_max": _find_max([one["find_max"] for one in replicas]),
        "replicas": list(replicas),
    }
    ran_out = any(entry["status"] == "out_of_memory" for entry in lengths)
    return value | {"verdict": verdict_of(value, early=early is not None and not ran_out).as_json()}


def _length(entries: Sequence[Value | None], ranks: int) -> Value:
    """One length on all replicas; None for one that has reported nothing."""
    known = [entry for entry in entries if entry is not None]
    states = [entry["status"] if entry is not None else "not_run" for entry in entries]
    passed = set(states) == {"passed"}
    failures = [failure for entry in known for failure in entry["failure"] or []]
    return {
        **known[0],
        "status": min(states, key=_STATES.index),
        "prediction": min((entry["prediction"] for entry in known), key=lambda found: int(found["free_bytes"])),
        "memory": [
            {**rank, "rank": number * ranks + rank["rank"]}
            for number, entry in enumerate(entries)
            if entry is not None
            for rank in entry["memory"]
        ],
        "prefill_attention": "+".join(sorted({e["prefill_attention"] for e in known if e["prefill_attention"]}))
        or None,
        "prefill": _phase([entry["prefill"] for entry in known], "seconds") if passed else None,
        "decode": _phase([entry["decode"] for entry in known], "step_ms") if passed else None,
        "fidelity": min((entry["fidelity"] for entry in known), key=_closeness),
        "needle": _needle([entry["needle"] for entry in known]),
        "failure": failures or None,
    }


def _phase(found: Sequence[Value], time: str) -> Value:
    """The slowest replica's, with the throughput and the energy of all."""
    slowest = max(found, key=lambda phase: float(phase[time]))
    energy = _energy([phase["energy"] for phase in found])
    return {**slowest, "tokens_per_s": sum(phase["tokens_per_s"] for phase in found), "energy": energy}


def _energy(found: Sequence[Value]) -> Value:
    missing = next((energy["missing"] for energy in found if energy["missing"]), None)
    if missing is not None:
        return {"energy_j": None, "power_w": None, "tokens_per_joule": None, "missing": missing}
    joules = sum(energy["energy_j"] for energy in found)
    rates = [energy["tokens_per_joule"] for energy in found]
    tokens = None if None in rates else sum(energy["tokens_per_joule"] * energy["energy_j"] for energy in found)
    return {
        **found[0],
        "energy_j": joules,
        "power_w": sum(energy["power_w"] for energy in found),
        "tokens_per_joule": tokens / joules if tokens is not None and joules > 0 else None,
        "resolution_percent": max(energy.get("resolution_percent", 0.0) for energy in found),
    }


def _closeness(fidelity: Mapping[str, Any]) -> tuple[int, float]:
    """Orders comparisons from the worst to the best: not run, then by the error. None: a logit was not a number."""
    errors = [fidelity[kind]["relative_error"] for kind in ("prompt", "decode") if fidelity[kind]]
    worst = float("inf") if None in errors else max(errors, default=0.0)
    return _COMPARISONS.index(fidelity["status"]), -worst


def _needle(found: Sequence[Value | None]) -> Value | None:
    known = [needle for needle in found if needle is not None]
    count: Callable[[Value], int] = lambda needle: sum(depth["found"] for depth in needle["depths"])  # noqa: E731
    return min(known, key=count, default=None)


def _find_max(found: Sequence[Value | None]) -> Value | None:
    """The longest context that all replicas hold: the shortest of theirs."""
    known = [one for one in found if one is not None]
    if not known:
        return None
    shortest = min(known, key=lambda one: int(one["length"]))
    failure = next((one["failure"] for one in known if one.get("failure")), None)
    proved = len(known) == len(found) and all(one["proved"] for one in known)
    return {**shortest, "proved": proved} | ({"failure": failure} if failure else {})
