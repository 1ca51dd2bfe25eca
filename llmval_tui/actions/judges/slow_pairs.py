"""The slow GPUs, pairs and nodes, by the rules of the runner (`collective/outliers.py`, `collective/node_links.py`).

A cell is slow if it is more than 5 % and more than 3.5 · 1.4826 · MAD below the median of its group; the median of all
that a GPU sends or receives from 3 %. It counts only if a second measurement says so too: the faster of both is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

_LEAST, _LEAST_OF_GPU = 0.05, 0.03
_DEVIATIONS, _TO_SIGMA, _LEAST_SPREAD = 3.5, 1.4826, 0.002
_FEWEST_CELLS, _FEWEST_GPUS, _FEWEST_OF_GPU, _FEWEST_NODES = 6, 4, 3, 8

Pair = tuple[int, int]


def slow_in(record: Mapping[str, Any]) -> list[str]:
    """The names of the slow ones: `pair 1→3`, `GPU 2 sends`, each once."""
    paths = {(one["from"], one["to"]): one for one in record["pair_paths"]}
    first: dict[Any, dict[Pair, float]] = {}
    second: dict[Any, dict[Pair, float]] = {}
    for cell in record["pairs"]["cells"]:
        pair = cell["from"], cell["to"]
        path = paths.get(pair)
        if path is None or cell["gb_per_s"] is None or cell["method"] == "gloo":
            continue
        key = (cell["method"], cell["access"], cell["directions"], path["path"], path["kind"], path["line_gb_per_s"])
        first.setdefault(key, {})[pair] = cell["gb_per_s"]
        second.setdefault(key, {})[pair] = max(cell["gb_per_s"], cell["gb_per_s_again"] or 0.0)
    found: dict[str, None] = {}
    for key, cells in first.items():
        suspected = _suspects(cells)
        found |= {name: None for name in _suspects(second[key]) if name in suspected} if suspected else {}
    return list(found)


def slow_nodes_in(fabric: Mapping[str, Any]) -> list[str]:
    """The slow nodes and links of `fabric`, by the rule of the runner (`collective/node_links.py`), measured twice.

    A node goes by the median of its links; a link counts only if both of its nodes are as fast as others.
    """
    names, links = [one["name"] for one in fabric["nodes"]], fabric["links"]
    if len(names) < _FEWEST_NODES:
        return []
    first = {tuple(one["numbers"]): one["gb_per_s"] for one in links}
    again = {tuple(one["numbers"]): one["gb_per_s_again"] for one in links if one["gb_per_s_again"] is not None}
    of_node = {at: _of_node(first, at) for at in range(len(names))}
    medians = {at: median(found) for at, found in of_node.items() if found}
    limit = limit_of(list(medians.values()), _LEAST_OF_GPU) if medians else None
    if limit is None:
        return []
    bad = {at for at, value in medians.items() if value < limit}
    others = {pair: rate for pair, rate in first.items() if not bad & set(pair)}
    least = limit_of(list(others.values()), _LEAST) if others else None
    slow = [f"node {names[at]}" for at in sorted(bad) if (second := _of_node(again, at)) and median(second) < limit]
    slow += [
        f"the link between {names[pair[0]]} and {names[pair[1]]}"
        for pair, rate in sorted(others.items())
        if least is not None and rate < least and again.get(pair, rate) < least and pair in again
    ]
    return slow


def _of_node(rates: Mapping[tuple[int, ...], float], node: int) -> list[float]:
    return [rate for pair, rate in rates.items() if node in pair]


def _suspects(cells: Mapping[Pair, float]) -> list[str]:
    limit = limit_of(list(cells.values()), _LEAST) if len(cells) >= _FEWEST_CELLS else None
    if limit is None:
        return []
    senders = _slow_gpus(cells, lambda pair: pair[0])
    receivers = _slow_gpus(cells, lambda pair: pair[1])
    pairs = [
        f"pair {pair[0]}→{pair[1]}"
        for pair, value in cells.items()
        if value < limit and pair[0] not in senders and pair[1] not in receivers
    ]
    return [*(f"GPU {rank} sends" for rank in senders), *(f"GPU {rank} receives" for rank in receivers), *pairs]


def _slow_gpus(cells: Mapping[Pair, float], end: Callable[[Pair], int]) -> list[int]:
    by_rank: dict[int, list[float]] = {}
    for pair, value in cells.items():
        by_rank.setdefault(end(pair), []).append(value)
    medians = {rank: median(values) for rank, values in by_rank.items() if len(values) >= _FEWEST_OF_GPU}
    limit = limit_of(list(medians.values()), _LEAST_OF_GPU) if len(medians) >= _FEWEST_GPUS else None
    return [] if limit is None else [rank for rank, value in medians.items() if value < limit]


def limit_of(values: Sequence[float], least: float) -> float | None:
    """The value below which one of these is slow; None if they are no bandwidths."""
    middle = median(values)
    if middle <= 0:
        return None
    spread = _TO_SIGMA * max(median(abs(value - middle) for value in values), _LEAST_SPREAD * middle)
    return middle - max(least * middle, _DEVIATIONS * spread)
