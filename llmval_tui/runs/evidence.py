"""The evidence of ticks: copies of small ones in the run folder, and a check that all are still as recorded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_lines, sha256_of, write_atomic
from llmval_tui.runs.records import Evidence
from llmval_tui.runs.store import RunStore

ARCHIVE_FOLDER = "evidence"  # below the run folder
ARCHIVED_BYTES = 5_000_000  # limit for one file
ARCHIVED_BYTES_OF_RUN = 50_000_000  # limit for all copies of a run: an item may promise a folder with many files
ARCHIVED = "kept"  # the state of a `Location`; reports and `llmval verify --json` contain this word


@dataclass(frozen=True, slots=True)
class Location:
    """The present location of recorded bytes."""

    state: str  # "intact", "changed", "missing", or `ARCHIVED`: only the copy in the run folder is as recorded
    path: Path | None  # None: the bytes are nowhere


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of a tick's evidence, checked again."""

    number: str  # of the step, when it was ticked
    run_id: str
    path: str
    sha256: str  # as recorded
    state: str  # as in `Location`
    copy: str | None = None  # relative to the workspace; only if the state is `ARCHIVED`


def archive(folder: Path, evidence: Sequence[Evidence], workspace: Path) -> None:
    """Copy small JSON evidence into the run folder, where no later run overwrites it.

    An item that runs twice on one day may name the same file both times. Large files are not copied.

    Raises:
        Refused: a file changed since it was hashed, or a copy cannot be written.
    """
    room = ARCHIVED_BYTES_OF_RUN
    for item in evidence:
        path = workspace / item.path
        small = path.suffix == ".json" and item.bytes <= min(ARCHIVED_BYTES, room)
        if not small or path.resolve().is_relative_to(folder.resolve()):
            continue
        room -= item.bytes
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise Refused(f"{item.path} changed while it was judged: wait for its writer to end, then judge again.")
        copy = archive_path(folder, item.sha256)
        copy.parent.mkdir(exist_ok=True)
        write_atomic(copy, data)


def locate(path: Path, sha256: str, folder: Path | None) -> Location:
    """Find the bytes with a recorded hash: at their path, else in the run folder."""
    exists = path.is_file()
    if exists and sha256_of(path) == sha256:
        return Location("intact", path)
    copy = archive_path(folder, sha256) if folder is not None else None
    if copy is not None and copy.is_file() and sha256_of(copy) == sha256:
        return Location(ARCHIVED, copy)
    return Location("changed" if exists else "missing", None)


def archive_path(folder: Path, sha256: str) -> Path:
    """The path of the copy with this hash in a run folder; the copy need not exist."""
    # By hash, not by name: a run that is judged again may have another file of the same name.
    return folder / ARCHIVE_FOLDER / f"{sha256}.json"


def check_ledger(store: RunStore) -> list[CheckedFile]:
    """Hash every file that the newest tick of each item names; an earlier tick of the same item no longer counts."""
    newest: dict[tuple[object, ...], dict[str, object]] = {}
    for line in read_lines(store.ledger):
        newest[line.get("checklist"), line.get("section"), line.get("text"), line.get("occurrence")] = line
    checked = []
    for line in newest.values():
        evidence, number, run_id = line.get("evidence"), str(line.get("number")), str(line.get("run_id"))
        for item in evidence if isinstance(evidence, list) else []:
            found = locate(store.workspace / item["path"], item["sha256"], store.root / run_id)
            copy = str(found.path.relative_to(store.workspace)) if found.path and found.state == ARCHIVED else None
            checked.append(CheckedFile(number, run_id, item["path"], item["sha256"], found.state, copy))
    return checked
