"""Changing one of the operator's Markdown files while other programs may save it."""

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.checklist.document import document_lock, lock_file, read_document
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.exchange import exchange, wait_for_writers
from llmval_tui.foundation.files import TEMPORARY_PREFIX, linked, stage, sync_folder

ATTEMPTS = 50
PATIENCE_S = 3.0  # how long another program may have the document open for writing
_STAGED = re.compile(r"\.(?P<name>.+)\.(?P<inode>[0-9a-f]+)-(?P<base>[0-9a-f]{12})\.llmval-new")


@dataclass(frozen=True, slots=True)
class _Opened:
    """The document as it was read, with a descriptor of that file."""

    descriptor: int
    data: bytes

    def is_still(self, target: Path) -> bool:
        """Whether the document is still this file with these bytes."""
        now, read = target.stat(), os.fstat(self.descriptor)
        return (now.st_dev, now.st_ino) == (read.st_dev, read.st_ino) and self.is_unchanged()

    def is_unchanged(self) -> bool:
        return _bytes_of(self.descriptor) == self.data


def edit_document(
    path: Path, change: Callable[[bytes], bytes], what: str = "a Markdown document", *, missing: bytes | None = None
) -> bytes:
    """Replace the document's bytes by `change(bytes)` atomically; returns the new bytes.

    An edit that another program saves meanwhile is never overwritten: `change` is called again with the newer bytes.
    The new file is swapped with the old one, and then the old one is compared with the bytes that were read. If they
    differ, it is swapped back. A program that writes in place may still have the old file open: its end is awaited.
    The file keeps its mode, and a symbolic link stays.

    Args:
        change: raises `Refused` if it cannot be made; may be called several times.
        missing: the bytes of a document that does not exist yet; None: it must exist.

    Raises:
        Refused: `change` refused, or the file is read-only, cannot be read or written, or stays open for writing in
            another program. Nothing was changed, unless the message says that the disk did not confirm the change.
    """
    with document_lock(path):
        target = linked(path)
        try:
            _tidy(target)
            for _ in range(ATTEMPTS):
                if missing is not None and not os.path.lexists(path):
                    done = _create(target, change(missing))
                else:
                    done = _try_once(path, target, change, what)
                if done is not None:
                    break
            else:
                raise Refused(f"{path} is saved again and again by another program; nothing in it was changed.")
        except OSError as error:
            raise Refused(f"{path} cannot be written ({error.strerror}); nothing in it was changed.") from error
        try:
            sync_folder(target.parent)
        except OSError as error:
            raise Refused(f"{path} was changed, but the disk did not confirm it ({error.strerror}).") from error
        return done


