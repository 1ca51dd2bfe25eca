"""Reading a growing file of lines piece by piece, as it grows."""

import os
from pathlib import Path

_CHUNK = 1 << 20


class LineTail:
    """The new whole lines of a file since the last look.

    The file may not be there yet, may end in a torn line (kept back until it is whole), may be truncated or replaced
    (read again from its start). A line longer than `longest` bytes is dropped, so memory stays bounded.
    """

    def __init__(self, path: Path, longest: int = 4 << 20) -> None:
        self.path = path
        self._longest = longest
        self._position = 0
        self._inode: int | None = None
        self._torn = b""
        self._skipping = False

    def poll(self, most: int = 8 << 20) -> list[bytes]:
        """Lines without their newline; reads at most about `most` bytes, the rest comes with the next poll."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            status = os.fstat(descriptor)
            if status.st_ino != self._inode or status.st_size < self._position:
                self._inode, self._position, self._torn, self._skipping = status.st_ino, 0, b"", False
            lines: list[bytes] = []
            end = min(status.st_size, self._position + most)
            while self._position < end:
                chunk = os.pread(descriptor, min(_CHUNK, end - self._position), self._position)
                if not chunk:
                    break
                self._position += len(chunk)
                lines += self._split(chunk)
            return lines
        finally:
            os.close(descriptor)

    def _split(self, chunk: bytes) -> list[bytes]:
        *whole, rest = (self._torn + chunk).split(b"\n")
        if self._skipping and whole:
            whole, self._skipping = whole[1:], False
        if len(rest) > self._longest:
            rest, self._skipping = b"", True
        self._torn = rest
        return whole
