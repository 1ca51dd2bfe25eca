"""What lay at a run's promised paths before it and at its end: so that no file of another run passes for its own.

Times alone do not tell: two runs may fall into one second, a clock may jump, a file server's may differ from ours. What
a run wrote is what differs from before it; what differs from its end was written by somebody else.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.files import read_json, write_json
from llmval_tui.runs.store import Run

Footprint = Mapping[str, list[int]]  # file, relative to the workspace → modification time in ns, size, inode


@dataclass(frozen=True, slots=True)
class Footprints:
    """`artifacts.json` of a run folder; None: not noted (the supervisor died before, or is of an older llmval)."""

    before: Footprint | None = None
    after: Footprint | None = None


def look(run: Run) -> dict[str, list[int]]:
    """What lies now at the paths that the run promises to write."""
    workspace = Path(run.intent.cwd).resolve()
    found: dict[str, list[int]] = {}
    for artifact in run.intent.artifacts:
        path = workspace / artifact.path
        for file in path.rglob("*") if path.is_dir() else (path,):
            mark = mark_of(file)
            if mark is not None:
                found[os.path.relpath(file.resolve(), workspace)] = mark
    return found


def mark_of(file: Path) -> list[int] | None:
    """What tells one state of a file from another without reading it; None where there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino] if file.is_file() else None


def note_before(run: Run) -> None:
    """Note what lies there before the first command."""
    write_json(run.folder / "artifacts.json", {"v": 1, "before": look(run), "after": None})


def note_after(run: Run) -> None:
    """Note what lies there at the end."""
    write_json(run.folder / "artifacts.json", {"v": 1, "before": read(run).before, "after": look(run)})


def read(run: Run) -> Footprints:
    """What was noted of the run."""
    value = read_json(run.folder / "artifacts.json")
    return Footprints(value.get("before"), value.get("after")) if isinstance(value, dict) else Footprints()
