"""Where a log has lines with WARN or ERROR: found once, block by block, while the log is shown."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable

from llmval_tui.tui.data.log_file import LogWindowFile
from llmval_tui.tui.data.log_level import CANDIDATES, Level, level_of

BLOCK = 256 << 10  # small: a key must not wait for it
MOST = 200_000  # places that are kept; more are counted
_HEAD = 1 << 10  # bytes of a line that can name its level


class LogProblems:
    """The places and the numbers of the lines of each level from WARN on."""

    def __init__(self) -> None:
        self.scanned = 0  # offset up to which the log has been looked through
        self.counts = {Level.WARN: 0, Level.ERROR: 0}
        self._generation = 0
        self._offsets: dict[Level, list[int]] = {Level.WARN: [], Level.ERROR: []}  # WARN: of both

    def feed(self, file: LogWindowFile, *, budget: int = 16 * BLOCK, stop: Callable[[], bool] = lambda: False) -> bool:
        """Look through at most `budget` more bytes; whether the end has been reached."""
        if file.generation != self._generation or file.size < self.scanned:
            self.__init__()  # type: ignore[misc]  # another file, or a replay that was moved back
            self._generation = file.generation
        until = min(file.size, self.scanned + budget)
        while self.scanned < until and not stop():
            data = file.read_bytes(self.scanned, min(file.size, self.scanned + BLOCK))
            if not data:
                return True
            whole = data.rfind(b"\n") + 1
            if not whole:
                if len(data) < BLOCK:
                    return True  # the last line is not complete yet
                whole = len(data)  # a line without an end: its parts are looked at one by one
            self._take(data[:whole])
            self.scanned += whole
        return self.scanned >= file.size

    def _take(self, data: bytes) -> None:
        starts: set[int] = set()
        data = b"\n" + data  # so that the first line begins like all others
        for word in CANDIDATES:
            at = data.find(word)
            while at >= 0:
                starts.add(data.rfind(b"\n", 0, at + 1) + 1)
                end = data.find(b"\n", at + 1)
                at = data.find(word, end) if end >= 0 else -1
        for start in sorted(starts):
            end = data.find(b"\n", start)
            done = len(data) if end < 0 else end
            level = level_of(data[start : min(done, start + _HEAD)].decode("utf-8", "replace"))
            if level < Level.WARN:
                continue
            self.counts[level] += 1
            for kept in (Level.WARN, level) if level is Level.ERROR else (Level.WARN,):
                if len(self._offsets[kept]) < MOST:
                    self._offsets[kept].append(self.scanned + start - 1)

    def after(self, offset: int, level: Level = Level.WARN) -> int | None:
        """The first such line after this offset."""
        places = self._offsets[level]
        index = bisect_right(places, offset)
        return places[index] if index < len(places) else None

    def before(self, offset: int, level: Level = Level.WARN) -> int | None:
        """The last such line before this offset."""
        places = self._offsets[level]
        index = bisect_left(places, offset)
        return places[index - 1] if index else None

    def last(self, count: int, level: Level, end: int | None = None) -> list[int]:
        """The last such lines, before `end` if it is given."""
        places = self._offsets[level]
        stop = len(places) if end is None else bisect_left(places, end)
        return places[max(0, stop - count) : stop]

    def first(self, count: int, level: Level, start: int) -> list[int]:
        """The first such lines from `start` on."""
        places = self._offsets[level]
        index = bisect_left(places, start)
        return places[index : index + count]
