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
