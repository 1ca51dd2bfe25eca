"""The files that back ticks: copies of the small ones in the run folder, and whether all are still what they were."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_lines, sha256_of, write_atomic
from llmval_tui.runs.records import Evidence
from llmval_tui.runs.store import RunStore

KEPT = "evidence"  # below the run folder
KEPT_BYTES = 5_000_000  # of one file
KEPT_BYTES_OF_RUN = 50_000_000  # an item may promise a folder of many


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a file that was hashed once."""

    state: str  # "intact", "kept": only the run's copy is as recorded, "changed", "missing"
    path: Path | None  # where the recorded bytes lie; None where nowhere


@dataclass(frozen=True, slots=True)
class Finding:
    """One file that backs a tick, looked at again."""

    number: str  # of the step, when it was ticked
    run_id: str
    path: str
    sha256: str  # as recorded
    state: str  # as in `Found`
    copy: str | None = None  # relative to the workspace; only where the state is "kept"


def keep(folder: Path, evidence: Sequence[Evidence], workspace: Path) -> None:
    """Copy small JSON evidence into the run folder, where no later run writes over it.

    An item that is run twice on one day may well name the same file both times. Large files stay where they are.

    Raises:
        Refused: a file is no longer what was just hashed, or a copy cannot be written.
    """
    room = KEPT_BYTES_OF_RUN
    for item in evidence:
        path = workspace / item.path
        small = path.suffix == ".json" and item.bytes <= min(KEPT_BYTES, room)
        if not small or path.resolve().is_relative_to(folder.resolve()):
            continue
        room -= item.bytes
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise Refused(f"{item.path} was changed while it was judged: let what writes it end, then judge again.")
        copy = copy_of(folder, item.sha256)
        copy.parent.mkdir(exist_ok=True)
        write_atomic(copy, data)


def find(path: Path, sha256: str, folder: Path | None) -> Found:
    """Where the bytes with a recorded hash lie now: at their path, else in the run folder."""
    there = path.is_file()
    if there and sha256_of(path) == sha256:
        return Found("intact", path)
    copy = copy_of(folder, sha256) if folder is not None else None
    if copy is not None and copy.is_file() and sha256_of(copy) == sha256:
        return Found("kept", copy)
    return Found("changed" if there else "missing", None)


def copy_of(folder: Path, sha256: str) -> Path:
    """Where a run's folder has its copy of a file with this hash, if it has one."""
    # By hash, not by name: a run that is judged again may have another file of the same name.
    return folder / KEPT / f"{sha256}.json"


def check_ledger(store: RunStore) -> list[Finding]:
    """Hash every file that the newest tick of each item names.

    A later tick of the same item replaces an earlier one: only the evidence that the tick stands on counts.
    """
    newest: dict[tuple[object, ...], dict[str, object]] = {}
    for line in read_lines(store.ledger):
        newest[line.get("checklist"), line.get("section"), line.get("text"), line.get("occurrence")] = line
    findings = []
    for line in newest.values():
        evidence, run_id = line.get("evidence"), str(line.get("run_id"))
        for item in evidence if isinstance(evidence, list) else []:
            found = find(store.workspace / item["path"], item["sha256"], store.root / run_id)
            copy = str(found.path.relative_to(store.workspace)) if found.path and found.state == "kept" else None
            findings.append(Finding(str(line.get("number")), run_id, item["path"], item["sha256"], found.state, copy))
    return findings
