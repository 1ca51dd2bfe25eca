"""The thread that reads a log for the Log pane. The pane sends requests; only the newest one is answered."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from llmval_tui.tui.data.log_file import LogWindow, LogWindowFile, SizeLimit

if TYPE_CHECKING:
    from llmval_tui.tui.data.log_merge import MergedLogs


@dataclass(frozen=True, slots=True)
class LogRequest:
    """A request for at most `count` lines.

    `kind` is `end` (the last lines), `from` (lines from `offset` on), `before` (lines up to `offset`), or `find` (the
    line with the next `needle` at or after `offset`, or before it with `up`). Offsets are bytes.
    """

    kind: str
    count: int
    offset: int = 0
    needle: str = ""
    up: bool = False


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
        self._follow = 0  # number of lines at the end to show when the file grows; 0: the pane does not follow
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
            self._follow = request.count if request.kind == "end" else 0
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
        while True:
            with self._changed:
                if self._pending is None and not self._ended and self._path == source:
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
            before = (file.generation, file.size)
            file.poll()
            now = (file.generation, file.size)
            if request is not None:
                new_lines = 0
                self._answer(file, path, request)
                known = now
            elif now != known:
                if follow:
                    self._answer(file, path, LogRequest("end", follow))
                else:
                    start = before[1] if before[0] == now[0] else 0
                    new_lines += file.count_newlines(start, now[1])
                    self._post(LogGrew(path, now[1], new_lines, now[0]))
                known = now
        if file is not None:
            file.close()

    def _answer(self, file: LogWindowFile, path: "Path | MergedLogs", request: LogRequest) -> None:
        if request.kind == "end":
            window = file.backward(file.size, request.count)
        elif request.kind == "before":
            window = file.backward(request.offset, request.count)
            if len(window.lines) < request.count:  # the top of the file: fill the pane from there
                window = file.forward(0, request.count)
        elif request.kind == "find":
            found = file.find(request.needle, request.offset, up=request.up, stop=self._interrupted)
            if found is None and self._interrupted():
                return  # a newer request is answered instead
            if found is None:
                self._post(LogRead(path, request, LogWindow((), 0, file.size, file.generation)))
                return
            line = file.line_start(found)
            above = file.backward(line, request.count // 3)
            self._post(LogRead(path, request, file.forward(above.start, request.count), line))
            return
        else:
            window = file.forward(request.offset, request.count)
            if len(window.lines) < request.count and window.end >= file.size:
                window = file.backward(file.size, request.count)
        self._post(LogRead(path, request, window))

    def _interrupted(self) -> bool:
        time.sleep(0)  # let the UI thread run between two blocks
        return self._ended or self._pending is not None
