"""The pins by hash, and the list of dependencies in the wheel, fit the constraints."""

import json
import re
import tomllib
from pathlib import Path

from sbom import pins, render

ROOT = Path(__file__).parents[2]


def test_every_dependency_is_pinned_by_hash_at_the_tested_version() -> None:
    text = (ROOT / "requirements-hashed.txt").read_text()
    found = pins(text)
    assert text.count("==") == len(found) and all(hashes for _, hashes in found.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[<>=!\[; ]", line)[0].lower() for line in project["dependencies"]}
    assert direct <= set(found), "run make lock"
    tested = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert {name: version for name, (version, _) in found.items()} == {name: tested[name] for name in found}
    assert "://" not in text


def test_the_list_in_the_wheel_is_the_one_of_the_pins() -> None:
    assert (ROOT / "sbom.cdx.json").read_text() == render(), "run make lock"
    document = json.loads(render())
    assert {one["name"] for one in document["components"]} >= {"textual", "orjson"}
    assert "://" not in render()
