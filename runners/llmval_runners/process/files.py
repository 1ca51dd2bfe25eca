"""Files that are replaced whole or not at all, so that a kill never leaves half a file."""

import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from llmval_runners.process.errors import Refused


def replace_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of `path` by `data`. A new file follows the umask; missing folders are created.

    A symbolic link stays, and the file behind it is replaced. `durable`: flush to the disk first, so that the file also
    survives a power cut.

    Raises:
        OSError: it cannot be written, or is not a file: root could replace /dev/null.
    """
    path = path.resolve()
    if kind := special_kind(path):
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), _mode(path))
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def special_kind(path: Path) -> str | None:
    """What is at `path` if it cannot be replaced as a file can: "a device", "a pipe" or "a socket".

    Raises:
        OSError: nobody can tell, such as for a name that is too long.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else None


def _mode(path: Path) -> int:
    """The mode of the file that is replaced; of a new file 0666 without the bits of the umask."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        pass
    try:  # os.umask would have to change it, for all threads, to read it
        status = Path("/proc/self/status").read_text()
        return 0o666 & ~int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)
    except (OSError, StopIteration, ValueError):
        return 0o600


def write_json(path: Path, value: Any, *, indent: int | None = None, durable: bool = True) -> None:
    """Replace `path` by `value` as JSON, as `replace_bytes` does; on one line unless `indent` is given.

    Raises ValueError for NaN and infinity, which are not JSON.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    replace_bytes(path, text.encode() + b"\n", durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read the JSON object in `path`. Returns None if the file is missing, unfinished, or not an object."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def check_writable(path: Path, flag: str) -> None:
    """Make the folder of a result and try to write there. Permissions alone are no proof (root, read-only mounts).

    Raises:
        Refused: it is a folder or a device, or cannot be written; the message names `flag`.
    """
    try:
        if path.is_dir():
            raise Refused(f"{path} is a folder: pass a file for {flag}.")
        if kind := special_kind(path):
            raise Refused(f"{path} is {kind}: pass a file for {flag}, or - for standard output where it is known.")
        os.lstat(path.with_name(f".{path.name}.lock"))  # whether its name is too long
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Refused(f"{flag} {path} cannot be written ({error.strerror}): pass another path.") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise Refused(
            f"{flag} {path} cannot be written ({error.strerror}): pass a path in a folder that you may write."
        ) from None


def make_folder(folder: Path, flag: str = "--output-dir", *, only_check: bool = False) -> None:
    """Make the folder of a run's files and try to write there. `only_check`: make nothing yet.

    Raises:
        Refused: it is not a folder, or cannot be made or written; the message names `flag`.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise Refused(f"{folder} is a file: pass a folder for {flag}.")
        if not only_check:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Refused(
            f"{flag} {folder} cannot be written ({error.strerror}): pass a folder that you may write to."
        ) from None
