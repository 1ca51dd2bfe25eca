"""Compares the measured cells of the pairs with each other, like with like, and measures the suspects once more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from llmval_runners.collective.outliers import Pair, Suspect, confirmed, smallest_findable
from llmval_runners.collective.pairs import Cell


@dataclass(slots=True)
class Comparison:
    """`slow` and `compared` of the record, and the second measurements in GB/s."""

    slow: list[dict[str, Any]] = field(default_factory=list)
    compared: list[dict[str, Any]] = field(default_factory=list)
    again: dict[Cell, float] = field(default_factory=dict)


def compare(
    measured: Mapping[Cell, float | None], paths: Mapping[Pair, Mapping[str, Any]], hosts: Sequence[str],
    measure_again: Callable[[Cell], float | None],
) -> Comparison:  # fmt: skip
    """`measured` and `measure_again` are in GB/s, None: not measured. `paths`: `pair_paths` of the record, by pair.

    If all ranks have the same figures, all call `measure_again` for the same cells in the same order.
    """
    found = Comparison()
    groups: dict[tuple[Any, ...], dict[Pair, float]] = {}
    for cell, rate in measured.items():
        path = paths.get((cell.source, cell.target))
        if path is None or rate is None or cell.method == "gloo":  # ranks on CPUs share their memory: no links
            continue
        key = (*cell.kind, path["kind"], path["path"], path["line_gb_per_s"])
        groups.setdefault(key, {})[cell.source, cell.target] = rate
    for (method, access, directions, kind, *_), cells in groups.items():

        def again(
            pairs: list[Pair], like: tuple[str, str | None, int] = (method, access, directions)
        ) -> dict[Pair, float]:
            second = {}
            for pair in pairs:
                cell = Cell(pair[0], pair[1], like[0], like[1], like[2])
                if (rate := measure_again(cell)) is not None:
                    second[pair] = found.again[cell] = rate
            return second

        like = {"method": method, "access": access, "directions": directions}
        values = list(cells.values())
        found.compared.append(
            {**like, "kind": kind, "cells": len(values), "typical_gb_per_s": median(values),
             "smallest_findable": smallest_findable(values)}
        )  # fmt: skip
        found.slow += [_row(suspect, like, hosts) for suspect in confirmed(cells, again)]
    return found


def _row(suspect: Suspect, like: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
    return {
        "what": suspect.what,
        "ranks": list(suspect.ranks),
        "hosts": [hosts[rank] for rank in suspect.ranks],
        **like,
        "gb_per_s": suspect.value,
        "typical_gb_per_s": suspect.typical,
        "shortfall": suspect.shortfall,
    }
