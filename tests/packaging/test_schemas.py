"""Every field of a schema says what it is, and a schema keeps its promise to the records of its version."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.runs.records import Command, CommandStatus, Evidence, Gate, Intent, Status, StepRef, Verdict

SCHEMAS = sorted((Path(__file__).parents[2] / "docs/schemas").glob("*.schema.json"))
PROMISED = json.loads(Path(__file__).with_name("schema_required.json").read_text())
_INSIDE = ("items", "additionalProperties", "else")  # `if` and `then` only narrow a field that is described elsewhere


def fields_of(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, schema) of every property."""
    if not isinstance(node, dict):
        return
    for name, value in node.get("properties", {}).items():
        yield f"{path}/{name}", value
        yield from fields_of(value, f"{path}/{name}")
    for key in _INSIDE:
        yield from fields_of(node.get(key), f"{path}[]" if key == "items" else path)
    for key in ("oneOf", "anyOf"):
        for value in node.get(key, []):
            yield from fields_of(value, path)
    for name, value in {**node.get("$defs", {}), **node.get("definitions", {})}.items():
        yield from fields_of(value, f"#{name}")


def required_of(node: Any, path: str = "") -> Iterator[str]:
    """The paths of the properties that every record has; what is required inside an optional one may be new."""
    if not isinstance(node, dict):
        return
    yield from (f"{path}/{name}" for name in node.get("required", []))
    for name in node.get("required", []):
        yield from required_of(node.get("properties", {}).get(name), f"{path}/{name}")
    yield from required_of(node.get("items"), f"{path}[]")


def version_of(schema: dict[str, Any]) -> int:
    if "predicate" in schema["properties"]:  # in-toto's statement has no room for a version of ours but in annotations
        inside = schema["properties"]["predicate"]["properties"]["configuration"]["items"]["properties"]
        return int(inside["annotations"]["properties"]["format"]["const"])
    inside = schema["properties"].get("llmval", schema)["properties"]
    return int((inside.get("schema") or inside["v"])["const"])


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_field_is_described(path: Path) -> None:
    bare = [name for name, value in fields_of(json.loads(path.read_text())) if not value.get("description", "").strip()]
    bare = [name for name in bare if "$ref" not in json.dumps(dict(fields_of(json.loads(path.read_text())))[name])]
    assert bare == []


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_record_of_the_same_version_stays_valid(path: Path) -> None:
    """docs/schemas/README.md: a new required field, or one that is gone, needs a new version."""
    schema = json.loads(path.read_text())
    promised = PROMISED[path.name]
    now: dict[str, Any] = {"version": version_of(schema), "required": sorted(set(required_of(schema)))}
    if now["version"] == promised["version"]:
        added = sorted(set(now["required"]) - set(promised["required"]))
        assert added == [], "older records lack these: make them optional, or raise the version"
        names = {name for name, _ in fields_of(schema)} | set(now["required"])
        gone = [name for name in promised["required"] if name not in names]
        assert gone == [], "readers of older records need these: keep them, or raise the version"
    else:
        assert now == promised, "a new version: write it to tests/packaging/schema_required.json"


@pytest.mark.parametrize(
    ("name", "record", "inside"),
    [
        ("run", Intent, ()),
        ("run", Command, ("commands", "items")),
        ("run", StepRef, ("step",)),
        ("status", Status, ()),
        ("status", CommandStatus, ("commands", "items")),
        ("verdict", Verdict, ()),
        ("verdict", Gate, ("gates", "items")),
        ("verdict", Evidence, ("evidence", "items")),
    ],
)
def test_every_field_of_a_run_folder_is_in_its_schema(name: str, record: Any, inside: tuple[str, ...]) -> None:
    node = json.loads((Path(__file__).parents[2] / f"docs/schemas/{name}.schema.json").read_text())
    for word in inside:
        node = node["properties"][word] if word != "items" else node["items"]
    assert {field.name for field in fields(record)} == set(node["properties"])
