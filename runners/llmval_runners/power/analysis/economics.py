"""Derived from valid figures: cost, comparisons between modes, best cells and Pareto fronts."""

from collections.abc import Iterable, Sequence
from typing import Any

from llmval_runners.power.analysis.record import ResultRow

JOULES_PER_KWH = 3.6e6
BASELINE_MODES = ("bf16", "fp16")


def cost_per_million_tokens(joules_per_token: float, price_per_kwh: float, pue: float) -> float:
    """J/token ÷ 3.6e6 J/kWh × 1e6 tokens × price × PUE: the cost of energy alone."""
    return joules_per_token / JOULES_PER_KWH * 1e6 * price_per_kwh * pue


def groups(rows: Iterable[ResultRow]) -> dict[tuple[str, str, str, int | None], list[ResultRow]]:
    """Valid rows by machine, model, phase and sequence length. Only rows of one group are alternatives."""
    found: dict[tuple[str, str, str, int | None], list[ResultRow]] = {}
    for row in rows:
        if row.valid and row.tokens_per_joule is not None and row.tokens_per_s is not None:
            found.setdefault(row.group, []).append(row)
    return found


def pareto_front(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The Pareto front, by rising tokens/s.

    For a row on the front, no other is at least as good in both tokens/s and tokens/J and better in one.
    """
    found: list[ResultRow] = []
    best = float("-inf")  # tokens/J of all faster rows
    ranked = sorted(rows, key=lambda e: (-_rate(e), -_efficiency(e), e.cell))
    for row in ranked:
        same = found and _rate(row) == _rate(found[-1]) and _efficiency(row) == _efficiency(found[-1])
        if _efficiency(row) > best or same:
            found.append(row)
            best = _efficiency(row)
    return found[::-1]


def pareto_fronts(rows: Iterable[ResultRow]) -> list[dict[str, Any]]:
    return [
        {**_labels(group), "cells": [row.cell for row in pareto_front(members)]}
        for group, members in sorted(groups(rows).items(), key=str)
    ]


def best(rows: Iterable[ResultRow], price_per_kwh: float, pue: float) -> list[dict[str, Any]]:
    """The most efficient and the fastest cell of each group."""
    found = []
    for group, members in sorted(groups(rows).items(), key=str):
        efficient = max(members, key=lambda e: (_efficiency(e), _rate(e)))
        fastest = max(members, key=lambda e: (_rate(e), _efficiency(e)))
        found.append(
            {
                **_labels(group),
                "most_efficient": efficient.cell,
                "tokens_per_joule": efficient.tokens_per_joule,
                "cost_per_million_tokens": cost_per_million_tokens(1 / _efficiency(efficient), price_per_kwh, pue),
                "fastest": fastest.cell,
                "tokens_per_s": fastest.tokens_per_s,
            }
        )
    return found


def comparisons(rows: Iterable[ResultRow]) -> list[dict[str, Any]]:
    """Each FP8 cell against bf16 and fp16 with the same model, batch size, phase, machine and `how`; both valid."""
    found = []
    for group, members in sorted(groups(rows).items(), key=str):
        by_key = {(row.mode, row.batch_size, row.how): row for row in members}
        for row in sorted(members, key=lambda e: (e.mode or "", e.batch_size or 0, e.how)):
            if not (row.mode or "").startswith("fp8"):
                continue
            for mode in BASELINE_MODES:
                base = by_key.get((mode, row.batch_size, row.how))
                if base is not None:
                    found.append(
                        {
                            **_labels(group),
                            "batch_size": row.batch_size,
                            "mode": row.mode,
                            "against": mode,
                            "throughput_ratio": _rate(row) / _rate(base),
                            "tokens_per_joule_ratio": _efficiency(row) / _efficiency(base),
                            "same_gpus": row.gpu_uuids == base.gpu_uuids,
                        }
                    )
    return found


def _labels(group: tuple[str, str, str, int | None]) -> dict[str, Any]:
    return dict(zip(("machine", "model", "phase", "sequence_length"), group, strict=True))


def _rate(row: ResultRow) -> float:
    assert row.tokens_per_s is not None  # `groups` filters out the others
    return row.tokens_per_s


def _efficiency(row: ResultRow) -> float:
    assert row.tokens_per_joule is not None
    return row.tokens_per_joule
