"""All logs of a run in one view; each line begins with its rank.

Lines are in the order of the times noted beside their logs. Without notes, lines written while the view is open are in
order of arrival, and older ones are interleaved by their relative position in their log.
"""

import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.tail import LineTail
from llmval_tui.runs.log_times import LogTimes
from llmval_tui.runs.store import LogFile
from llmval_tui.tui.data.log_file import LogWindowFile, SizeLimit

BACKLOG = 2 << 20  # bytes that are read from the end of each existing log
LARGEST = 64 << 20  # bytes of the merged file; then it is emptied
MERGE_BYTES = BACKLOG + 1  # bytes of each log that are merged at once: the whole backlog, so that positions agree


@dataclass(frozen=True, slots=True)
class MergedLogs:
    """The logs to merge, each with the tag that its lines begin with."""

    sources: tuple[tuple[str, Path], ...]


def merge_logs(logs: Sequence[LogFile]) -> MergedLogs:
    """All logs of a run; a tag includes the command's label if there are several commands."""
    several = len({log.label for log in logs}) > 1
    tags = []
    for log in logs:
        parts = [log.label if several else "", "cmd" if log.rank is None else f"r{log.rank}"]
        parts.append("err" if log.stream == "stderr" else "")
        tags.append(" ".join(filter(None, parts)))
    width = max(map(len, tags), default=0)
    return MergedLogs(tuple((tag.ljust(width), log.path) for tag, log in zip(tags, logs, strict=True)))


class MergedLogFile(LogWindowFile):
    """The merged logs in a temporary file that no other process sees."""

    def __init__(self, logs: MergedLogs, limit: SizeLimit | None = None) -> None:
        self._spool = tempfile.NamedTemporaryFile(prefix="llmval-merged-", suffix=".log")  # noqa: SIM115  (see close)
        super().__init__(Path(self._spool.name), limit)
        self._tails = [(tag, LineTail(path, backlog_bytes=BACKLOG)) for tag, path in logs.sources]
        self._written = 0
        self._sources = [LogTimes(path) for _, path in logs.sources]
        self._starts: list[int] = []  # offsets in the merged file, with the times of the lines that begin there
        self._line_times: list[float | None] = []
        self._live = False  # what is read from now on is written now

    def time_at(self, offset: int) -> float | None:
        index = bisect_right(self._starts, offset) - 1
        return self._line_times[index] if index >= 0 else None

    def size_at(self, time_s: float) -> int | None:
        times = [moment for moment in self._line_times if moment is not None]
        if not times or len(times) < len(self._line_times):
            return None
        index = bisect_right(times, time_s)
        return self._starts[index] if index < len(self._starts) else self._written

    def poll(self) -> int:
        """Append the logs' new lines, then poll the merged file."""
        while lines := self._new_lines():
            data = b"".join(line for line, _ in lines)
            if self._written + len(data) > LARGEST:
                os.ftruncate(self._spool.fileno(), 0)
                os.lseek(self._spool.fileno(), 0, os.SEEK_SET)
                self._written = 0
                self._starts.clear()
                self._line_times.clear()
            for line, moment in lines:
                if not self._line_times or moment != self._line_times[-1]:
                    self._starts.append(self._written)
                    self._line_times.append(moment)
                self._written += len(line)
            self._spool.write(data)
            self._spool.flush()
        return super().poll()

    def close(self) -> None:
        super().close()
        self._spool.close()

    def _new_lines(self) -> list[tuple[bytes, float | None]]:
        """The new lines of all logs with their times: in the order of the times, else each log's spread evenly."""
        found: list[tuple[float | None, float, int, bytes]] = []
        now = time.time() if self._live else None
        for number, ((tag, tail), times) in enumerate(zip(self._tails, self._sources, strict=True)):
            try:
                lines = tail.poll(MERGE_BYTES)
            except OSError as error:
                lines = [f"this log cannot be read: {error.strerror}".encode()]
            times.poll()
            head = f"{tag} | ".encode()
            offset = tail.position - sum(len(line) + 1 for line in lines)
            for index, line in enumerate(lines):
                moment = times.at(offset)
                offset += len(line) + 1
                found.append(
                    (now if moment is None else moment, (index + 0.5) / len(lines), number, head + line + b"\n")
                )
        self._live = True
        if all(moment is not None for moment, *_ in found):
            found.sort(key=lambda entry: (entry[0] or 0.0, entry[1], entry[2]))
        else:
            found.sort(key=lambda entry: entry[1:3])
        return [(line, moment) for moment, _, _, line in found]
