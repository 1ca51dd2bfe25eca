"""Crash-safe files: atomic replacement, whole-line appends, locks that end with their holder, hashes."""

import errno
import fcntl
import itertools
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from llmval_tui.foundation.errors import Refused

TEMPORARY_PREFIX = ".llmval-new-"  # of files that are not complete yet, where they need a name


def write_atomic(path: Path, data: bytes, *, follow: bool = True) -> None:
    """Replace the content of `path` atomically.

    A new file in the same folder is synced, gets the old file's mode (and its owner and group, if allowed) and is
    renamed over it; then the folder is synced. A power cut leaves either the old bytes or the new ones. A symbolic link
    at `path` is followed if it is ours or root's: the linked file is replaced and the link stays. Without `follow` the
    file replaces the link.

    Raises:
        Refused: the folder or the file cannot be written, or the disk is full. The old bytes are unchanged, unless the
            message says that the disk did not confirm the change.
    """
    target = linked(path) if follow else path
    temporary: Path | None = None
    try:
        before = target.stat(follow_symlinks=follow) if os.path.lexists(target) else None
        if before is not None and stat.S_ISLNK(before.st_mode):
            before = None
        if before is not None and not stat.S_ISREG(before.st_mode):  # root could replace /dev/null
            raise OSError(errno.EINVAL, "it is not a file")
        if before is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        temporary = stage(target.parent, data, lambda inode: f".{target.name}.{inode:x}", before)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise Refused(f"{path} cannot be written ({error.strerror}); nothing in it was changed.") from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # the disk that failed may refuse this too, and the first error counts
                temporary.unlink(missing_ok=True)
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise Refused(f"{path} was written, but the disk did not confirm it ({error.strerror}).") from error


def linked(path: Path) -> Path:
    """The file that `path` stands for.

    Raises:
        Refused: a link on the way is another user's: in a shared folder it could lead to any file of ours.
    """
    link = path
    for _ in range(40):  # as many as Linux follows
        try:
            status = link.lstat()
        except OSError:
            break
        if not stat.S_ISLNK(status.st_mode):
            break
        if status.st_uid not in (os.geteuid(), 0):
            raise Refused(f"{link} is a link of another user, so it is not followed: put the file itself there.")
        link = link.parent / link.readlink()
    return path.resolve()


def stage(folder: Path, data: bytes, name: Callable[[int], str], like: os.stat_result | None = None) -> Path:
    """Write `data` into a new file of `folder` and sync it; returns its path.

    The file gets its name last, so that a killed process leaves nothing behind. File systems without nameless files
    (NFS) get a temporary name first.

    Args:
        name: makes the file's name from its inode number.
        like: the file that it will replace; its mode, and if allowed its owner and group, are copied. A new file gets
            0666 without the bits of the umask, so that a group can share a workspace.

    Raises:
        OSError: the file cannot be written; it is removed.
    """
    path: Path | None = None
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            raise
        path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if like is not None:
            _copy_owner(descriptor, like)
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
        os.fsync(descriptor)
        named = folder / name(os.fstat(descriptor).st_ino)
        if path is None:
            named.unlink(missing_ok=True)  # of an earlier file with the same inode, left by a killed process
            # With a descriptor of a folder Python follows the link in /proc; without one it would link the link.
            os.link(f"/proc/self/fd/{descriptor}", named, src_dir_fd=descriptor)
        else:
            path.rename(named)
        return named
    except BaseException:
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _copy_owner(descriptor: int, like: os.stat_result) -> None:
    mine = os.fstat(descriptor)
    if (like.st_uid, like.st_gid) == (mine.st_uid, mine.st_gid):
        return
    try:
        os.fchown(descriptor, like.st_uid, like.st_gid)
    except PermissionError:  # only root may give a file to another user; a member may give it to a group
        with suppress(PermissionError):
            os.fchown(descriptor, -1, like.st_gid)


