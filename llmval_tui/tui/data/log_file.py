"""A log of any size, read in windows around a byte position.

Only the shown lines are read, so a file of a gigabyte opens at once and takes no memory. A position is the byte offset
of a line's first byte, because line numbers would require reading the whole file. The file may grow, be truncated or be
replaced at any moment.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.log_times import LogTimes
from llmval_tui.tui.data.log_level import Level

LONGEST_LINE = 16 << 10  # bytes; a longer line is continued in a line of its own
_BLOCK = 64 << 10
_SEARCH_BLOCK = 256 << 10  # fits into the processor's cache while it is searched: twice as fast as 1 MiB
_ONE_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line: its offset and its cleaned text."""

    offset: int
    text: str
    level: Level = Level.NONE
    continues: bool = False  # a further line of a traceback
    time_s: float | None = None  # when it was there; None: not recorded
    repeats: int = 1  # how many equal lines stand here as one
    last_s: float | None = None  # of several: the time of the last one


@dataclass(frozen=True, slots=True)
class LogWindow:
    """Consecutive lines and their position in the file."""

    lines: tuple[LogLine, ...]
    end: int  # offset after the last line
    size: int  # of the file when it was read
    generation: int  # changes if the file is truncated or replaced

    @property
    def start(self) -> int:
        return self.lines[0].offset if self.lines else self.end


# From an open file and its real size to the number of bytes that may be shown.
SizeLimit = Callable[["LogWindowFile", int], int]


class LogWindowFile:
    """One log file. A missing file counts as empty; `poll` opens a replaced file again."""

    def __init__(self, path: Path, limit: SizeLimit | None = None) -> None:
        self.path = path
        self._limit = limit
        self._real = 0  # size of the file; with a limit, `size` may be smaller
        self.generation = 0
        self.size = 0
        self._inode: int | None = None
        self._descriptor: int | None = None
        self._times = LogTimes(path)

    def time_at(self, offset: int) -> float | None:
        """When the byte at this offset was written, in seconds since the epoch; None if nobody noted it."""
        return self._times.at(offset)

    def size_at(self, time_s: float) -> int | None:
        """The size of the log at that time (seconds since the epoch), in bytes; None if nobody noted it."""
        return self._times.size_at(time_s)

    def close(self) -> None:
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def poll(self) -> int:
        """Update and return the size in bytes. A file that shrank or was replaced begins a new generation."""
        try:
            status = self.path.stat()
        except OSError:
            self._close_descriptor()
            self._inode, self.size, self._real = None, 0, 0
            return 0
        if status.st_ino != self._inode or status.st_size < self._real:
            self._close_descriptor()
            if self._inode is not None:
                self.generation += 1
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._inode, self.size, self._real = None, 0, 0
                return 0
            self._inode = status.st_ino
        if status.st_size != self._real:
            self._times.poll()
        self.size = self._real = status.st_size
        if self._limit is not None and (shown := self._limit(self, self._real)) < self._real:
            self.size = self.line_start(shown)  # no line is shown in part
        return self.size

    def forward(self, offset: int, count: int) -> LogWindow:
        """At most `count` lines from the line that begins at `offset`."""
        offset = max(0, min(offset, self.size))
        data = self._read(offset, min(self.size, offset + count * 256))
        while data.count(b"\n") < count and offset + len(data) < self.size and len(data) < count * LONGEST_LINE:
            more = self._read(offset + len(data), offset + len(data) + _BLOCK)
            if not more:
                break
            data += more
        return self._window(offset, data, count)

    def backward(self, end: int, count: int) -> LogWindow:
        """At most `count` lines before `end`, which is the offset of a line or the file's size."""
        end = max(0, min(end, self.size))
        start = end
        data = b""
        # One more newline than lines: it ends the line before the first.
        while start > 0 and data.count(b"\n", 0, max(0, len(data) - 1)) < count and len(data) < count * LONGEST_LINE:
            step = max(0, start - _BLOCK)
            data = self._read(step, start) + data
            start = step
        if start > 0 and data.count(b"\n", 0, max(0, len(data) - 1)) >= count:
            cut = data.find(b"\n") + 1
            start, data = start + cut, data[cut:]
        # Else a line is longer than all that was read: its end is shown, in pieces.
        # Decode only the requested lines: a block holds a thousand, and a pane shows fifty.
        cut = len(data)
        for _ in range(count + 1):
            cut = data.rfind(b"\n", 0, cut)
            if cut < 0:
                break
        start, data = start + cut + 1, data[cut + 1 :]
        found = self._window(start, data, 1 << 30)
        return LogWindow(found.lines[-count:], end, self.size, self.generation)

    def line_start(self, offset: int) -> int:
        """The offset of the line that contains this offset."""
        offset = max(0, min(offset, self.size))
        window = self._read(max(0, offset - LONGEST_LINE), offset)
        found = window.rfind(b"\n")
        return offset - len(window) + found + 1

    def count_newlines(self, start: int, end: int) -> int:
        """The number of lines that end between two offsets."""
        found = 0
        while start < end and (data := self._read(start, min(end, start + _SEARCH_BLOCK))):
            found += data.count(b"\n")
            start += len(data)
        return found

    def find(
        self, needle: str, offset: int, *, up: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> int | None:
        """The offset of the needle's next occurrence at or after `offset`, or before it with `up`; None if not found.

        A needle without capitals also matches capitals (ASCII letters), as in less -i. The search stops between two
        blocks as soon as `stop` returns True.
        """
        wanted = needle.encode("utf-8", "surrogateescape")
        if not wanted:
            return None
        fold = wanted == wanted.lower()
        overlap = len(wanted) - 1
        position = min(offset, self.size)
        while (position > 0 if up else position < self.size) and not stop():
            start = max(0, position - _SEARCH_BLOCK) if up else position
            end = position + overlap if up else min(self.size, position + _SEARCH_BLOCK + overlap)
            data = self._read(start, end)
            if not data:
                return None
            if fold:
                data = data.lower()
            found = data.rfind(wanted) if up else data.find(wanted)
            if found >= 0:
                return start + found
            position = start if up else start + _SEARCH_BLOCK
        return None

    def read_bytes(self, start: int, end: int) -> bytes:
        """The bytes between two offsets, as far as they are there."""
        return self._read(start, min(end, self.size))

    def _read(self, start: int, end: int) -> bytes:
        if self._descriptor is None or end <= start:
            return b""
        parts = []
        while start < end:
            part = os.pread(self._descriptor, min(end - start, _ONE_READ), start)
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _window(self, offset: int, data: bytes, count: int) -> LogWindow:
        lines: list[LogLine] = []
        position = 0
        while position < len(data) and len(lines) < count:
            newline = data.find(b"\n", position, position + LONGEST_LINE)
            end = newline + 1 if newline >= 0 else min(len(data), position + LONGEST_LINE)
            text = data[position:end].decode("utf-8", "replace")
            lines.append(LogLine(offset + position, clean_line(text)))
            position = end
        return LogWindow(tuple(lines), offset + position, self.size, self.generation)
