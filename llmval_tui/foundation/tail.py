"""Reading a growing file of lines piece by piece, as it grows."""

import os
from pathlib import Path


class LineTail:
    """The new whole lines of a file since the last look.

    The file may not be there yet, may end in a torn line (kept back until it is whole), may be truncated or replaced
    (read again from its start).

    Args:
        path: the file.
        backlog_bytes: of a file that is longer at the first poll only about this much of its end is read; None: all.
        longest: a line of more bytes is dropped, so that memory stays bounded.
    """

    def __init__(self, path: Path, *, backlog_bytes: int | None = None, longest: int = 4 << 20) -> None:
        self.path = path
        self._backlog = backlog_bytes
        self._longest = longest
        self._file: tuple[int, int] | None = None  # device and inode
        self._offset = 0
        self._torn = b""
        self._skipping = False  # inside a line that is not wanted, until its newline

    def poll(self, most: int = 4 << 20) -> list[bytes]:
        """Lines without their newline; reads at most `most` bytes, the rest comes with the next poll.

        Raises:
            OSError: the file is there but cannot be read.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            self._restart(None)
            return []
        try:
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            if identity != self._file or status.st_size < self._offset:
                self._restart(identity)
                self._skip_backlog(status.st_size)
            data = os.pread(descriptor, most, self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(data)
        return self._split(data)

    def _restart(self, identity: tuple[int, int] | None) -> None:
        self._file, self._offset, self._torn, self._skipping = identity, 0, b"", False

    def _skip_backlog(self, size: int) -> None:
        if self._backlog is not None and size > self._backlog:
            # One byte earlier: if that is a newline, the line after it is whole and is kept.
            self._offset, self._skipping = size - self._backlog - 1, True
        self._backlog = None

    def _split(self, data: bytes) -> list[bytes]:
        *lines, self._torn = (self._torn + data).split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if self._skipping or len(self._torn) > self._longest:
            self._torn, self._skipping = b"", True
        return lines