def check_writable(path: Path) -> None:
    """Check that the document may be changed.

    Raises:
        Refused: it is read-only, belongs to another user, or cannot be locked.
    """
    # A file without any write permission is refused for root too: its owner does not want it changed.
    if not path.stat().st_mode & 0o222:
        raise Refused(f"{path} is read-only; nothing in it was changed: chmod u+w it to let llmval write.")
    if not os.access(path, os.W_OK):
        raise Refused(f"{path} belongs to another user; nothing in it was changed: chmod g+w it for your group.")
    lock_file(path)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that a killed process left beside a document.

    Raises:
        Refused: they cannot be removed.
    """
    target = Path(os.path.realpath(path))
    try:
        if _leftovers(target):
            with document_lock(path):
                _tidy(target)
    except OSError as error:
        raise Refused(f"the temporary files beside {path} cannot be removed ({error.strerror}).") from error


def _create(target: Path, data: bytes) -> bytes | None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = _stage(target, data, b"")
    try:
        os.link(staged, target)
    except FileExistsError:  # made by another program in this moment
        return None
    finally:
        _discard(staged)
    return data


def _try_once(path: Path, target: Path, change: Callable[[bytes], bytes], what: str) -> bytes | None:
    """The new bytes; None if another program saved the document meanwhile."""
    read_document(path, what)  # refuses folders, devices and huge files
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not wait_for_writers(descriptor, PATIENCE_S):
            raise _open_elsewhere(path)
        opened = _Opened(descriptor, _bytes_of(descriptor))
        if len(opened.data) != os.fstat(descriptor).st_size:
            return None
        new = change(opened.data)
        if new == opened.data:
            return new
        check_writable(path)
        staged = _stage(target, new, opened.data)
        try:
            if not opened.is_still(target):
                return None
            return new if _place(staged, target, opened, new) else None
        finally:
            _discard(staged)
    finally:
        os.close(descriptor)


def _discard(staged: Path) -> None:
    with suppress(OSError):  # the document is right already, and `_tidy` removes the file later
        staged.unlink(missing_ok=True)


def _place(staged: Path, target: Path, opened: _Opened, new: bytes) -> bool:
    """Put the staged file in the document's place; False if an edit came between, and it is in place again."""
    if not exchange(staged, target):
        return _place_without_exchange(staged, target, opened)
    mine = target.stat().st_ino
    # A program that has the old file open for writing is not awaited: nobody should work on the new one meanwhile.
    if _reads(staged, opened.data, patience_s=0):
        return True
    exchange(staged, target)
    if staged.stat().st_ino != mine or not _reads(staged, new, PATIENCE_S):
        # Saved once more while the new file was in place: that edit is the newest. The one before it is kept beside.
        exchange(staged, target)
        staged.rename(_kept(target, mine))
    return False


def _reads(path: Path, data: bytes, patience_s: float) -> bool:
    """Whether the file has these bytes, and no program has it open for writing."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return wait_for_writers(descriptor, patience_s) and _bytes_of(descriptor) == data
    finally:
        os.close(descriptor)


def _kept(target: Path, number: int) -> Path:
    """The file for an edit that cannot be the document, because another one was saved after it."""
    return target.with_name(f"{target.name}.kept-{number:x}")


def _place_without_exchange(staged: Path, target: Path, opened: _Opened) -> bool:
    """As `_place`, by a rename: a program that renames its own file in the same moment wins or loses unseen."""
    staged.replace(target)
    if wait_for_writers(opened.descriptor, PATIENCE_S) and opened.is_unchanged():
        return True
    edited = _bytes_of(opened.descriptor)
    _stage(target, edited, edited).replace(target)
    return False


def _open_elsewhere(path: Path) -> Refused:
    return Refused(
        f"{path} is open for writing in another program; nothing in it was changed: close it there and try again."
    )


def _stage(target: Path, data: bytes, base: bytes) -> Path:
    # The name tells the next process whose bytes a leftover holds, see `_tidy`.
    digest = hashlib.sha256(base).hexdigest()[:12]
    like = target.stat() if target.exists() else None
    return stage(target.parent, data, lambda inode: f".{target.name}.{inode:x}-{digest}.llmval-new", like)


def _leftovers(target: Path) -> list[Path]:
    try:
        beside = list(target.parent.iterdir())
    except OSError:
        return []
    return [
        path
        for path in beside
        if path.name.startswith(TEMPORARY_PREFIX)
        or ((staged := _STAGED.fullmatch(path.name)) is not None and staged["name"] == target.name)
    ]


def _tidy(target: Path) -> None:
    """Remove what a killed process left; the document's lock is held, so no living process uses it."""
    for leftover in _leftovers(target):
        staged = _STAGED.fullmatch(leftover.name)
        inode = int(staged["inode"], 16) if staged else 0
        if staged is None or leftover.stat().st_ino == inode:
            leftover.unlink()  # it never was the document
        elif hashlib.sha256(leftover.read_bytes()).hexdigest().startswith(staged["base"]):
            leftover.unlink()  # the old bytes, which were replaced as intended
        elif target.exists() and target.stat().st_ino == inode:
            leftover.replace(target)  # an edit, and the process was killed before it could put it back
        else:
            leftover.rename(_kept(target, inode))  # an edit, and another one since


def _bytes_of(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
