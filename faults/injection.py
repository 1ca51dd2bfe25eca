"""A fault at the n-th system call that changes a file, in a forked child of this process."""

import builtins
import errno
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The calls through which llmval changes files: each call is one point at which a fault can happen.
CHANGING = ("write", "fsync", "rename", "replace", "link", "unlink", "ftruncate", "mkdir")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the n-th changing call (from 0): "kill before", "kill after", "short", or a name of `ERRORS`.

    Errors go on until the end, as a full disk does.
    """

    kind: str
    point: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How the child ended."""

    code: int | None  # None: killed
    output: str
    calls: int  # changing calls that it made

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.output


class _Injector:
    def __init__(self, fault: Fault | None, counter: int) -> None:
        self.fault = fault
        self.counter = counter  # descriptor of a file that holds one byte for each call
        self.calls = 0
        self._plain_write = os.write

    def install(self) -> None:
        for name in CHANGING:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        plain_open = builtins.open

        def counted_open(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if isinstance(file, (str, bytes, os.PathLike)) and any(letter in mode for letter in "wax+"):
                self._enter("open", os.fspath(file))
            return plain_open(file, mode, *arguments, **options)

        builtins.open = io.open = counted_open

    def _wrapped(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "write" and arguments[0] in (1, 2):
                return plain(*arguments, **options)
            path = next((os.fspath(one) for one in arguments if isinstance(one, (str, os.PathLike))), None)
            hit = self._enter(name, path)
            if hit == "short" and name == "write":
                descriptor, data = arguments
                return plain(descriptor, bytes(data)[: max(1, len(data) // 2)])
            result = plain(*arguments, **options)
            if hit == "kill after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    def _enter(self, name: str, path: str | bytes | None = None) -> str | None:
        number, self.calls = self.calls, self.calls + 1
        self._plain_write(self.counter, b".")
        if self.fault is None or number < self.fault.point:
            return None
        kind = self.fault.kind
        if kind in ERRORS:
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), path)  # the kernel's errors name the path too
        if number > self.fault.point:
            return None
        if kind == "kill before":
            os.kill(os.getpid(), signal.SIGKILL)
        return kind


def run(work: Callable[[], int], fault: Fault | None = None) -> Ended:
    """Run `work` in a forked child, with a fault."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as counter:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            code = 70
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
                sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
                _Injector(fault, counter.fileno()).install()
                code = int(work())
            except BaseException:  # noqa: BLE001  (a traceback is a finding)
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return Ended(
            None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
            output.read().decode(errors="replace"),
            os.fstat(counter.fileno()).st_size,
        )


def files_below(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, by its path relative to `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
