"""Damaged results of other tools: each is read rightly or refused with its reason, whichever field is damaged."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.power.analysis.record import UnsupportedFile
from llmval_runners.power.analysis.summary import read, read_all, summarise

from tests.helpers.runners.power_cells import cell, phase

SAMPLES = sorted(Path(__file__).with_name("other_tools").rglob("*.json"))
ODD: tuple[Any, ...] = (None, "12", True, [], {}, -1, 0, math.nan, math.inf, 10**400, ...)  # ...: the field is missing


def fields(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*above, key)
        yield from fields(value[key], (*above, key))


def damaged(record: Any, field: tuple[Any, ...], odd: Any) -> Any:
    changed = copy.deepcopy(record)
    place = changed
    for key in field[:-1]:
        place = place[key]
    if odd is ...:
        del place[field[-1]]
    else:
        place[field[-1]] = odd
    return changed


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_no_damaged_field_makes_a_traceback_or_an_impossible_figure(sample: Path, tmp_path: Path) -> None:
    record, path, rows = json.loads(sample.read_text()), tmp_path / "result.json", 0
    for field in fields(record):
        for odd in ODD:
            path.write_text(json.dumps(damaged(record, field, odd)))
            found, refused = read_all([path])
            assert len(found) + len(refused) == 1
            for row in (row for item in found for row in item.rows):
                rows += 1
                figures = (row.tokens_per_s, row.power_w, row.tokens_per_joule, row.joules_per_token)
                assert all(figure is not None and 0 < figure < math.inf for figure in figures), (field, odd)
            summarise(found, refused, 0.16, 1.5)
    assert rows or read_all([sample])[1]


def test_no_damaged_field_of_a_cell_makes_a_traceback(tmp_path: Path) -> None:
    record, path = cell("bf16", 2, {"decode": phase(10, 100.0)}), tmp_path / "cell.json"
    for field in fields(record):
        for odd in ODD:
            path.write_text(json.dumps(damaged(record, field, odd)))
            summarise(*read_all([path]), 0.16, 1.5)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"avg_latency": 1.0, "latencies": [1.0], "percentiles": {}}, "vLLM's bench latency, which measures no energy"),
        ({"successful_requests": 9, "total_latency": 1.0, "output_throughput": 1.0}, "SGLang's bench_offline_through"),
        ({"run_name": "x", "batch_size": 1, "prefill_latency": 1.0}, "SGLang's bench_one_batch"),
        ({"kind": "power_sweep", "cells": 4}, "whose cells are no list"),
        ({"backend": "trtllm", "total_energy": 2.0, "total_output_tokens": 2, "duration": 1.0}, "average_gpu_power"),
    ],
)
def test_results_without_energy_are_named(record: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(record))
    with pytest.raises(UnsupportedFile) as refused:
        read(tmp_path / "result.json")
    assert said in str(refused.value)


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(b"[" * 200_000)
    with pytest.raises(UnsupportedFile, match="not one JSON value"):
        read(tmp_path / "result.json")
