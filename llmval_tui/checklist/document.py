"""Reading and locking the operator's Markdown files; `edit.py` changes them."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import locked

MAX_BYTES = 2 * 2**20  # far above any checklist; bounds the cost of parsing


def read_document(path: Path, what: str = "a Markdown document") -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`.

    Raises:
        Refused: the file is missing, unreadable, a folder, a device or pipe (these could block), or too large.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Refused(f"{path} is a folder, not {what}: name the Markdown file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} is not a regular file: name {what}.")
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 2**20:.1f} MiB"
            raise Refused(f"{path} has {size}; {what} may have {MAX_BYTES // 2**20} MiB: split it, or check the name.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Refused(f"{path} does not exist: check the path, or name {what} that does.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused(f"{path} cannot be read ({reason}): check the path and its permissions.") from error


def decode(data: bytes, path: Path) -> str:
    """Decode UTF-8 and remove a byte order mark.

    Raises:
        Refused: invalid UTF-8 or a NUL byte; the message has the line and the byte.
    """
    if (nul := data.find(b"\0")) >= 0:
        raise Refused(f"{path}, line {line_of(data, nul)}: a NUL byte at offset {nul}; this is not a text file.")
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        raise Refused(
            f"{path}, line {line_of(data, at)}: byte 0x{data[at]:02x} at offset {at} is not valid UTF-8: "
            "save the file as UTF-8."
        ) from error


def line_of(data: bytes, offset: int) -> int:
    """The line number (from 1) of a byte offset; LF, CRLF and CR end a line."""
    before = data[:offset]
    return before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1


@contextmanager
def document_lock(path: Path) -> Iterator[None]:
    """Hold the writer lock of a document.

    Raises:
        Refused: the state folder cannot be written.
    """
    with locked(lock_file(path)):
        yield


def lock_file(path: Path) -> Path:
    """The lock file of a document, created if it is not there.

    It is in the user's state folder, named by a hash of the document's real path. Beside the document it
    would litter the operator's repository. In a workspace it would not lock a checklist that several workspaces share,
    and a detached process and the next login may have different XDG_RUNTIME_DIRs. The document itself cannot be locked,
    because every atomic replacement makes a new inode.

    Raises:
        Refused: the state folder cannot be written.
    """
    import hashlib  # it loads OpenSSL, which reading does not need

    state = os.environ.get("XDG_STATE_HOME", "")
    # The base directory specification: a relative path must be ignored.
    root = Path(state) if state.startswith("/") else Path(os.path.expanduser("~"), ".local", "state")  # noqa: PTH111
    folder = root / "llmval" / "locks"
    lock = folder / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise Refused(
            f"{folder} cannot be written ({error.strerror}), and llmval keeps its locks there: "
            "set XDG_STATE_HOME to a folder of yours."
        ) from error
    return lock
