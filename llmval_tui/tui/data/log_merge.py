"""All logs of a run in one view; each line begins with its rank.

Log lines have no time. Lines written while the view is open are in order of arrival. Older lines are interleaved by
their relative position in their log, which suits ranks that write in step.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.tail import LineTail
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

    def poll(self) -> int:
        """Append the logs' new lines, then poll the merged file."""
        while lines := self._new_lines():
            data = b"".join(lines)
            if self._written + len(data) > LARGEST:
                os.ftruncate(self._spool.fileno(), 0)
                os.lseek(self._spool.fileno(), 0, os.SEEK_SET)
                self._written = 0
            self._spool.write(data)
            self._spool.flush()
            self._written += len(data)
        return super().poll()

    def close(self) -> None:
        super().close()
        self._spool.close()

    def _new_lines(self) -> list[bytes]:
        """The new lines of all logs, those of each log spread evenly over the result."""
        found: list[tuple[float, int, bytes]] = []
        for number, (tag, tail) in enumerate(self._tails):
            try:
                lines = tail.poll(MERGE_BYTES)
            except OSError as error:
                lines = [f"this log cannot be read: {error.strerror}".encode()]
            head = f"{tag} | ".encode()
            found += [((index + 0.5) / len(lines), number, head + line + b"\n") for index, line in enumerate(lines)]
        found.sort(key=lambda entry: entry[:2])
        return [line for _, _, line in found]
