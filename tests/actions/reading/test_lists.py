"""Labelled lists of many domains: every item is read as a person reads it.

`NAME.json` has one label an item: the line of its box, the kinds that are right, and the commands as bash would split
them (`$(date …)` and `X.Y.Z` as written). `says` is a part of the refusal or the question.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.reading.model import Reading
from llmval_tui.actions.reading.read import read_item
from llmval_tui.checklist.command import parse_command
from llmval_tui.checklist.model import Checklist, Step, load

LISTS = Path(__file__).with_name("lists")
NOW = datetime(2026, 1, 2)
# "Collect the logs" of a run that llmval did not start is a person's task, though the label asks for llmval's bundle.
DIFFERS = {("incident_runbook", 18)}


def labels() -> list[Any]:
    return [
        pytest.param(file.with_suffix(".md"), label, id=f"{file.stem}:{label['line']}")
        for file in sorted(LISTS.glob("*.json"))
        for label in json.loads(file.read_text())
        if (file.stem, label["line"]) not in DIFFERS
    ]


def read(path: Path, line: int) -> tuple[Step, Reading]:
    checklist = CHECKLISTS.setdefault(path, load(path))
    step = next(step for step in checklist.steps if step.line == line)
    return step, read_item(step, checklist.section_of(step), checklist)


CHECKLISTS: dict[Path, Checklist] = {}


@pytest.mark.parametrize(("path", "label"), labels())
def test_an_item_is_read_as_labelled(path: Path, label: dict[str, Any]) -> None:
    step, reading = read(path, label["line"])
    assert reading.kind in label["kinds"], f"{step.text}: {reading.reason}"
    if label.get("says"):
        assert label["says"] in (reading.refusal or reading.question or "")
    if reading.kind == "builtin":
        assert reading.action == label["action"]
    if reading.kind not in ("command", "commands") or "commands" not in label:
        return
    parsed = [
        parse_command(one.text, now=NOW, environment={"USER": "op"}, values={name: name for name in one.placeholders})
        for one in reading.commands
    ]
    names = [name for one in reading.commands for name in one.placeholders]
    wanted = [[with_names(word, names) for word in argv] for argv in label["commands"]]
    assert [[word.value for word in one.words] for one in parsed] == wanted
    count = len(parsed)
    assert [one.environment for one in parsed] == label.get("environments", [{}] * count)
    assert [one.folder for one in reading.commands] == label.get("folders", [None] * count)
    assert [list(one.placeholders) for one in reading.commands] == label.get("placeholders", [[]] * count)
    outputs = [one.output.path.value if one.output else None for one in parsed]
    assert outputs == [path and with_date(path) for path in label.get("outputs", [None] * count)]


def with_names(word: str, names: list[str]) -> str:
    """The word with each placeholder replaced by its name, which stands for its value here."""
    for name in names:
        word = re.sub(rf"<{re.escape(name)}>|\$\{{?{re.escape(name)}\b\}}?", name, word)
    return with_date(word)


def with_date(word: str) -> str:
    return re.sub(r"\$\(date \+([^)]*)\)", lambda match: NOW.strftime(match[1]), word).replace("$USER", "op")
