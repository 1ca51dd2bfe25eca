"""The gates of a power summary: it read exactly the present files, and each figure agrees with its cell."""

import math
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.runner_catalog import POWER_SUMMARY_SCHEMA
from llmval_tui.actions.gates.artifacts import read_valid, unreadable
from llmval_tui.actions.judges.power_cell import phase_problems, read_cell
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

_FROM_CELL = ("tokens_per_s", "power_w", "tokens_per_joule", "joules_per_token")
_JOULES_PER_KWH = 3.6e6


def judge_power_summary(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for a summary."""
    summary = read_valid(run.workspace / artifact.path, POWER_SUMMARY_SCHEMA)
    if summary is None:
        return [unreadable(artifact, "summary", "a power summary")], {}, "no summary to judge"
    gates = [_inputs(run, summary), _cells(summary), _figures(run, summary)]
    counts: dict[str, int] = summary["counts"]
    metrics: dict[str, float | None] = {f"cells_{name}": float(count) for name, count in counts.items()}
    metrics |= {
        f"best_{phase}_{name}": max(values)
        for phase in ("prefill", "decode")
        for name in ("tokens_per_joule", "tokens_per_s")
        if (values := [float(row[name]) for row in summary["cells"] if row["phase"] == phase])
    }
    for phase in ("prefill", "decode"):
        ratios = [r for r in summary["comparisons"] if r["phase"] == phase and r["against"] == "bf16"]
        if ratios:
            metrics[f"fp8_over_bf16_{phase}_throughput"] = max(row["throughput_ratio"] for row in ratios)
            metrics[f"fp8_over_bf16_{phase}_tokens_per_joule"] = max(row["tokens_per_joule_ratio"] for row in ratios)
    return gates, metrics, _sentence(summary)


def _sentence(summary: dict[str, Any]) -> str:
    counted = ", ".join(f"{count} {name}" for name, count in summary["counts"].items() if count) or "no cell"
    best = max(summary["cells"], key=lambda row: float(row["tokens_per_joule"]), default=None)
    if best is None:
        return counted
    return f"{counted}; most efficient {best['cell']}, {best['phase']}: {best['tokens_per_joule']:.4g} tokens/J"


def _inputs(run: Run, summary: dict[str, Any]) -> Gate:
    """Every file of the item's pattern was read, and none of them changed."""
    workspace = run.workspace
    asked = set(run.intent.params.get("files", []))
    read = {str(item["path"]): str(item["sha256"]) for item in summary["inputs"]}
    refused = {str(item["path"]): str(item["reason"]) for item in summary["refused_files"]}
    name, bound = "inputs", "every file of the pattern, unchanged"
    changed = [path for path, sha256 in read.items() if not _has_sha256(workspace / path, sha256)]
    unread = sorted(asked - read.keys() - refused.keys())
    measured = f"{len(read)} files"
    if changed or unread:
        reason = f"changed or missing: {', '.join(changed[:3])}" if changed else f"not read: {', '.join(unread[:3])}"
        return Gate(name, Outcome.INVALID, measured, bound, f"{reason}; run the item again")
    if refused:
        path, reason = next(iter(refused.items()))
        text = f"{path} could not be used: {clean_line(reason)}; repair it or move it away"
        return Gate(name, Outcome.INCONCLUSIVE, f"{measured}, {len(refused)} refused", bound, text)
    return Gate(name, Outcome.PASS, measured, bound)


def _has_sha256(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _cells(summary: dict[str, Any]) -> Gate:
    counts: dict[str, int] = summary["counts"]
    counted = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
    reason = ""
    if not counts["valid"]:
        reason = "no cell is valid, so there is no figure"
    elif counts["missing"] or counts["failed"]:
        reason = "the sweep is incomplete: run its item again, which continues with the missing cells"
    bound = "at least one valid cell, none missing or failed"
    return Gate("cells", Outcome.INCONCLUSIVE if reason else Outcome.PASS, counted, bound, reason)


def _figures(run: Run, summary: dict[str, Any]) -> Gate:
    """Compute each row again from the file of its cell, and its cost from the price; no row may differ."""
    price, pue = float(summary["price_per_kwh"]), float(summary["pue"])
    wrong = []
    for row in summary["cells"]:
        cell, problem = read_cell(run.workspace / row["source"])
        phase = cell["phases"].get(row["phase"]) if cell else None
        if cell is None or phase is None:
            wrong.append(f"{row['cell']}: {problem or 'its file has no such phase'}")
            continue
        wrong += [f"{row['cell']}, {row['phase']}: {problem}" for problem in phase_problems(cell, row["phase"])[:1]]
        cost = float(row["joules_per_token"]) / _JOULES_PER_KWH * 1e6 * price * pue
        same = all(phase[name] is not None and math.isclose(row[name], phase[name]) for name in _FROM_CELL)
        if not same or not math.isclose(row["cost_per_million_tokens"], cost):
            wrong.append(f"{row['cell']}, {row['phase']}: a figure differs from its file")
    return Gate(
        "figures",
        Outcome.INVALID if wrong else Outcome.PASS,
        f"{len(summary['cells'])} rows",
        "each row agrees with the trials of its cell",
        clean_line("; ".join(wrong[:3])),
    )
