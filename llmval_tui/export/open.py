"""Opens an archive of another machine: looks at its structure, checks every file against the manifest, unpacks it.

An archive comes from somebody else, so nothing in it is trusted: not a name, not a size, not a kind of file. What
llmval never writes is refused before anything is unpacked.
"""

import hashlib
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llmval_tui.export.statement import (
    SEAL,
    SEAL_BYTES,
    SIGNATURE,
    STATEMENT,
    ArchivedFile,
    Statement,
    read_statement,
)
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import named_path
from llmval_tui.foundation.text import clean_line

MOST_FILES = 200_000
LARGEST_STATEMENT = 256 << 20  # bytes
ALWAYS_ALLOWED = 1 << 30  # bytes, unpacked
LARGEST_RATIO = 200  # above that: telemetry packs to a tenth, the logs of a run to a fiftieth at best
_BLOCK = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
INTACT, CHANGED, MISSING, UNLISTED = "intact", "changed", "missing", "not listed"


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """One file of an archive or of a folder, held against the manifest."""

    path: str
    state: str  # INTACT, CHANGED, MISSING or UNLISTED
    sha256: str | None  # the manifest's hash; None if it does not list the file


class Archive:
    """An archive whose structure was checked. Use it as a context manager.

    Raises:
        Refused: it cannot be read, is not an archive of llmval, or has something in it that llmval never writes.
    """

    def __init__(self, path: Path, title: str | None = None) -> None:
        self.path, self.title = path, title or str(path)  # the title is what messages call it
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise Refused(f"{self.title} cannot be read ({error.strerror}): check its permissions.") from error
        except _BROKEN as error:
            raise self._broken() from error
        try:
            if self._zip.comment.startswith(SEAL) and len(self._zip.comment) < SEAL_BYTES:
                raise self._broken()  # cut in its last bytes, which zipfile forgives
            self._members = self._checked_members()
            self.statement_bytes = self._read(STATEMENT)
            self.signature = self._read(SIGNATURE) if SIGNATURE in self._members else None
            self.statement: Statement = read_statement(self.statement_bytes, self.title)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > MOST_FILES:
            raise self._refused(f"it has {len(infos):,} files")
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._check_member(info)
            if info.is_dir():
                continue  # another program packed the folder again; files make their folders anyway
            if info.filename in members:
                raise self._refused(f"it has {clean_line(info.filename)} twice")
            members[info.filename] = info
        for name in members:
            if any(str(parent) in members for parent in PurePosixPath(name).parents):
                raise self._refused(f"{clean_line(name)} lies in a file")
        self._check_sizes(members)
        if STATEMENT not in members:
            raise self._refused(f"it has no {STATEMENT}")
        if members[STATEMENT].file_size > LARGEST_STATEMENT:
            raise self._refused(f"its {STATEMENT} is too large")
        return members

    def _check_member(self, info: zipfile.ZipInfo) -> None:
        # `orig_filename` still has the backslashes and what follows a NUL.
        for name in (info.orig_filename, named_path(info.filename)):
            if problem := name_problem(name):
                raise self._refused(f"{clean_line(name)[:100]!r} {problem}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a link" if kind == stat.S_IFLNK else "a device or another special file"
            raise self._refused(f"{clean_line(info.filename)} is {what}")
        if info.flag_bits & 0x41:
            raise self._refused(f"{clean_line(info.filename)} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refused(f"{clean_line(info.filename)} is packed by another method")

    def _check_sizes(self, members: dict[str, zipfile.ZipInfo]) -> None:
        """No two files share bytes, and all together are not absurdly larger than the archive."""
        size, total = self.path.stat().st_size, sum(info.file_size for info in members.values())
        if total > max(ALWAYS_ALLOWED, LARGEST_RATIO * size):
            raise self._refused(f"its {size:,} bytes would unpack to {total:,}")
        end = 0
        for info in sorted(members.values(), key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise self._refused(f"{clean_line(info.filename)} overlaps another file")
            end = info.header_offset + 30 + len(info.filename.encode()) + info.compress_size

    def _broken(self) -> Refused:
        return Refused(
            f"{self.title} is truncated, damaged or no archive of llmval export: ask its sender for it again."
        )

    def _refused(self, reason: str) -> Refused:
        return Refused(f"{self.title}: {reason}, which llmval export never writes, so nothing of it was read.")

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[name])
        except (*_BROKEN, OSError) as error:
            raise Refused(f"{self.title}: its {name} is damaged: ask its sender for the archive again.") from error

    def check(self) -> Iterator[CheckedEntry]:
        """Hash every file; those that the manifest lists first, in its order. Writes nothing."""
        for one in self.statement.files.values():
            yield CheckedEntry(one.name, self._state(one, lambda block: None), one.sha256)
        for name in self._members.keys() - self.statement.files.keys() - {STATEMENT, SIGNATURE}:
            yield CheckedEntry(name, UNLISTED, None)

    def seal_problem(self) -> str | None:
        """What is wrong with the archive's own bytes, apart from its files; None if they are as written."""
        if self._zip.comment[: len(SEAL)] != SEAL or len(self._zip.comment) != SEAL_BYTES:
            return "it was packed again by another program, or its last bytes were changed"
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            left = self.path.stat().st_size - SEAL_BYTES
            while left > 0 and (block := file.read(min(left, _BLOCK))):
                digest.update(block)
                left -= len(block)
        same = digest.hexdigest().encode() == self._zip.comment[len(SEAL) :]
        return None if same else "a byte of the archive was changed since it was written"

    def _state(self, one: ArchivedFile, take: Callable[[bytes], object]) -> str:
        """Read a file to its end, and give its bytes to `take`."""
        info = self._members.get(one.name)
        if info is None:
            return MISSING
        if info.file_size != one.bytes:
            return CHANGED
        digest = hashlib.sha256()
        try:
            with self._zip.open(info) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    take(block)
        except _BROKEN:
            return CHANGED
        return INTACT if digest.hexdigest() == one.sha256 else CHANGED

    def unpack(self, folder: Path) -> None:
        """Unpack all files into an empty folder, which is a workspace then.

        Raises:
            Refused: a file is not as the manifest says, or there is not enough space. The caller removes the folder.
        """
        unlisted = self._members.keys() - self.statement.files.keys() - {STATEMENT, SIGNATURE}
        if unlisted:
            raise self._tampered(sorted(unlisted)[0], UNLISTED)
        for name in self.statement.files:
            if name not in self._members:  # only names of members were checked, so no other may become a path
                raise self._tampered(name, MISSING)
        total = sum(one.bytes for one in self.statement.files.values())
        if total > (free := shutil.disk_usage(folder).free):
            raise Refused(
                f"{self.title} unpacks to {total:,} bytes, and {folder.parent} has {free:,} free: "
                "set TMPDIR to a folder with more."
            )
        try:
            for one in self.statement.files.values():
                target = folder / named_path(one.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    state = self._state(one, file.write)
                if state != INTACT:
                    raise self._tampered(one.name, state)
        except OSError as error:
            raise Refused(f"{self.title} cannot be unpacked into {folder} ({error.strerror}).") from error

    def _tampered(self, name: str, state: str) -> Refused:
        words = {CHANGED: "was changed since the export", MISSING: "is missing", UNLISTED: "is not in the manifest"}
        return Refused(
            f"{self.title}: {clean_line(name)} {words[state]}, so nothing of it is shown: "
            "llmval verify names every change."
        )


def name_problem(name: str) -> str | None:
    """Why a name in an archive is refused; None if it is a plain path below the folder."""
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        return "is an absolute path"
    if "\\" in name or "\0" in name:
        return "is not a plain path"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "leads out of the archive"
    if "" in parts or "." in parts or len(name) > 4000 or any(len(os.fsencode(part)) > 255 for part in parts):
        return "is not a plain path"
    return None
