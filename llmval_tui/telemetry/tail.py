"""Reading `telemetry.jsonl`: following one that grows, and loading a finished one."""

import os
from pathlib import Path

from llmval_tui.telemetry.sample import Sample

_MOST_IN_A_POLL = 4 << 20
_LONGEST_LINE = 1 << 20  # 64 GPUs with all their notes stay far below; more without a newline is no sample
_BLOCK = 1 << 20


class SampleTail:
    """Follows a recording that may not be there yet, be cut off, or be replaced.

    Args:
        path: the recording.
        backlog_bytes: of a file that is longer at the first poll only about this much of its end is read; None: all.
    """

    def __init__(self, path: Path, *, backlog_bytes: int | None = None) -> None:
        self._path = path
        self._backlog = backlog_bytes
        self._file: tuple[int, int] | None = None  # device and inode
        self._offset = 0
        self._rest = b""
        self._skipping = False  # inside a line that is not wanted, until its newline

    def poll(self) -> list[Sample]:
        """The samples that have become whole since the last call, at most 4 MiB of them; empty where nothing is new.

        Lines that are no samples are passed over. A file that became shorter or another one is read from its start.

        Raises:
            OSError: the file is there but cannot be read.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            self._restart(None)
            return []
        try:
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            if identity != self._file or status.st_size < self._offset:
                self._restart(identity)
                self._skip_backlog(status.st_size)
            data = os.pread(descriptor, _MOST_IN_A_POLL, self._offset)
        finally:
            os.close(descriptor)
        self._offset += len(data)
        return self._samples_in(data)

    def _restart(self, identity: tuple[int, int] | None) -> None:
        self._file, self._offset, self._rest, self._skipping = identity, 0, b"", False

    def _skip_backlog(self, size: int) -> None:
        if self._backlog is not None and size > self._backlog:
            # One byte earlier: if that is a newline, the line after it is whole and is kept.
            self._offset, self._skipping = size - self._backlog - 1, True
        self._backlog = None

    def _samples_in(self, data: bytes) -> list[Sample]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if self._skipping or len(self._rest) > _LONGEST_LINE:
            self._rest, self._skipping = b"", True
        return [sample for line in lines if (sample := Sample.from_line(line)) is not None]


def load(path: Path, last_seconds: float | None = None) -> list[Sample]:
    """The samples of a recording in their order, or those of its last seconds without reading what is before.

    A missing file is empty; torn lines are left out.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return []
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = size if last_seconds is None else min(size, _BLOCK)
        while True:
            file.seek(size - length)
            lines = file.read(length).split(b"\n")
            # The first piece is the tail of a line unless the file was read from its start.
            samples = [found for line in lines[0 if length == size else 1 :] if (found := Sample.from_line(line))]
            if last_seconds is None:
                return samples
            if samples:
                earliest_ns = samples[-1].mono_ns - int(last_seconds * 1e9)
                if samples[0].mono_ns < earliest_ns or length == size:
                    return [sample for sample in samples if sample.mono_ns >= earliest_ns]
            elif length == size:
                return []
            length = min(size, length * 4)
