"""Packs runs into an archive: a ZIP file that unpacks to a workspace, with masked secrets and a manifest of hashes.

The same runs give the same bytes (with one version of zlib). The ZIP's comment has the SHA-256 of all bytes before it,
so that a change of any byte is seen, also of one that belongs to no file (docs/decisions/023).
"""

import errno
import hashlib
import os
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from llmval_tui.export.open import Archive
from llmval_tui.export.signature import sign
from llmval_tui.export.statement import SEAL, SEAL_BYTES, SIGNATURE, STATEMENT, ArchivedFile, make_statement
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import TEMPORARY_PREFIX, read_lines, sha256_of, sync_folder, to_json
from llmval_tui.foundation.paths import named_path, recorded_name
from llmval_tui.foundation.redaction import redact, secrets_of
from llmval_tui.runs.command_secrets import FILE, PARAMETERS
from llmval_tui.runs.evidence import ARCHIVE_FOLDER, MASKED_FILES
from llmval_tui.runs.store import RUNS_FOLDER, Run, RunStore

MADE = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP can hold
PART = 64 << 20  # bytes of a file that are masked together
TIMES = ".log.times"  # notes of when a log was written, see runs/log_times.py
LONGEST_KEY = 1 << 16  # bytes from the first line of a private key to its last
_BINARY_HEAD = 8192
_KEY_BEGIN, _KEY_END = b"-----BEGIN ", b"-----END "


@dataclass(frozen=True, slots=True)
class Content:
    """What an archive will hold, before it is written."""

    runs: list[Run]  # oldest first
    files: dict[str, Path | bytes]  # name in the archive → file or bytes
    lists: list[str]  # names of the files that are checklists
    left_out: list[str] = field(default_factory=list)  # one sentence each

    @property
    def bytes(self) -> int:
        """Bytes of all files together, unpacked."""
        return sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in self.files.values())


@dataclass(frozen=True, slots=True)
class Written:
    """An archive that was written."""

    path: Path
    bytes: int
    sha256: str
    masked: int  # places in which a secret was overwritten
    masked_files: list[str]
    unsearched: list[str]  # files that are not text: no secret was looked for in them
    not_as_judged: list[str]  # one sentence each
    signed: bool


def content_of(store: RunStore, runs: Sequence[Run], *, whole: bool) -> Content:
    """Find the files of these runs, of the servers that they rest on, of their evidence, and their lists.

    Args:
        whole: the ledger of the ticks goes along completely; else only its lines about these runs.

    Raises:
        Refused: a run is still running, or its records are damaged.
    """
    every = {run.id: run for run in runs}
    for run in runs:
        for server in run.intent.servers:
            if (found := store.find(server)) is not None:
                every.setdefault(found.id, found)
    ordered = sorted(every.values(), key=lambda run: run.order)
    files: dict[str, Path | bytes] = {}
    left_out: list[str] = []
    lists: list[str] = []
    for run in ordered:
        if run.alive():
            raise Refused(f"{run.id} is still running: export it after its end.")
        for path in _regular(run.folder, left_out):
            if path.suffix != ".lock" and path.name not in (FILE, PARAMETERS):
                files[f"{RUNS_FOLDER}/{run.id}/{recorded_name(str(path.relative_to(run.folder)))}"] = path
        _add_artifacts(run, store.workspace, files, left_out)
        name = run.intent.step.checklist
        if name and name not in lists and (found_list := _in_workspace(store.workspace, name)) is not None:
            files[name] = found_list
            lists.append(name)
    if (ledger := _ledger(store, None if whole else set(every))) is not None:
        files[f"{RUNS_FOLDER}/ledger.jsonl"] = ledger
    return Content(ordered, files, lists, list(dict.fromkeys(left_out)))


