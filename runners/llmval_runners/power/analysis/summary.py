"""Files in, one summary out (`docs/schemas/power_summary.schema.json`)."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmval_runners.power.analysis import economics
from llmval_runners.power.analysis.read_cells import read_cell
from llmval_runners.power.analysis.read_external import is_aiperf, is_vllm, read_aiperf, read_vllm
from llmval_runners.power.analysis.record import Entry, Machine, NotUnderstood, Read

SCHEMA = 1


def read(path: Path) -> Read:
    """One file.

    Raises:
        NotUnderstood: it is no result that the analyzer reads.
    """
    try:
        data = path.read_bytes()
        record = json.loads(data)
    except OSError as error:
        raise NotUnderstood(f"it cannot be read ({error.strerror})") from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise NotUnderstood("it is not one JSON value") from error
    if not isinstance(record, dict):
        raise NotUnderstood("it is not a JSON object")
    name, found = str(path), Read(str(path), "llmval", hashlib.sha256(data).hexdigest())
    if record.get("kind") == "power_cell":
        found.entries, found.machine = read_cell(name, record)
        found.cell = record
    elif record.get("kind") == "power_sweep":
        found.planned = [str(cell) for cell in record.get("cells", [])]
    elif is_vllm(record):
        found.origin, found.entries = "vllm", [read_vllm(name, record)]
    elif is_aiperf(record):
        found.origin, found.entries = "aiperf", [read_aiperf(name, record)]
    else:
        raise NotUnderstood(
            "it is neither a cell of precision_power_sweep.py, nor a result of vLLM's bench serve, nor an AIPerf export"
        )
    return found


def read_all(paths: Sequence[Path]) -> tuple[list[Read], list[dict[str, str]]]:
    """All files, each once, and those that were refused, by name and reason."""
    found, refused = [], []
    for path in dict.fromkeys(
        path.resolve() if not path.is_absolute() and ".." in path.parts else path for path in paths
    ):
        try:
            found.append(read(path))
        except NotUnderstood as error:
            refused.append({"path": str(path), "reason": str(error)})
    return found, refused


def summarise(
    reads: list[Read], refused_files: list[dict[str, str]], price_per_kwh: float, pue: float
) -> dict[str, Any]:
    """The summary. A cell that was measured twice on one machine counts by its newest result."""
    cells, superseded = _newest([item for item in reads if item.cell is not None])
    entries = [entry for item in cells for entry in item.entries]
    external = [entry for item in reads if item.cell is None for entry in item.entries]
    there = {item.cell["cell"] for item in cells if item.cell}
    missing = sorted({name for item in reads for name in item.planned} - there)
    statuses = Counter(item.cell["status"] for item in cells if item.cell)
    machines: dict[str, Machine] = {}
    for item in cells:
        if item.machine and (item.machine.id not in machines or machines[item.machine.id].date < item.machine.date):
            machines[item.machine.id] = item.machine
    return {
        "schema": SCHEMA,
        "kind": "power_summary",
        "generated_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "currency": "USD",
        "price_per_kwh": price_per_kwh,
        "pue": pue,
        "energy_scope": "GPU only: host, fans, network and cooling are not in it",
        "inputs": [{"path": item.path, "origin": item.origin, "sha256": item.sha256} for item in reads],
        "refused_files": refused_files,
        "machines": [asdict(machine) for machine in machines.values()],
        "counts": {name: statuses[name] for name in ("valid", "invalid", "no_energy", "refused", "failed")}
        | {"missing": len(missing)},
        "cells": [_row(entry, price_per_kwh, pue) for entry in sorted(entries, key=_order) if entry.valid],
        "invalid": [
            {
                "cell": e.cell,
                "phase": e.phase,
                "status": e.status,
                "source": e.source,
                "reasons": e.reasons,
                "tokens_per_s": e.tokens_per_s,
            }
            for e in sorted(entries, key=_order)
            if not e.valid
        ],
        "refused": [
            {
                "cell": item.cell["cell"],
                "status": item.cell["status"],
                "source": item.path,
                "reasons": list(item.cell["reasons"]),
            }
            for item in cells
            if item.cell and item.cell["status"] in ("refused", "failed")
        ],
        "missing": missing,
        "superseded": superseded,
        "comparisons": economics.comparisons(entries),
        "best": economics.best(entries, price_per_kwh, pue),
        "pareto": economics.fronts(entries),
        "external": [_row(entry, price_per_kwh, pue) for entry in external],
    }


def _newest(items: list[Read]) -> tuple[list[Read], list[dict[str, str]]]:
    """One result for each cell, machine and way of running; the older ones, by name."""
    latest: dict[tuple[str, str, str], Read] = {}
    superseded = []
    for item in sorted(items, key=lambda item: (item.cell or {})["ended_utc"]):
        cell = item.cell or {}
        settings = cell["settings"]
        machine = item.machine.id if item.machine else ""
        key = (cell["cell"], machine, f"{settings['attention_backend']} {settings['compile']}")
        if key in latest:
            superseded.append({"path": latest[key].path, "by": item.path})
        latest[key] = item
    return sorted(latest.values(), key=lambda item: (item.cell or {})["cell"]), superseded


def _row(entry: Entry, price_per_kwh: float, pue: float) -> dict[str, Any]:
    row = asdict(entry)
    for name in ("", "_net"):
        joules = row[f"joules_per_token{name}"]
        row[f"cost_per_million_tokens{name}"] = (
            None if joules is None else economics.cost_per_million_tokens(joules, price_per_kwh, pue)
        )
    return row


def _order(entry: Entry) -> tuple[Any, ...]:
    return entry.machine, entry.model, entry.phase != "prefill", entry.batch_size or 0, entry.mode or ""
