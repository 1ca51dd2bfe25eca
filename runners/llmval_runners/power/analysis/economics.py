"""What follows from valid figures: cost, comparisons between modes, the best cell, and the front that no cell beats."""

from collections.abc import Iterable, Sequence
from typing import Any

from llmval_runners.power.analysis.record import Entry

JOULES_PER_KWH = 3.6e6
BASELINE_MODES = ("bf16", "fp16")


def cost_per_million_tokens(joules_per_token: float, price_per_kwh: float, pue: float) -> float:
    """J/token ÷ 3.6e6 J/kWh × 1e6 tokens × price × PUE: what the energy costs, and nothing else does."""
    return joules_per_token / JOULES_PER_KWH * 1e6 * price_per_kwh * pue


def groups(entries: Iterable[Entry]) -> dict[tuple[str, str, str, int | None], list[Entry]]:
    """Valid entries by machine, model, phase and sequence length.

    Only there are two cells alternatives to each other.
    """
    found: dict[tuple[str, str, str, int | None], list[Entry]] = {}
    for entry in entries:
        if entry.valid and entry.tokens_per_joule is not None and entry.tokens_per_s is not None:
            found.setdefault(entry.group, []).append(entry)
    return found


def front(entries: Sequence[Entry]) -> list[Entry]:
    """Those that no other beats.

    None is at least as good in tokens/s and in tokens/J and better in one. By tokens/s, rising.
    """
    kept: list[Entry] = []
    best = float("-inf")  # tokens/J of all that are faster
    ranked = sorted(entries, key=lambda e: (-_rate(e), -_efficiency(e), e.cell))
    for entry in ranked:
        same = kept and _rate(entry) == _rate(kept[-1]) and _efficiency(entry) == _efficiency(kept[-1])
        if _efficiency(entry) > best or same:
            kept.append(entry)
            best = _efficiency(entry)
    return kept[::-1]


def fronts(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    return [
        {**_named(group), "cells": [entry.cell for entry in front(members)]}
        for group, members in sorted(groups(entries).items(), key=str)
    ]


def best(entries: Iterable[Entry], price_per_kwh: float, pue: float) -> list[dict[str, Any]]:
    """A model's most efficient and its fastest cell, in each phase."""
    found = []
    for group, members in sorted(groups(entries).items(), key=str):
        frugal = max(members, key=lambda e: (_efficiency(e), _rate(e)))
        fastest = max(members, key=lambda e: (_rate(e), _efficiency(e)))
        found.append(
            {
                **_named(group),
                "most_efficient": frugal.cell,
                "tokens_per_joule": frugal.tokens_per_joule,
                "cost_per_million_tokens": cost_per_million_tokens(1 / _efficiency(frugal), price_per_kwh, pue),
                "fastest": fastest.cell,
                "tokens_per_s": fastest.tokens_per_s,
            }
        )
    return found


def comparisons(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Each FP8 cell against bf16 and fp16 of the same model, batch, phase, machine and way of running; both valid."""
    found = []
    for group, members in sorted(groups(entries).items(), key=str):
        by_key = {(entry.mode, entry.batch_size, entry.how): entry for entry in members}
        for entry in sorted(members, key=lambda e: (e.mode or "", e.batch_size or 0, e.how)):
            if not (entry.mode or "").startswith("fp8"):
                continue
            for mode in BASELINE_MODES:
                base = by_key.get((mode, entry.batch_size, entry.how))
                if base is not None:
                    found.append(
                        {
                            **_named(group),
                            "batch_size": entry.batch_size,
                            "mode": entry.mode,
                            "against": mode,
                            "throughput_ratio": _rate(entry) / _rate(base),
                            "tokens_per_joule_ratio": _efficiency(entry) / _efficiency(base),
                            "same_gpus": entry.gpu_uuids == base.gpu_uuids,
                        }
                    )
    return found


def _named(group: tuple[str, str, str, int | None]) -> dict[str, Any]:
    return dict(zip(("machine", "model", "phase", "sequence_length"), group, strict=True))


def _rate(entry: Entry) -> float:
    assert entry.tokens_per_s is not None  # `groups` lets no other through
    return entry.tokens_per_s


def _efficiency(entry: Entry) -> float:
    assert entry.tokens_per_joule is not None
    return entry.tokens_per_joule
