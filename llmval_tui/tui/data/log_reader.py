"""The thread that reads a log for the Log pane. The pane sends requests; only the newest one is answered."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from llmval_tui.tui.data.log_file import LogLine, LogWindow, LogWindowFile, SizeLimit
from llmval_tui.tui.data.log_level import Level
from llmval_tui.tui.data.log_lines import decorated, lines_before, lines_from
from llmval_tui.tui.data.log_problems import LogProblems

if TYPE_CHECKING:
    from llmval_tui.tui.data.log_merge import MergedLogs

MARKS = 500  # newest lines of each level whose times the pane shows


@dataclass(frozen=True, slots=True)
class LogRequest:
    """A request for at most `count` lines.

    `kind` is `end` (the last lines), `from` (lines from `offset` on), `before` (lines up to `offset`), or `find` (the
    line with the next `needle` at or after `offset`, or before it with `up`), or `problem` (the next line with WARN or
    ERROR after `offset`, or before it with `up`). Offsets are bytes.
    """

    kind: str
    count: int
    offset: int = 0
    needle: str = ""
    up: bool = False
    fold: bool = False  # equal lines that follow each other are one
    level: Level | None = None  # only lines of this level or more


class LogRead(Message):
    """The answer to a request."""

    def __init__(
        self, path: "Path | MergedLogs", request: LogRequest, window: LogWindow, found: int | None = None
    ) -> None:
        super().__init__()
        self.path = path
        self.request = request
        self.window = window
        self.found = found  # of `find`: the offset of the line


class LogLooked(Message):
    """How many lines with WARN and ERROR the log has, as far as it has been looked through."""

    def __init__(
        self,
        path: "Path | MergedLogs",
        warnings: int,
        errors: int,
        share: float,
        marks: tuple[tuple[float, Level], ...] = (),
    ) -> None:
        super().__init__()
        self.path = path
        self.warnings = warnings
        self.errors = errors
        self.share = share  # of the log that has been looked through, 0 to 1
        self.marks = marks  # the times of the last ones, as far as they are known


class LogGrew(Message):
    """The file has grown, and the pane does not follow its end."""

    def __init__(self, path: "Path | MergedLogs", size: int, new_lines: int, generation: int) -> None:
        super().__init__()
        self.path = path
        self.size = size
        self.new_lines = new_lines
        self.generation = generation


def open_log(source: "Path | MergedLogs", limit: SizeLimit | None) -> LogWindowFile:
    """One log, or all logs of a run merged into one."""
    if isinstance(source, Path):
        return LogWindowFile(source, limit)
    from llmval_tui.tui.data.log_merge import MergedLogFile

    return MergedLogFile(source, limit)


class LogReader(threading.Thread):
    """Polls one file at a time and answers the newest request."""

    def __init__(self, post: Callable[[Message], object], interval: float, limit: SizeLimit | None = None) -> None:
        super().__init__(name="log-reader", daemon=True)
        self._post = post
        self._interval = interval
        self._limit = limit
        self._changed = threading.Condition()
        self._path: Path | MergedLogs | None = None
        self._pending: LogRequest | None = None
        self._follow: LogRequest | None = None  # answered again when the file grows; None: the pane does not follow
        self._problems = LogProblems()
        self._looked_through = True  # the whole file, for WARN and ERROR
        self._ended = False

    def show(self, path: "Path | MergedLogs | None") -> None:
        """Change to another file, or to none."""
        with self._changed:
            self._path, self._pending = path, None
            self._changed.notify()

    def request(self, request: LogRequest) -> None:
        """Replace an unanswered request; a search in progress is given up."""
        with self._changed:
            self._pending = request
            self._follow = request if request.kind == "end" else None
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def run(self) -> None:
        file: LogWindowFile | None = None
        source: Path | MergedLogs | None = None  # the source of `file`
        known = (-1, -1)  # generation and size that the pane knows
        new_lines = 0  # lines since the pane stopped following
        looked: tuple[int, int, bool] | None = None  # what the pane knows of WARN and ERROR
        while True:
            with self._changed:
                if self._pending is None and not self._ended and self._path == source and self._looked_through:
                    self._changed.wait(self._interval)
                if self._ended:
                    break
                path, request, follow = self._path, self._pending, self._follow
                self._pending = None
            if path is None:
                if file is not None:
                    file.close()
                file = source = None
                continue
            if file is None or source != path:
                if file is not None:
                    file.close()
                file, source, known = open_log(path, self._limit), path, (-1, -1)
                self._problems, looked = LogProblems(), None
            before = (file.generation, file.size)
            file.poll()
            now = (file.generation, file.size)
            if request is not None:
                new_lines = 0
                self._answer(file, path, request)
                known = now
            elif now != known:
                if follow is not None:
                    self._answer(file, path, follow)
                else:
                    start = before[1] if before[0] == now[0] else 0
                    new_lines += file.count_newlines(start, now[1])
                    self._post(LogGrew(path, now[1], new_lines, now[0]))
                known = now
            self._looked_through = self._problems.feed(file, stop=self._interrupted)
            counts = self._problems.counts
            now_looked = counts[Level.WARN], counts[Level.ERROR], self._looked_through
            if now_looked != looked:
                looked = now_looked
                share = self._problems.scanned / file.size if file.size else 1.0
                marks = self._marks(file)
                self._post(LogLooked(path, *now_looked[:2], 1.0 if self._looked_through else share, marks))
        if file is not None:
            file.close()

    def _answer(self, file: LogWindowFile, path: "Path | MergedLogs", request: LogRequest) -> None:
        found = None
        if request.kind in ("find", "problem"):
            at = self._place(file, request)
            if at is None and self._interrupted():
                return  # a newer request is answered instead
            if at is None:
                self._post(LogRead(path, request, LogWindow((), 0, file.size, file.generation)))
                return
            found = file.line_start(at)
            above = lines_before(file, found, request.count // 3, request)
            window = lines_from(file, above.start, request.count, request)
        elif request.level is not None:
            window = self._of_level(file, request, request.level)
        elif request.kind == "end":
            window = lines_before(file, file.size, request.count, request)
        elif request.kind == "before":
            window = lines_before(file, request.offset, request.count, request)
            if len(window.lines) < request.count:  # the top of the file: fill the pane from there
                window = lines_from(file, 0, request.count, request)
        else:
            window = lines_from(file, request.offset, request.count, request)
            if len(window.lines) < request.count and window.end >= file.size:
                window = lines_before(file, file.size, request.count, request)
        self._post(LogRead(path, request, window, found))

    def _marks(self, file: LogWindowFile) -> tuple[tuple[float, Level], ...]:
        """When the last lines with WARN and ERROR were written; without notes there are none."""
        errors = set(self._problems.last(MARKS, Level.ERROR))
        places = sorted({*errors, *self._problems.last(MARKS, Level.WARN)})
        timed = [(file.time_at(at), Level.ERROR if at in errors else Level.WARN) for at in places]
        return tuple((moment, level) for moment, level in timed if moment is not None)

    def _place(self, file: LogWindowFile, request: LogRequest) -> int | None:
        """The place that a search finds."""
        if request.kind == "find":
            return file.find(request.needle, request.offset, up=request.up, stop=self._interrupted)
        level = request.level or Level.WARN
        while True:
            if request.up:
                done = self._problems.scanned >= min(request.offset, file.size)
                found = self._problems.before(request.offset, level) if done else None
            else:
                found, done = self._problems.after(request.offset, level), False
            if found is not None or done or self._interrupted():
                return found
            before = self._problems.scanned
            if self._problems.feed(file, stop=self._interrupted) or self._problems.scanned == before:
                places = self._problems
                return places.before(request.offset, level) if request.up else places.after(request.offset, level)

    def _of_level(self, file: LogWindowFile, request: LogRequest, level: Level) -> LogWindow:
        """The lines of a level, from the places that are known."""
        places = self._problems
        places.feed(file, stop=self._interrupted)
        if request.kind == "from":
            offsets = places.first(request.count, level, request.offset)
            if len(offsets) < request.count:
                offsets = places.last(request.count, level)
        else:
            offsets = places.last(request.count, level, request.offset if request.kind == "before" else None)
            if len(offsets) < request.count:
                offsets = places.first(request.count, level, 0)
        lines: list[LogLine] = []
        for offset in offsets:
            lines += file.forward(offset, 1).lines
        shown = decorated(file, lines, request.fold)
        end = places.after(offsets[-1], level) if offsets else None
        return LogWindow(tuple(shown), file.size if end is None else end, file.size, file.generation)

    def _interrupted(self) -> bool:
        time.sleep(0)  # let the UI thread run between two blocks
        return self._ended or self._pending is not None
