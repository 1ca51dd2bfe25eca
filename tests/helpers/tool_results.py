"""Recorded results of other tools, read as a run leaves them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.model import LeftFiles, ToolResult
from llmval_tui.runs.records import Gate, Outcome, worst

RESULTS = Path(__file__).parents[1] / "actions" / "tools" / "results"


def read(command: str, *files: str | Path, stdout: str | Path | None = None) -> ToolResult:
    """The result of a command that left these files: recorded ones or paths. A folder means its files."""
    tool = tool_of(command.split())
    assert tool is not None, command
    found: list[Path] = []
    for name in files:
        path = RESULTS / name
        found += sorted(path.iterdir()) if path.is_dir() else [path]
    return tool.read(LeftFiles(tuple(found), RESULTS / stdout if stdout else None))


def changed(name: str, target: Path, change: Callable[[Any], None]) -> Path:
    """A recorded JSON file after `change`, written to `target`."""
    value = json.loads((RESULTS / name).read_text())
    change(value)
    target.write_text(json.dumps(value))
    return target


def gate(result: ToolResult, name: str) -> Gate:
    """The gate with this name."""
    return next(gate for gate in result.gates if gate.name == name)


def outcome(result: ToolResult) -> Outcome:
    """The outcome of all gates of a result."""
    return worst(result.gates)
