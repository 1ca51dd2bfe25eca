"""Following a growing file of lines."""

import os
from pathlib import Path


class LineTail:
    """Returns the new complete lines of a file at every poll.

    The file may not exist yet, may end in a partial line (returned after it is complete), and may be truncated or
    replaced (then it is read from its start).

    Args:
        path: the file.
        backlog_bytes: at the first poll, only about this much of the file's end is read; None: all.
        longest: longer lines (bytes) are dropped, so that memory stays bounded.
    """

    def __init__(self, path: Path, *, backlog_bytes: int | None = None, longest: int = 4 << 20) -> None:
        self.path = path
        self._backlog = backlog_bytes
        self._longest = longest
        self._file: tuple[int, int] | None = None  # device and inode
        self._offset = 0
        self._partial = b""
        self._skipping = False  # drop everything up to the next newline

    @property
    def position(self) -> int:
        """The offset after the last complete line that was returned."""
        return self._offset - len(self._partial)

    def poll(self, most: int = 4 << 20) -> list[bytes]:
        """The lines without their newline. Reads at most `most` bytes; the next poll continues.

        Raises:
            OSError: the file exists and cannot be read.
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
        self._file, self._offset, self._partial, self._skipping = identity, 0, b"", False

    def _skip_backlog(self, size: int) -> None:
        if self._backlog is not None and size > self._backlog:
            # One byte earlier: if that byte is a newline, the next line is complete and not skipped.
            self._offset, self._skipping = size - self._backlog - 1, True
        self._backlog = None

    def _split(self, data: bytes) -> list[bytes]:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if self._skipping or len(self._partial) > self._longest:
            self._partial, self._skipping = b"", True
        return lines
