"""The results that are kept in docs/results are still read: each is valid by the schema that its `kind` names."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions.gates.artifacts import schema_problem

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.name.removesuffix(".schema.json") for path in (ROOT / "docs" / "schemas").iterdir()}
RESULTS = {
    path: kind
    for path in sorted((ROOT / "docs" / "results").rglob("*.json"))
    if (kind := json.loads(path.read_bytes()).get("kind")) in SCHEMAS
}


def test_there_are_some_of_most_kinds() -> None:
    assert len(RESULTS) > 25
    assert {"compile_repro", "engine_benchmark", "long_context", "power_cell", "power_sweep"} <= set(RESULTS.values())


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_recorded_result_is_valid_by_the_schema_of_today(path: Path) -> None:
    assert schema_problem(path, RESULTS[path]) is None


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
