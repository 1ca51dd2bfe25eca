"""The part of a report about the bandwidth of collectives and of pairs of GPUs."""

from typing import Any

import pytest

from llmval_tui.checklist.model import load
from llmval_tui.report.build import render
from llmval_tui.report.facts import gather, runs_for
from llmval_tui.runs.definitions import define
from llmval_tui.runs.records import Artifact
from tests.helpers.collective_records import record_of
from tests.report.conftest import Workspace


def made(workspace: Workspace, record: dict[str, Any], form: str) -> str:
    workspace.run(result=record, artifacts=[Artifact("artifacts/r1.json", "collective_bandwidth")])
    checklist = load(workspace.folder / "docs" / "llm_validation_checklist.md")
    return render(gather(workspace.store, runs_for(workspace.store, (), checklist), checklist), form)


@pytest.mark.parametrize("form", ["html", "md", "txt"])
def test_the_matrix_and_the_slow_pair_are_in_every_format(workspace: Workspace, form: str) -> None:
    record = record_of(8, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0)
    text = made(workspace, record, form)
    assert "Collectives: artifacts/r1.json" in text
    assert "Slower than the others: pair 3→5" in text
    assert "line rate in one direction 450 GB/s (NVLink)" in text.replace("\n", " ")
    slow = next(
        one["gb_per_s"]
        for one in record["pairs"]["cells"]
        if (one["from"], one["to"], one["method"], one["access"], one["directions"])
        == (3, 5, "copy_engine", "write", 1)
    )
    assert f"{slow:.4g}" in text
    assert "From GPU to GPU, copy engine, one way, GB/s" in text.replace("\n", " ")


def test_many_gpus_list_their_slowest_pairs(workspace: Workspace) -> None:
    text = made(workspace, record_of(18, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0), "md")
    assert "The slowest of 306 pairs" in text
    assert "| 3 to 5 |" in text


def test_what_is_unknown_is_named(workspace: Workspace) -> None:
    record = record_of(2, kind="PCIe")
    record["pairs"] = {"cells": [], "compared": []}
    text = made(workspace, record, "md")
    assert "The pairs of GPUs were not measured." in text
    assert "NVLink counters: not available (no NVLink connects these GPUs)." in text


def test_the_metrics_have_definitions() -> None:
    assert define("all_to_all_busbw_gb_per_s").text.startswith("busbw of the all-to-all at its largest size")
    for name in ("pair_min_gb_per_s", "pair_median_gb_per_s", "all_reduce_smallest_us", "all_reduce_of_line_percent"):
        assert define(name).better
        assert define(name).text != "defined by the run's artifact"