def sync_folder(folder: Path) -> None:
    """Sync the folder's entries; file systems that cannot sync a folder are ignored."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_owners_json(path: Path, value: object) -> None:
    """Write a new file that only its owner may read, whatever the umask.

    Raises:
        OSError: it exists, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(to_json(value))
        file.flush()
        os.fsync(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Replace `path`, or a link there, atomically by `value` as indented JSON; see `to_json`."""
    write_atomic(path, to_json(value, indent=True), follow=False)


def to_json(value: Any, *, indent: bool = False) -> bytes:
    """`value` as JSON with a final newline; it may hold dataclasses and paths, and NaN becomes null.

    Bytes of a file name or of a log that are not UTF-8 become escapes such as `\\udce9`: no text can stop a record.
    """
    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=_plain, option=options)
    except orjson.JSONEncodeError:
        return orjson.dumps(_encodable(value), default=_plain, option=options)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Path):
        return _encodable(str(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encodable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def read_json(path: Path) -> Any | None:
    """The JSON in `path`; None if the file is missing or incomplete.

    Raises:
        Refused: there is something that cannot be read: a folder, a loop of links, a broken disk.
    """
    try:
        return orjson.loads(read_bytes(path))
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that other processes replace."""
    try:
        return _read(path)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return _read(path)  # another NFS client replaced the file between open and read


def _read(path: Path) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a start reads thousands of records)
        return file.read()


def append_line(path: Path, value: Any) -> None:
    """Append `value` as one JSON line, completely or not at all, and sync it; lines of several writers never mix.

    A partial line that a crash left at the end is ended first, so that it does not spoil the new line.

    Raises:
        Refused: the file cannot be written or the disk is full; the file is unchanged.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            _flock(descriptor, path, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            line = to_json(value)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            try:
                while line:  # a full disk accepts a part and refuses the rest
                    line = line[os.write(descriptor, line) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refused(f"{path} cannot be written ({error.strerror}); nothing in it was changed.") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in a file of lines; partial lines are skipped, a missing file is empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for line in data.split(b"\n"):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def open_output(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file for writing, only if it is a regular file or none: a pipe would block, a link may lead anywhere.

    Raises:
        OSError: it is something else, or it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags | (os.O_APPEND if append else 0), 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if not append:
            os.ftruncate(descriptor, 0)
        return os.fdopen(descriptor, "ab" if append else "wb")
    except BaseException:
        os.close(descriptor)
        raise


def sha256_of(path: Path, stop: Callable[[], object] = lambda: None) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        InterruptedError: `stop`, called after every 64 MiB, returned something true.
    """
    import hashlib  # it loads OpenSSL, which the start of the dashboard does not need

    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(1 << 20))
        for count in itertools.count(1):
            size = file.readinto(buffer)
            if not size:
                return digest.hexdigest()
            digest.update(buffer[:size])
            if count % 64 == 0 and stop():
                raise InterruptedError(f"{path} was not hashed to its end")
    raise AssertionError


def try_lock(path: Path) -> int | None:
    """Take an exclusive flock on `path` (created if absent) without waiting.

    Returns the open descriptor, which holds the lock until it and every inherited copy are closed; None if another
    process holds the lock.

    Raises:
        Refused: the file cannot be created, or its file system has no locks.
    """
    descriptor = _open_lock(path)
    locked = False
    try:
        locked = _flock(descriptor, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        if not locked:
            os.close(descriptor)
    return descriptor if locked else None


def _open_lock(path: Path) -> int:
    """Open a lock file. Another user's file may be read-only for us; a local file system locks it all the same."""
    try:
        with suppress(FileNotFoundError, PermissionError):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Refused(f"{path} cannot be locked ({error.strerror}): check that you may write there.") from error


def _flock(descriptor: int, path: Path, operation: int) -> bool:
    """Take the lock; returns False if another process holds it and `operation` does not wait."""
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:  # ENOLCK, ENOTSUP: some network and cluster file systems
        raise Refused(
            f"{path} cannot be locked ({error.strerror}): put the workspace on a file system with locks."
        ) from error
    return True


def take_lock(path: Path, patience_s: float = 1.0) -> int | None:
    """`try_lock`, repeated for up to `patience_s`, because `is_locked` holds the lock for a moment."""
    deadline = time.monotonic() + patience_s
    while (descriptor := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether a process holds the flock on `path`. Takes a shared lock for a moment; never creates the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _flock(descriptor, path, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive flock on `path` (created if absent); waits as long as necessary."""
    descriptor = _open_lock(path)
    try:
        _flock(descriptor, path, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
