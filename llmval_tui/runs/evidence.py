"""The evidence of ticks: copies of small ones in the run folder, and a check that all are still as recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_atomic, write_json
from llmval_tui.foundation.paths import recorded_name
from llmval_tui.runs.records import Evidence
from llmval_tui.runs.store import RunStore
from llmval_tui.runs.tick_ledger import BY_HAND, RUN, TickLine

ARCHIVE_FOLDER = "evidence"  # below the run folder
ARCHIVED_BYTES = 5_000_000  # limit for one file
ARCHIVED_BYTES_OF_RUN = 50_000_000  # limit for all copies of a run: an item may promise a folder with many files
VERIFIED = "verified.json"  # beside the ledger
MASKED_FILES = "masked.json"  # beside the ledger, in an exported workspace: [SHA-256 when judged, SHA-256 now] by path
MASKED = "masked"  # the state of a `Location`: the export overwrote secrets in it, and changed nothing else
ARCHIVED = "kept"  # the state of a `Location`; reports and `llmval verify --json` contain this word


@dataclass(frozen=True, slots=True)
class Location:
    """The present location of recorded bytes."""

    # "intact", "changed", "missing", "unreadable", `MASKED`, or `ARCHIVED`: only the run folder's copy is as recorded
    state: str
    path: Path | None  # None: the bytes are nowhere


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of a tick's evidence, checked again."""

    number: str  # the step's number when it was ticked
    run_id: str
    path: str
    sha256: str  # as recorded
    state: str  # as in `Location`
    copy: str | None = None  # relative to the workspace; only if the state is `ARCHIVED`


def evidence_of(file: Path, workspace: Path, stop: Callable[[], object] = lambda: None) -> Evidence:
    """Hash a file below the workspace, and note its size, modification time and inode for later looks.

    Raises:
        Refused: it is being written.
        InterruptedError: `stop` returned something true.
        OSError: it cannot be read.
    """
    name = recorded_name(str(file.relative_to(workspace.resolve())))
    before = file.stat()
    digest = sha256_of(file, stop)
    after = file.stat()
    if (before.st_mtime_ns, before.st_size, before.st_ino) != (after.st_mtime_ns, after.st_size, after.st_ino):
        raise Refused(f"{name} changed while it was hashed: wait for its writer to end, then judge again.")
    return Evidence(name, digest, after.st_size, after.st_mtime_ns, after.st_ino)


def change_of(item: Evidence, workspace: Path, judged_utc: str, verified: Evidence | None = None) -> str | None:
    """What has happened to a judged file: "missing", "unreadable", "changed", or None. It reads nothing.

    Size, modification time and inode are compared with those of the judged file, or with those that `llmval verify`
    saw when it hashed the file again and found the same bytes.
    """
    try:
        now = item.at(workspace).stat()
    except OSError as error:
        return _absence(error)
    for known in (item, verified):
        if known is None or known.bytes != now.st_size:
            continue
        if known.mtime_ns is None:  # an old record: written since is all that can be seen
            same = now.st_mtime <= datetime.fromisoformat(judged_utc).timestamp() + 1
        else:
            same = (known.mtime_ns, known.inode) == (now.st_mtime_ns, now.st_ino)
        if same:
            return None
    return "changed"


def read_verified(store: RunStore) -> dict[tuple[str, str], Evidence]:
    """The files that `llmval verify` found intact, by path and SHA-256."""
    value = read_json(store.root / VERIFIED)
    try:
        files = [decode(Evidence, item) for item in value["files"]] if value else []
    except (TypeError, AttributeError, KeyError, ValueError):
        return {}  # only a memory of work that is done again
    return {(item.path, item.sha256): item for item in files}