def _regular(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """The regular files below a folder; links and devices are named in `left_out`."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _regular(path, left_out)
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            left_out.append(f"{path} is a link or no regular file, so it is left out.")


def _add_artifacts(run: Run, workspace: Path, files: dict[str, Path | bytes], left_out: list[str]) -> None:
    """The files that back the verdict, and the promised ones: a failed run has no evidence of those it did write."""
    verdict = run.verdict()
    backing = [item.path for item in verdict.evidence] if verdict is not None else []
    for name in dict.fromkeys(backing + [recorded_name(item.path) for item in run.intent.artifacts]):
        path = _in_workspace(workspace, name)
        if path is None:
            if name in backing:
                left_out.append(f"{name} of {run.id} is missing, a link, or outside the workspace, so it is left out.")
        elif path.is_dir():
            for one in _regular(path, left_out):
                files[recorded_name(str(one.relative_to(workspace)))] = one
        else:
            files[name] = path


def _in_workspace(workspace: Path, name: str) -> Path | None:
    """The file or folder with this recorded name; None if it is not there, or elsewhere, or not a regular one."""
    relative = Path(named_path(name))
    if relative.is_absolute() or ".." in relative.parts:
        return None
    try:
        mode = (workspace / relative).lstat().st_mode
    except OSError:
        return None
    return workspace / relative if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None


def _ledger(store: RunStore, runs: set[str] | None) -> bytes | None:
    lines = [line for line in read_lines(store.ledger) if runs is None or line.get("run_id") in runs]
    return b"".join(map(to_json, lines)) if lines else None


def write_archive(
    content: Content,
    target: Path,
    key: Path | None = None,
    report: Callable[[str, int], None] = lambda name, done: None,
) -> Written:
    """Write the archive, and rename it to `target` when it is complete.

    Args:
        key: an SSH key that signs the manifest.
        report: called before each file, and before each part of a large one, with its name and the bytes of `content`
            that are packed.

    Raises:
        Refused: it cannot be written or signed, or there is something at `target`; nothing is left there.
    """
    if os.path.lexists(target):
        raise Refused(f"{target} exists: remove it, or name another file with -o.")
    if not target.parent.is_dir():
        raise Refused(f"the folder {target.parent} does not exist: create it, or name another file with -o.")
    named: Path | None = None
    try:
        descriptor, named = _new_file(target.parent)
        with os.fdopen(descriptor, "w+b") as file:
            written, unsearched = _fill(file, content, key, report)
            _seal(file)
            # Refuses what no reader would accept, such as a file name with a backslash.
            Archive(named or Path(f"/proc/self/fd/{descriptor}"), str(target)).close()
            # Unlike a rename, a link never replaces a file that came meanwhile. With a descriptor of a folder Python
            # follows the link in /proc; without one it would link the link.
            if named is None:
                os.link(f"/proc/self/fd/{descriptor}", target, src_dir_fd=descriptor)
            else:
                os.link(named, target)
        sync_folder(target.parent)
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        raise Refused(f"{target} cannot be written ({what}): choose another place with -o.") from error
    finally:
        if named is not None:
            named.unlink(missing_ok=True)
    masked = [one for one in written if one.masked]
    return Written(
        target,
        target.stat().st_size,
        sha256_of(target),
        sum(one.masked for one in masked),
        [one.name for one in masked],
        unsearched,
        _not_as_judged(content.runs, {one.name: one for one in written}),
        key is not None,
    )


def _new_file(folder: Path) -> tuple[int, Path | None]:
    """A new file without a name, which is gone if this process is killed; with one where the file system (NFS) asks."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            raise
    named = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    return os.open(named, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666), named


def _fill(
    file: BinaryIO, content: Content, key: Path | None, report: Callable[[str, int], None]
) -> tuple[list[ArchivedFile], list[str]]:
    """Write the ZIP; returns the files of its manifest, and those in which no secret was looked for."""
    known = secrets_of(os.environ)[0]
    written: list[ArchivedFile] = []
    unsearched = []
    done = 0
    with zipfile.ZipFile(file, "w") as archive:
        for name, source in sorted(content.files.items()):
            one, searched = _add(archive, name, source, known, partial(_report_in, report, name, done))
            done += one.bytes
            written.append(one)
            if not searched and not name.endswith(TIMES):  # llmval's own numbers hold no text
                unsearched.append(name)
        if any(one.masked for one in written):
            originals = {one.name: [one.original_sha256, one.sha256] for one in written if one.masked}
            record = to_json({"v": 1, "files": originals}, indent=True)
            written.append(_add(archive, f"{RUNS_FOLDER}/{MASKED_FILES}", record, set())[0])
        statement = make_statement(content.runs, written, content.lists)
        _write(archive, STATEMENT, [statement], len(statement))
        if key is not None:
            signature = sign(statement, key)
            _write(archive, SIGNATURE, [signature], len(signature))
        archive.comment = b"0" * SEAL_BYTES
    return written, unsearched


def _report_in(report: Callable[[str, int], None], name: str, before: int, done: int) -> None:
    report(name, before + done)


def _not_as_judged(runs: Sequence[Run], files: dict[str, ArchivedFile]) -> list[str]:
    """The evidence that is packed with other bytes than were judged, and that the run keeps no copy of."""
    found = []
    for run in runs:
        verdict = run.verdict()
        for item in verdict.evidence if verdict is not None else ():
            copy = f"{RUNS_FOLDER}/{run.id}/{ARCHIVE_FOLDER}/{item.sha256}.json"
            one = files.get(item.path)
            if copy not in files and one is not None and item.sha256 not in (one.sha256, one.original_sha256):
                found.append(f"{item.path} was changed since {run.id} was judged: llmval verify will say so.")
    return found


def _add(
    archive: zipfile.ZipFile,
    name: str,
    source: Path | bytes,
    known: set[bytes],
    report: Callable[[int], None] = lambda done: None,
) -> tuple[ArchivedFile, bool]:
    """Add one file; returns its entry of the manifest, and whether secrets were looked for."""
    before, after = hashlib.sha256(), hashlib.sha256()
    counts = {"masked": 0, "bytes": 0}
    searched = True

    def parts() -> Iterator[bytes]:
        nonlocal searched
        for number, part in enumerate(_parts(source)):
            report(counts["bytes"])
            if number == 0 and b"\0" in part[:_BINARY_HEAD]:
                searched = False  # overwriting bytes of a packed format would only break it
            before.update(part)
            if searched:
                part, times = redact(part, known)
                counts["masked"] += times
            after.update(part)
            counts["bytes"] += len(part)
            yield part

    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    _write(archive, name, parts(), size)
    changed = before.digest() != after.digest()
    one = ArchivedFile(
        name,
        after.hexdigest(),
        counts["bytes"],
        counts["masked"] if changed else 0,
        before.hexdigest() if changed else None,
    )
    return one, searched


def _parts(source: Path | bytes) -> Iterator[bytes]:
    """The bytes in parts that end with a line and cut no private key, so that no secret lies in two of them."""
    if isinstance(source, bytes):
        yield source
        return
    rest = b""
    with source.open("rb") as file:
        while block := file.read(PART):
            rest += block
            end = rest.rfind(b"\n") + 1 if len(block) == PART else len(rest)
            begin = rest.rfind(_KEY_BEGIN, 0, end)
            open_key = begin >= 0 and rest.find(_KEY_END, begin, end) < 0 and len(rest) - begin < LONGEST_KEY
            if len(block) == PART and open_key:
                end = rest.rfind(b"\n", 0, begin) + 1
            if end:
                yield rest[:end]
                rest = rest[end:]
    if rest:
        yield rest


def _write(archive: zipfile.ZipFile, name: str, parts: Iterable[bytes], size: int) -> None:
    info = zipfile.ZipInfo(name, MADE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    # A log may have grown since it was measured, so the limit of the short form is not used up.
    with archive.open(info, "w", force_zip64=size > 1 << 30) as file:
        for part in parts:
            file.write(part)


def _seal(file: BinaryIO) -> None:
    """Write the hash of all bytes before the comment into the comment, and sync the file."""
    digest = hashlib.sha256()
    file.flush()
    left = file.seek(0, os.SEEK_END) - SEAL_BYTES
    file.seek(0)
    while left:
        block = file.read(min(left, 1 << 20))
        digest.update(block)
        left -= len(block)
    file.seek(-SEAL_BYTES, os.SEEK_END)
    file.write(SEAL + digest.hexdigest().encode())
    file.flush()
    os.fsync(file.fileno())
