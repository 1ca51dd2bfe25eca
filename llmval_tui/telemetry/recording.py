"""Reading `telemetry.jsonl`: following a growing file, and loading a finished one."""

import os
from pathlib import Path

from llmval_tui.foundation.tail import LineTail
from llmval_tui.telemetry.sample import Sample

_LONGEST_LINE = 1 << 20  # bytes; 64 GPUs with all their notes need far less
_BLOCK = 1 << 20


class SampleTail:
    """Follows a recording that may not exist yet, or may be truncated or replaced; see `LineTail`."""

    def __init__(self, path: Path, *, backlog_bytes: int | None = None) -> None:
        self._lines = LineTail(path, backlog_bytes=backlog_bytes, longest=_LONGEST_LINE)

    def poll(self, most: int = 4 << 20) -> list[Sample]:
        """The new samples since the last call, from at most `most` bytes; lines that are no samples are skipped.

        Raises:
            OSError: the file exists and cannot be read.
        """
        return [sample for line in self._lines.poll(most) if (sample := Sample.from_line(line)) is not None]


def load(path: Path, last_seconds: float | None = None) -> list[Sample]:
    """The samples of a recording in order; with `last_seconds` only the end of the file is read.

    A missing file is empty; partial lines are skipped.
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
            # Unless the file was read from its start, the first piece is the end of a line.
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
