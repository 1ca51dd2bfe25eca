"""The files at a run's promised paths before the run and at its end, so that no file of another run counts as its own.

Time stamps alone are not enough: two runs may fall into one second, a clock may jump, a file server's clock may differ
from ours. A file that differs from the first snapshot was written by the run; one that differs from the second was
written by somebody else.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, write_json
from llmval_tui.foundation.paths import recorded_name
from llmval_tui.runs.store import Run

Snapshot = Mapping[str, list[int]]  # file, relative to the workspace → modification time in ns, size, inode


@dataclass(frozen=True, slots=True)
class Snapshots:
    """`artifacts.json` of a run folder. None: not recorded; the supervisor died first, or belongs to an old llmval."""

    before: Snapshot | None = None
    after: Snapshot | None = None


def take_snapshot(run: Run, paths: Collection[str] | None = None) -> dict[str, list[int]]:
    """The present files at the paths that the run promises to write, or at some of these paths."""
    workspace = Path(run.intent.cwd).resolve()
    found: dict[str, list[int]] = {}
    for artifact in run.intent.artifacts:
        if paths is not None and artifact.path not in paths:
            continue
        path = workspace / artifact.path
        for file in path.rglob("*") if path.is_dir() else (path,):
            identity = file_identity(file)
            if identity is not None:
                found[recorded_name(os.path.relpath(file.resolve(), workspace))] = identity
    return found


def file_identity(file: Path) -> list[int] | None:
    """Modification time, size and inode: enough to notice a change without reading; None if there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino] if file.is_file() else None


def record_before(run: Run) -> None:
    """Record the snapshot before the first command."""
    write_json(run.folder / "artifacts.json", {"v": 1, "before": take_snapshot(run), "after": None})


def record_before_retry(run: Run, paths: Collection[str]) -> None:
    """Add the files at these paths to the snapshot: a failed attempt wrote them, the next one must write its own."""
    before = {**(_before(run) or {}), **take_snapshot(run, paths)}
    write_json(run.folder / "artifacts.json", {"v": 1, "before": before, "after": None})


def record_after(run: Run) -> None:
    """Record the snapshot at the end."""
    before = _before(run)
    write_json(run.folder / "artifacts.json", {"v": 1, "before": before, "after": take_snapshot(run)})


def read_snapshots(run: Run) -> Snapshots:
    """Both recorded snapshots.

    Raises:
        Refused: the record is damaged.
    """
    path = run.folder / "artifacts.json"
    value = read_json(path)
    if value is None and not path.exists():
        return Snapshots()
    if not isinstance(value, dict) or not all(_is_snapshot(value.get(name)) for name in ("before", "after")):
        raise Refused(f"{path} is damaged and cannot be read: restore it, or move the folder {run.folder} away.")
    return Snapshots(value.get("before"), value.get("after"))


def _is_snapshot(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and all(
        isinstance(one, list) and len(one) == 3 and all(type(number) is int for number in one) for one in value.values()
    )


def _before(run: Run) -> Snapshot | None:
    """The snapshot before the first command; a damaged one must not keep the supervisor from its end."""
    try:
        return read_snapshots(run).before
    except Refused:
        return None
