"""Where a runner's record and its printed text go: the flags, the file of the record, and standard output.

One run at a time holds a file. An earlier result there is moved aside when the new one is written, never overwritten.
"""

import fcntl
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmval_runners.process.errors import Refused
from llmval_runners.process.files import check_writable, write_json

STDOUT = Path("-")
FLAG = "--output-json"
_closed: set[str] = set()  # the standard streams that were closed at the start


@dataclass(frozen=True, slots=True)
class Report:
    """What is printed. `quiet`: only the verdict. `as_json`: the record, in place of the last screen."""

    quiet: bool = False
    as_json: bool = False


def add_report_flags(parser: ArgumentParser) -> None:
    """`--quiet`, for a runner whose result is a folder or files of its own."""
    parser.add_argument("--quiet", action="store_true", help="print only the verdict (and warnings)")


def add_output_flags(parser: ArgumentParser, beside: str = "") -> None:
    """`--output-json`, with `--json` as its other name, and `--quiet`. `beside`: what else is written there."""
    parser.add_argument(
        FLAG, "--json", dest="output_json", type=Path, metavar="FILE",
        help="file for the record; missing folders are created, an earlier record is moved aside; - prints the record "
        f"on standard output in place of the last screen{beside}",
    )  # fmt: skip
    add_report_flags(parser)


def take_output(found: Namespace) -> tuple[Path | None, Report]:
    """The file for the record, if any, and what is printed."""
    path: Path | None = found.output_json
    if path != STDOUT:
        return path, Report(found.quiet)
    check_stdout()
    return None, Report(found.quiet, True)


def check_stdout(flag: str = FLAG) -> None:
    """Raises Refused if standard output was closed at the start, so that a record on it would be lost."""
    if "stdout" in _closed:
        raise Refused(f"{flag} - prints the record on standard output, which is closed: pass a file.")


class OutputFile:
    """The file of a record, held by this process until `release`."""

    def __init__(self, path: Path, flag: str = FLAG) -> None:
        """Hold the file. Changes nothing that exists.

        Raises:
            Refused: it cannot be written, or another run holds it.
        """
        check_writable(path, flag)
        self.path = path
        self.moved: Path | None = None  # where an earlier record went
        self._written: set[Path] = set()  # by this run, so that it may replace them
        self._lock = path.with_name(f".{path.name}.lock")
        self._descriptor: int | None = self._acquire(flag)

    @property
    def partial(self) -> Path:
        """The path for the record of a run that ended early: `x.json` → `x.partial.json`."""
        return partial_path(self.path)

    def write(self, record: Any, *, indent: int | None = None) -> None:
        """Write the complete record, and remove the partial one that this run may have written. Raises OSError."""
        self._replace(self.path, record, indent)
        if self.partial in self._written:
            self.partial.unlink(missing_ok=True)

    def write_partial(self, record: Any, *, indent: int | None = None) -> None:
        """Write the record so far. Raises OSError."""
        self._replace(self.partial, record, indent)

    def discard_partial(self) -> None:
        """Remove the partial record that this run has written: another process has its content in the complete one."""
        if self.partial in self._written:
            self.partial.unlink(missing_ok=True)

    def release(self) -> None:
        if self._descriptor is not None:
            self._lock.unlink(missing_ok=True)  # before the lock is released
            os.close(self._descriptor)
            self._descriptor = None

    def _replace(self, path: Path, record: Any, indent: int | None) -> None:
        if path not in self._written:
            self.moved = move_aside(path) or self.moved
        write_json(path, record, indent=indent)
        self._written.add(path)

    def _acquire(self, flag: str) -> int:
        while True:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise Refused(
                    f"another run writes {self.path} now: pass another {flag}, or wait for its end."
                ) from None
            with suppress(FileNotFoundError):
                if self._lock.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            os.close(descriptor)  # its holder removed it just now


def where_of(written: Path | None, file: OutputFile | None) -> str:
    """The end of a last screen: where the record lies, and where an earlier one went."""
    if written is None:
        return f"none: pass {FLAG} to keep one" if file is None else "lost: it could not be written"
    moved = f" (an earlier one is now {file.moved.name})" if file is not None and file.moved is not None else ""
    return f"{written}{moved}"


def partial_path(path: Path) -> Path:
    """The path for the record of a run that ended early: `x.json` → `x.partial.json`."""
    return path.with_name(f"{path.stem}.partial.json")


def move_aside(path: Path) -> Path | None:
    """Give an earlier file a second name, `x.earlier-<time of its last change, UTC>.json`. None if there is none.

    The first name stays until the new file replaces it, so a kill in between loses nothing.
    """
    if not path.is_file():
        return None
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1000):
        again = f"-{number}" if number > 1 else ""
        target = path.with_name(f"{path.stem}.earlier-{stamp}{again}{path.suffix}")
        try:
            os.link(path, target)
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if target.exists():
                continue
            path.rename(target)
        return target
    raise FileExistsError(f"{path} has a thousand earlier versions of one second")


def guard_streams() -> None:
    """Open /dev/null where standard input, output or error is closed, or a file of ours would take its number.

    A character that the stream's encoding does not have is printed as `?`.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            _closed.add(name)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not what a test puts in its place
            stream.reconfigure(errors="replace")  # a terminal without “…” loses the sign, and not the run


def say(text: str, *, to_stderr: bool = False) -> None:
    """Print lines. A reader that has gone, or a full disk, ends no run: the text is lost, the record is not."""
    stream = sys.stderr if to_stderr else sys.stdout
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        drop(stream)


def show(report: Report, record: Any, verdict: Mapping[str, Any], screen: Callable[[], str]) -> bool:
    """Print the end of a run: the record, the verdict alone, or the screen.

    Returns False if the record was for standard output and could not be written there, so that it is lost.
    """
    if report.as_json:
        return say_json(record)
    word, reason = verdict["word"], verdict["reason"]
    say((f"{word}: {reason}" if reason else word) if report.quiet else screen())
    return True


def say_json(record: Any) -> bool:
    """Print a record as JSON. False if it could not be written: then the record is lost."""
    try:
        json.dump(record, sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        drop(sys.stdout)
        return False
    return True


def drop(stream: Any) -> None:
    """Send what is still to be written to this stream to /dev/null, so that the end of Python has no error either."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(null, stream.fileno())
    os.close(null)
    with suppress(OSError, ValueError):
        stream.flush()


def flush_streams() -> None:
    """Flush both streams before `os._exit`; a stream that nobody reads is dropped."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop(stream)
