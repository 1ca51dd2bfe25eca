"""All logs of a run in one view, each line with its rank before it.

LogFile lines carry no time of their own. What is written while one looks stands in the order in which it came; what was
there before is laid side by side by its share of each log's bytes, which is how ranks that work in step write.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.tail import LineTail
from llmval_tui.runs.store import LogFile
from llmval_tui.tui.data.log_file import LogWindowFile, SizeLimit

BACKLOG = 2 << 20  # bytes of each log from before one looked
LARGEST = 64 << 20  # bytes of the merge_logs view; then it begins anew with what comes
MERGE_BYTES = (
    BACKLOG + 1
)  # bytes of each log that are merge_logs in one go: at first the whole backlog, so that shares agree


@dataclass(frozen=True, slots=True)
class MergedLogs:
    """Which logs: a tag that stands before the lines, and the file."""

    sources: tuple[tuple[str, Path], ...]


def merge_logs(logs: Sequence[LogFile]) -> MergedLogs:
    """All of a run's logs; the tag has the command's label where there are several commands."""
    several = len({log.label for log in logs}) > 1
    tags = [
        " ".join(
            filter(
                None,
                [
                    log.label if several else "",
                    "cmd" if log.rank is None else f"r{log.rank}",
                    "err" if log.stream == "stderr" else "",
                ],
            )
        )
        for log in logs
    ]
    width = max(map(len, tags), default=0)
    return MergedLogs(tuple((tag.ljust(width), log.path) for tag, log in zip(tags, logs, strict=True)))


class MergedLogFile(LogWindowFile):
    """The merged view as a file like any other, in a temporary file that nobody else sees."""

    def __init__(self, what: MergedLogs, limit: SizeLimit | None = None) -> None:
        self._spool = tempfile.NamedTemporaryFile(prefix="llmval-merged-", suffix=".log")  # noqa: SIM115  (see close)
        super().__init__(Path(self._spool.name), limit)
        self._tails = [(tag, LineTail(path, backlog_bytes=BACKLOG)) for tag, path in what.sources]
        self._written = 0

    def poll(self) -> int:
        """Take in what the logs have more, then look at the merged file."""
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
        """The new lines of every log, those of each spread evenly among the others'."""
        found: list[tuple[float, int, bytes]] = []
        for number, (tag, tail) in enumerate(self._tails):
            try:
                lines = tail.poll(MERGE_BYTES)
            except OSError as error:
                lines = [f"this log cannot be read: {error.strerror}".encode()]
            head = f"{tag} | ".encode()
            found += [((place + 0.5) / len(lines), number, head + line + b"\n") for place, line in enumerate(lines)]
        found.sort(key=lambda entry: entry[:2])
        return [line for _, _, line in found]
