"""Makes one summary (`docs/schemas/power_summary.schema.json`) from all input files."""

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
from llmval_runners.power.analysis.read_external import is_sglang, read_external, read_sglang
from llmval_runners.power.analysis.record import InputFile, Machine, ResultRow, UnsupportedFile

SCHEMA = 1


def read(path: Path) -> InputFile:
    """Read one file.

    Raises:
        UnsupportedFile: the analyzer cannot read it.
    """
    try:
        data = path.read_bytes()
        record = _parsed(data)
    except OSError as error:
        raise UnsupportedFile(f"it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise UnsupportedFile("it is not one JSON value") from error
    if not isinstance(record, dict):
        raise UnsupportedFile("it is not a JSON object")
    name, found = str(path), InputFile(str(path), "llmval", hashlib.sha256(data).hexdigest())
    if record.get("kind") == "power_cell":
        found.rows, found.machine = read_cell(name, record)
        found.cell = record
    elif record.get("kind") == "power_sweep":
        if not isinstance(cells := record.get("cells", []), list):
            raise UnsupportedFile("it is the manifest of a sweep whose cells are no list")
        found.planned = [str(cell) for cell in cells]
    elif (row := read_external(name, record)) is not None:
        found.origin, found.rows = row.origin, [row]
    else:
        raise UnsupportedFile(
            "it is neither a cell of precision_power_sweep.py, nor a result of vLLM, TensorRT-LLM, AIPerf or genai-perf"
        )
    return found


def _parsed(data: bytes) -> Any:
    """The JSON value; of JSON Lines, which SGLang writes, the first one if it is SGLang's."""
    if data.startswith(b"\x1f\x8b"):
        raise UnsupportedFile("it is compressed: gunzip it, and pass the unpacked file")
    try:
        return json.loads(data, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        first = json.loads(data.split(b"\n", 1)[0])
        if isinstance(first, dict) and is_sglang(first):
            read_sglang("", first)
        raise


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise UnsupportedFile(f"it has the key {double[:80]!r} twice, so it is unclear which value counts")
    return found


def read_all(paths: Sequence[Path]) -> tuple[list[InputFile], list[dict[str, str]]]:
    """Read all files, each once. Also returns the refused files with their reasons."""
    found, refused = [], []
    for path in dict.fromkeys(
        path.resolve() if not path.is_absolute() and ".." in path.parts else path for path in paths
    ):
        try:
            found.append(read(path))
        except UnsupportedFile as error:
            refused.append({"path": str(path), "reason": str(error)})
    return found, refused


def summarise(
    inputs: list[InputFile], refused_files: list[dict[str, str]], price_per_kwh: float, pue: float
) -> dict[str, Any]:
    """Make the summary. If a cell was measured twice on one machine, the newest result counts."""
    cells, superseded = _newest([item for item in inputs if item.cell is not None])
    rows = [row for item in cells for row in item.rows]
    external = [row for item in inputs if item.cell is None for row in item.rows]
    present = {item.cell["cell"] for item in cells if item.cell}
    missing = sorted({name for item in inputs for name in item.planned} - present)
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
        "inputs": [{"path": item.path, "origin": item.origin, "sha256": item.sha256} for item in inputs],
        "refused_files": refused_files,
        "machines": [asdict(machine) for machine in machines.values()],
        "counts": {name: statuses[name] for name in ("valid", "invalid", "no_energy", "refused", "failed")}
        | {"missing": len(missing)},
        "cells": [_row(row, price_per_kwh, pue) for row in sorted(rows, key=_order) if row.valid],
        "invalid": [
            {
                "cell": e.cell,
                "phase": e.phase,
                "status": e.status,
                "source": e.source,
                "reasons": e.reasons,
                "tokens_per_s": e.tokens_per_s,
            }
            for e in sorted(rows, key=_order)
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
        "comparisons": economics.comparisons(rows),
        "best": economics.best(rows, price_per_kwh, pue),
        "pareto": economics.pareto_fronts(rows),
        "external": [_row(row, price_per_kwh, pue) for row in external],
    }


def _newest(items: list[InputFile]) -> tuple[list[InputFile], list[dict[str, str]]]:
    """The newest result for each cell, machine and way of running, and the paths of the older ones."""
    latest: dict[tuple[str, str, str], InputFile] = {}
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


def _row(row: ResultRow, price_per_kwh: float, pue: float) -> dict[str, Any]:
    value = asdict(row)
    for name in ("", "_net"):
        joules = value[f"joules_per_token{name}"]
        value[f"cost_per_million_tokens{name}"] = (
            None if joules is None else economics.cost_per_million_tokens(joules, price_per_kwh, pue)
        )
    return value


def _order(row: ResultRow) -> tuple[Any, ...]:
    return row.machine, row.model, row.phase != "prefill", row.batch_size or 0, row.mode or ""
