"""Every result that was ever committed is still read, and is valid by the schema of today.

`docs/results` has the results of this version's documents; `earlier/` those that were replaced, and a run folder of the
oldest records (only the fields that these had).
"""

import json
import lzma
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.export.sources import Sources
from llmval_tui.report.build import as_json
from llmval_tui.report.facts import gather
from llmval_tui.report.run_list import line_of

ROOT = Path(__file__).parents[2]
PLACES = (ROOT / "docs" / "results", Path(__file__).with_name("earlier"))
SCHEMAS = {path.name.removesuffix(".schema.json") for path in (ROOT / "docs" / "schemas").glob("*.schema.json")}
RECORDS = {"run.json": "run", "status.json": "status", "verdict.json": "verdict"}  # of a run folder
OTHERS = {"artifacts.json", "processes.json", "ranks.main.json"}  # llmval's own notes beside them
SEARCHES = {"rate_search.json.xz", "rate_search_later.json.xz"}  # lists of the `search` of load tests
RESULTS = sorted(path for place in PLACES for ending in ("json", "json.xz") for path in place.rglob(f"*.{ending}"))
RUNS = sorted(path.parent for place in PLACES for path in place.rglob("run.json"))


def read(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def schema_of(name: str, value: Any) -> str | None:
    """The schema of a result, by its name or its own word."""
    if not isinstance(value, dict):
        return None
    if name.endswith(".fleet.json.xz"):
        return "fleet"
    return RECORDS.get(name) or value.get("kind") or (value.get("llmval") or {}).get("kind")


def test_there_are_some_of_most_kinds() -> None:
    kinds = {schema_of(path.name, json.loads(read(path))) for path in RESULTS}
    assert len(RESULTS) > 45
    assert kinds >= {
        "compile_repro", "engine_benchmark", "fit_check", "load_test", "long_context", "power_cell", "power_sweep",
        "power_summary", "trace_summary", "run", "status", "verdict",
    }  # fmt: skip


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recorded_result_is_valid_by_the_schema_of_today(path: Path, tmp_path: Path) -> None:
    plain = tmp_path / path.name
    plain.write_bytes(read(path))
    value = json.loads(plain.read_bytes())
    schema = schema_of(path.name, value)
    if path.name in SEARCHES:
        whole = json.loads((ROOT / "docs" / "schemas" / "load_test.schema.json").read_text())
        part = whole["properties"]["llmval"]["properties"]["search"]
        check = fastjsonschema.compile(
            {**part, "definitions": whole.get("definitions", {}), "$defs": whole.get("$defs", {})}
        )
        for one in value:
            check(one["search"])
        return
    if schema is None:
        assert path.name in OTHERS, "nothing says what this file is: give it a kind, or name it here"
        return
    assert schema in SCHEMAS, "this result has no schema in docs/schemas"
    assert schema_problem(plain, schema) is None


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_recorded_run_is_listed_and_reported(folder: Path, tmp_path: Path) -> None:
    with Sources(tmp_path) as sources:
        source, run = sources.run(str(folder))
        line = line_of(run, source.title)
        assert line.outcome == "pass" and line.problem is None and line.duration_s
        facts = as_json(gather(source.store, [run], None))
        assert facts["runs"][0]["figures"] and facts["unreadable"] == []


def test_the_documented_figures_of_the_engine_are_those_of_the_records() -> None:
    """docs/performance.md: a figure without a record is not there, and one with a record is the record's."""
    text = (ROOT / "docs/performance.md").read_text()
    part = text.split("## The engine on one H100")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    shown = {(name, title): value for name, *values in rows[1:] for title, value in zip(rows[0], values, strict=True)}
    assert len(shown) == 25
    folder = ROOT / "docs/results/h100-2026-11-27"
    measured = [
        row
        for name in ("engine_sdpa", "engine_flex_bf16", "engine_flex_fp8")
        for row in json.loads((folder / f"{name}.json").read_text())["rows"]
    ]
    titles = {"bf16": "bf16", "fp8": "FP8 + FP8 KV", "transformer-engine": "Transformer Engine + FP8 KV"}
    for row in measured:
        title = f"{titles[row['precision']]}, {row['backend']}"
        if row["row"] == "decode":
            one = (
                f"decode, batch {row['batch']}, 1,088 tokens, ms"
                if row["batch"] == 1
                else f"decode, batch {row['batch']}, ms"
            )
            assert shown.pop((one, title)) == f"{row['value']:.3f}"
        elif row["row"] == "prefill":
            assert shown.pop(("prefill 16 × 4096, tokens/s", title)) == f"{row['tokens_per_s']:,.0f}"
        elif row["row"] == "saturated":
            assert shown.pop(("saturated, of the modelled rate", title)) == f"{100 * row['of_modelled']:.1f} %"
    assert shown == {}


def test_every_figure_of_several_gpus_names_its_record() -> None:
    part = (ROOT / "docs/performance.md").read_text().split("## Several GPUs")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ") and "measured" not in line]
    assert rows and all("](results/" in row for row in rows)
