"""Records of collective_bandwidth.py as a healthy node would give them, for tests that change one thing."""

import random
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from llmval_runners.collective import expected, record
from llmval_runners.collective.compare import compare
from llmval_runners.collective.operations import BY_NAME
from llmval_runners.collective.pairs import Cell, Measured, cells
from llmval_runners.collective.timing import Timing
from llmval_runners.collective.verdict import KIND, verdict_of

PATH = "artifacts/collectives.json"
LIST = f"""# L

## 1. Fabric
- [ ] Run `torchrun --nproc_per_node=8 runners/collective_bandwidth.py --output-json {PATH}`.
"""
LINE = 450.0
SIZE = 1 << 30
PAIR_BYTES = 256 << 20


def gpu(rank: int, host: str = "node1", **nvlink: Any) -> dict[str, Any]:
    links = {
        "links": 18, "active": 18, "inactive": [], "generation": "4.0", "link_gb_per_s": 25.0,
        "reported_link_gb_per_s": 26.562, "to_switch": 18, "peers": {},
    }  # fmt: skip
    return {
        "rank": rank, "local_rank": rank, "host": host, "pid": 100 + rank, "device": f"cuda:{rank}",
        "name": "NVIDIA H200", "uuid": f"GPU-{rank}", "pci_bus_id": f"00000000:{rank + 1:02X}:00.0",
        "memory_free_bytes": 140 << 30, "nvlink": links | nvlink,
        "pcie": {"generation": 5, "width": 16, "gb_per_s": 63.008}, "fabric": None, "links_unknown": None,
    }  # fmt: skip


def record_of(
    ranks: int = 8,
    *,
    busbw: float | None = None,
    rate: Callable[[Cell], float] = lambda cell: 1.0,
    kind: str = expected.NVLINK,
    gpus: list[dict[str, Any]] | None = None,
    noise: float = 0.003,
    seed: int = 0,
    min_busbw: float | None = None,
    operations: tuple[str, ...] = ("all_reduce", "all_gather"),
) -> dict[str, Any]:
    """The record of `ranks` GPUs of one node.

    `busbw`: of the all-reduce, in GB/s (default: what healthy machines reach). `rate`: the factor of a pair's bandwidth
    """
    source = random.Random(seed)
    found_gpus = gpus or [gpu(rank) for rank in range(ranks)]
    line = {expected.NVLINK: LINE, expected.PCIE: 63.008}.get(kind)
    path = {expected.NVLINK: "NV18", expected.PCIE: "PHB"}.get(kind)
    links = 18 if kind == expected.NVLINK else 0
    paths: list[dict[str, Any]] = [
        {"from": one, "to": other, "path": path, "links": links, "kind": kind, "line_gb_per_s": line,
         "reason": None if line else "not told"}
        for one in range(ranks) for other in range(ranks) if one != other
    ]  # fmt: skip
    by_pair: dict[tuple[int, int], Any] = {(one["from"], one["to"]): one for one in paths}
    if busbw is None:
        busbw = (line or 30.0) * (0.69 if ranks == 2 else 0.8)
    rows = []
    for name in operations:
        operation = BY_NAME[name]
        for nbytes, share in ((1 << 20, 0.1), (SIZE, 1.0)):
            elements = operation.elements(nbytes, ranks, 4)
            factor = operation.bus_factor(ranks) or 1.0
            seconds = elements * 4 * factor / (busbw * share * 1e9)
            timing = Timing(seconds, seconds, seconds, seconds, 20)
            rows += [
                record.row(operation, mode, elements, torch.float32, ranks, timing, 5, (0, ""), (0, ""))
                for mode in ("eager", "graph")
            ]

    def typical(cell: Cell) -> float:
        share = {"nccl": 0.75, "copy_engine": 0.84, "sm": 0.8}[cell.method]
        return (line or 30.0) * share * cell.directions * rate(cell) * (1 + source.gauss(0, noise))

    hosts = [one["host"] for one in found_gpus]
    measured = {}
    for cell in cells("nccl", hosts):
        seconds = cell.directions * PAIR_BYTES / (typical(cell) * 1e9)
        moved = 32 * PAIR_BYTES if cell.source != cell.target else 0
        tx = moved if kind == expected.NVLINK else None
        measured[cell] = Measured(cell, PAIR_BYTES, (seconds,) * 3, 0, moved, tx, tx, cell.method != "nccl" or None)
    compared = compare({cell: one.gb_per_s for cell, one in measured.items()}, by_pair, hosts, typical)
    rows_of_pairs = [record.cell(one, by_pair.get((cell.source, cell.target))) for cell, one in measured.items()]
    for cell, one in zip(measured, rows_of_pairs, strict=True):
        one["gb_per_s_again"] = compared.again.get(cell)
    readings = record.counter_readings(rows_of_pairs, by_pair)
    group = expected.line_rate_of_group(found_gpus, paths)
    made: dict[str, Any] = {
        "schema": 1, "kind": KIND, "date": "2026-11-29T00:00:00Z", "ended_early": None, "backend": "nccl",
        "nodes": len(set(hosts)), "environment": {"NCCL_NVLS_ENABLE": "0"}, "warnings": [],
        "versions": {"python": "3.12", "torch": "2.11.0", "nccl": "2.28.9", "cuda": "13.0", "driver": "580.159.04"},
        "settings": {
            "operations": list(operations), "modes": ["eager", "graph"], "dtype": "float32", "min_bytes": 1 << 20,
            "max_bytes": SIZE, "factor": 1024, "warmup": 5, "iterations": 20, "repeats": 5, "pairs": "all",
            "pair_bytes": PAIR_BYTES, "min_busbw_gb_per_s": min_busbw,
        },
        "gpus": found_gpus, "line": {**group, "reason": group["reason"] or None}, "pair_paths": paths, "rows": rows,
        "pairs": {"cells": rows_of_pairs, "compared": compared.compared}, "slow": compared.slow,
        "counters": {"readings": readings, "reason": None if readings else "no NVLink connects these GPUs"},
        "baseline": None,
    }  # fmt: skip
    return finished(made)


def finished(made: dict[str, Any]) -> dict[str, Any]:
    """The record with its summary and verdict computed again."""
    made["summary"] = record.summary(made)
    made["verdict"] = verdict_of(made).as_json()
    return made


def typical_pair(made: dict[str, Any], method: str = "copy_engine") -> float:
    """The median of the one-way bandwidths."""
    return median(
        one["gb_per_s"] for one in made["pairs"]["cells"] if one["method"] == method and one["directions"] == 1
    )
