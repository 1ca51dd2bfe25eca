"""The matrix of the pairs in a record of collective_bandwidth.py, for screens and reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from llmval_tui.actions.judges.slow_pairs import slow_in

Pair = tuple[int, int]
# The matrix that is shown: the first of these that was measured, one way.
_SHOWN = (("copy_engine", "write"), ("nccl", None), ("gloo", None), ("sm", "write"))


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective at its largest size, in its faster mode."""

    operation: str
    bytes: int
    time_us: float
    busbw_gb_per_s: float | None  # None with one rank


@dataclass(frozen=True, slots=True)
class PairMatrix:
    """Bandwidths of one way in GB/s, from each rank to each other one."""

    ranks: tuple[int, ...]
    method: str  # "copy engine", "nccl", …
    rates: Mapping[Pair, float | None]
    slow: frozenset[Pair]  # slower than the others, by any method
    slow_names: tuple[str, ...]  # `pair 1→3`, `GPU 2 sends`
    line_gb_per_s: float | None  # the line rate that most pairs have
    collectives: tuple[Collective, ...]

    @property
    def typical(self) -> float | None:
        """The median; None without a bandwidth."""
        known = [rate for rate in self.rates.values() if rate is not None]
        return median(known) if known else None

    def slowest(self, count: int) -> list[Pair]:
        """The slowest pairs, the slowest first."""
        known = [(rate, pair) for pair, rate in self.rates.items() if rate is not None]
        return [pair for _, pair in sorted(known)[:count]]


def matrix_of(record: Mapping[str, Any]) -> PairMatrix:
    """The matrix of a valid record; without pairs if none was measured (yet).

    Raises:
        KeyError, TypeError: it is not such a record.
    """
    cells = [one for one in record["pairs"]["cells"] if one["directions"] == 1 and one["from"] != one["to"]]
    known = {(one["method"], one["access"]) for one in cells if one["gb_per_s"] is not None}
    shown = next((kind for kind in _SHOWN if kind in known), None)
    rates = {(one["from"], one["to"]): one["gb_per_s"] for one in cells if (one["method"], one["access"]) == shown}
    names = slow_in(record)
    lines = [one["line_gb_per_s"] for one in record["pair_paths"] if one["line_gb_per_s"] is not None]
    return PairMatrix(
        tuple(gpu["rank"] for gpu in record["gpus"]),
        shown[0].replace("_", " ") if shown else "",
        rates,
        frozenset(pair for pair in rates if _names(pair) & set(names)),
        tuple(names),
        max(set(lines), key=lines.count) if lines else None,
        tuple(_collectives(record)),
    )


def _names(pair: Pair) -> set[str]:
    return {f"pair {pair[0]}→{pair[1]}", f"GPU {pair[0]} sends", f"GPU {pair[1]} receives"}


def _collectives(record: Mapping[str, Any]) -> list[Collective]:
    found = []
    for name in dict.fromkeys(one["operation"] for one in record["rows"]):
        done = [one for one in record["rows"] if one["operation"] == name and one["time_us"] is not None]
        if done:
            largest = max(one["bytes"] for one in done)
            best = min((one for one in done if one["bytes"] == largest), key=lambda one: float(one["time_us"]))
            found.append(Collective(name, largest, best["time_us"], best["busbw_gb_per_s"]))
    return found
