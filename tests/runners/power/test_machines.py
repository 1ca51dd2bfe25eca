"""Which cells belong to one machine: hosts with the same name are distinguished by the UUIDs of all their GPUs."""

import json
from pathlib import Path

import fastjsonschema
import pytest
from llmval_runners.power.analysis import markdown
from llmval_runners.power.analysis.last_screen import last_screen
from llmval_runners.power.analysis.summary import read_all, summarise

from tests.helpers.runners.power_cells import cell, phase, write

DOCS = Path(__file__).parents[3] / "docs"
RESULTS = DOCS / "results" / "h200-power-2026-11-23"


def summary_of(paths):
    return summarise(*read_all(paths), 0.16, 1.5)


def pair(here, there):
    """A 16-bit and an FP8 cell from two hosts named `vm`; the arguments are the GPUs that NVML shows on each."""
    bf16, fp8 = cell("bf16", 2, {"prefill": phase(20_000, 0.035)}), cell("fp8_te", 2, {"prefill": phase(30_000, 0.020)})
    for record, gpus in ((bf16, here), (fp8, there)):
        record["identity"] |= {"host": "vm", "host_gpu_uuids": gpus}
    return bf16, fp8


def schema(name):
    return fastjsonschema.compile(json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text()))


def test_two_hosts_with_one_name_are_two_machines(tmp_path):
    records = pair(["GPU-a", "GPU-b"], ["GPU-c"])
    found = summary_of(write(tmp_path, *records))
    assert len({machine["id"] for machine in found["machines"]}) == 2
    assert found["comparisons"] == []
    text = markdown.render(found, "summary.json", "0" * 64)
    for machine in found["machines"]:
        assert f"Host vm (GPU set {machine['gpu_set']}); 1 × NVIDIA H200;" in text
    schema("power_summary")(json.loads(json.dumps(found)))
    for record in records:
        schema("power_cell")(record)


def test_two_cards_of_one_host_are_one_machine(tmp_path):
    bf16, fp8 = pair(["GPU-a", "GPU-b"], ["GPU-b", "GPU-a"])
    fp8["identity"]["gpus"][0]["uuid"] = "GPU-b"
    found = summary_of(write(tmp_path, bf16, fp8))
    assert len(found["machines"]) == 1
    assert [compared["same_gpus"] for compared in found["comparisons"]] == [False]


def test_two_sweeps_side_by_side_give_one_table_of_one_host(tmp_path):
    """Each GPU measures a model of its own, so the precisions of a model are compared on one card."""
    folders = []
    for card, layers in (("GPU-a", 32), ("GPU-b", 48)):
        records = pair(["GPU-a", "GPU-b"], ["GPU-b", "GPU-a"])
        for record in records:
            record["cell"] = record["cell"].replace("32L", f"{layers}L")
            record["model"] |= {"layers": layers, "name": record["model"]["name"].replace("32L", f"{layers}L")}
            record["identity"]["gpus"][0]["uuid"] = card
        folder = tmp_path / str(layers)
        folder.mkdir()
        manifest = folder / "sweep.json"
        manifest.write_text(json.dumps({"kind": "power_sweep", "cells": [record["cell"] for record in records]}))
        folders += [*write(folder, *records), manifest]
    found = summary_of(folders)
    assert len(found["machines"]) == 1 and not found["missing"] and not found["superseded"]
    assert [compared["same_gpus"] for compared in found["comparisons"]] == [True, True]
    text = markdown.render(found, "summary.json", "0" * 64)
    assert "; 1 × NVIDIA H200, cells from 2 such cards; driver" in text
    assert text.count(", on one card, ") == 2


def test_without_gpu_uuids_the_host_name_identifies_a_machine(tmp_path):
    found = summary_of(write(tmp_path, *pair(None, None)))
    assert [(machine["host"], machine["gpu_set"]) for machine in found["machines"]] == [("vm", None)]
    assert "Host vm; 1 × NVIDIA H200;" in markdown.render(found, "summary.json", "0" * 64)
    assert len(found["comparisons"]) == 1


def test_gpus_without_uuids_are_refused_by_file_name(tmp_path):
    _, refused = read_all(write(tmp_path, *pair([1, 2], ["GPU-c"])))
    assert [Path(item["path"]).name[:2] for item in refused] == ["00"]
    assert "lacks" in refused[0]["reason"]


@pytest.mark.parametrize("part", ["counts", "missing", "comparisons", "best", "pareto", "cells"])
def test_the_recorded_cells_still_give_the_recorded_summary(part):
    def rows_of(summary):
        # The recorded summary is older than the count of failed requests.
        rows = (
            [{**row, "source": None, "failed_requests": None} for row in summary[part]]
            if part == "cells"
            else summary[part]
        )
        return json.loads(json.dumps(rows))

    recorded = json.loads((RESULTS / "summary_20261123.json").read_text())
    found = summary_of(sorted((RESULTS / "cells").glob("*.json")))
    assert rows_of(found) == rows_of(recorded)
    assert [machine["id"] for machine in found["machines"]] == [machine["id"] for machine in recorded["machines"]]


def test_the_last_screen_tells_models_and_phases_apart():
    """Tokens/J of a decode are far below those of a prefill, and two models share precisions and batches."""
    cells = sorted((DOCS / "results" / "h200-power-2026-11-29" / "cells").glob("*.json"))
    found = summary_of(cells) | {"verdict": {"word": "ok", "reason": "18 valid", "exit_code": 0}}
    screen = last_screen(found, "summary.json")
    rows = [line.split()[:4] for line in screen.splitlines() if line.startswith("  ") and " b" in line]
    assert len(rows) == len({tuple(row) for row in rows}) == 12
    assert {tuple(row[:2]) for row in rows} == {(one, two) for one in ("prefill", "decode") for two in ("32L", "48L")}
    assert max(map(len, screen.splitlines())) <= 80


def test_the_last_screen_needs_no_valid_cell():
    found = summary_of([]) | {"verdict": {"word": "inconclusive", "reason": "no cell is valid", "exit_code": 3}}
    assert "inconclusive: no cell is valid" in last_screen(found, "summary.json")