def archive(folder: Path, evidence: Sequence[Evidence], workspace: Path) -> None:
    """Copy small JSON evidence into the run folder, where no later run overwrites it.

    An item that runs twice on one day may name the same file both times. Large files are not copied.

    Raises:
        Refused: a file changed since it was hashed, or a copy cannot be written.
    """
    room = ARCHIVED_BYTES_OF_RUN
    for item in evidence:
        path = item.at(workspace)
        small = path.suffix == ".json" and item.bytes <= min(ARCHIVED_BYTES, room)
        if not small or path.resolve().is_relative_to(folder.resolve()):
            continue
        room -= item.bytes
        import hashlib  # it loads OpenSSL, which a look at the evidence does not need

        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise Refused(f"{item.path} changed while it was judged: wait for its writer to end, then judge again.")
        copy = archive_path(folder, item.sha256)
        copy.parent.mkdir(exist_ok=True)
        write_atomic(copy, data)


def locate(path: Path, sha256: str, folder: Path | None) -> Location:
    """Find the bytes with a recorded hash: at their path, else in the run folder."""
    state = _state_of(path)
    now = sha256_of(path) if state == "changed" else None
    if now == sha256:
        return Location("intact", path)
    if folder is not None:
        copy = archive_path(folder, sha256)
        copied = sha256_of(copy) if _state_of(copy) == "changed" else None
        if copied == sha256:
            return Location(ARCHIVED, copy)
        masked = _masked_as(folder.parent).get(sha256)
        if masked is not None and masked in (now, copied):
            return Location(MASKED, path if masked == now else copy)
    return Location(state, None)


def _masked_as(root: Path) -> dict[str, str]:
    """SHA-256 of the exported bytes by that of the judged ones, for the files in which an export masked secrets."""
    value = read_json(root / MASKED_FILES)
    files = value.get("files") if isinstance(value, dict) else None
    pairs = files.values() if isinstance(files, dict) else ()
    return {str(pair[0]): str(pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2}


def _state_of(path: Path) -> str:
    """ "changed" if there is a file that can be hashed, else why not. The path may come from a damaged record."""
    try:
        if not path.is_file():
            return "missing"
        path.open("rb").close()
    except OSError as error:
        return _absence(error)
    return "changed"


def _absence(error: OSError) -> str:
    """Another user's run folder is closed to us (0700), so nobody here knows whether the file is still there."""
    return "unreadable" if isinstance(error, PermissionError) else "missing"


def archive_path(folder: Path, sha256: str) -> Path:
    """The path of the copy with this hash in a run folder; the copy need not exist."""
    # By hash, not by name: a run that is judged again may have another file of the same name.
    return folder / ARCHIVE_FOLDER / f"{sha256}.json"


def item_of(line: TickLine) -> object:
    """What tells the lines of one item from those of others, without a look at the lists."""
    return line.checklist, *line.key


def check_ledger(
    store: RunStore, *, remember: bool = False, item_of: Callable[[TickLine], object] = item_of
) -> list[CheckedFile]:
    """Hash every file that the newest tick of each item names; an earlier tick of the same item no longer counts.

    Args:
        item_of: what tells the lines of one item from those of others.
        remember: write the files that are intact to `verified.json`, so that a look knows their new time and inode.
    """
    newest = {item_of(line): line for line in store.ticks.lines() if line.kind in (RUN, BY_HAND)}
    checked, intact = [], []
    for line in newest.values():
        run_id = line.run_id or ""
        for item in line.evidence:
            file = item.at(store.workspace)
            status = file.stat() if _state_of(file) == "changed" else None
            found = locate(file, item.sha256, store.root / run_id if run_id else None)
            copy = str(found.path.relative_to(store.workspace)) if found.path and found.state == ARCHIVED else None
            checked.append(CheckedFile(line.number, run_id, item.path, item.sha256, found.state, copy))
            if found.state in ("intact", MASKED) and status is not None:
                intact.append(replace(item, bytes=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino))
    if remember and intact:
        write_json(store.root / VERIFIED, {"v": 1, "files": intact})
    return checked
