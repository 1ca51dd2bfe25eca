"""The thread that reads a log for the pane that shows it: the pane asks, the newest question is answered."""

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
    """What the pane wants to see. `kind` is `end`, `from` (lines from `offset` on), `before` (lines up to `offset`),
    or `find` (the line with the next `needle` at or behind `offset`, before it with `up`)."""

    kind: str
    count: int
    offset: int = 0
    needle: str = ""
    up: bool = False


class LogRead(Message):
    """An answer: the window, and how many lines came behind it since it was read."""

    def __init__(self, path: "Path | MergedLogs", ask: LogRequest, window: LogWindow, found: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.ask = ask
        self.window = window
        self.found = found  # of `find`: the offset of the line found


class LogGrew(Message):
    """The file is longer now, and the pane does not follow its end."""

    def __init__(self, path: "Path | MergedLogs", size: int, new_lines: int, generation: int) -> None:
        super().__init__()
        self.path = path
        self.size = size
        self.new_lines = new_lines
        self.generation = generation


def open_log(source: "Path | MergedLogs", limit: SizeLimit | None) -> LogWindowFile:
    """One log, or all of a run's in one."""
    if isinstance(source, Path):
        return LogWindowFile(source, limit)
    from llmval_tui.tui.data.log_merge import MergedLogFile

    return MergedLogFile(source, limit)


class LogReader(threading.Thread):
    """Polls one file at a time and answers the newest question about it."""

    def __init__(self, post: Callable[[Message], object], interval: float, limit: SizeLimit | None = None) -> None:
        super().__init__(name="log-reader", daemon=True)
        self._post = post
        self._interval = interval
        self._limit = limit
        self._changed = threading.Condition()
        self._path: Path | MergedLogs | None = None
        self._pending: LogRequest | None = None
        self._follow = 0  # lines to show at the end while following, 0 where the pane does not follow
        self._ended = False

    def show(self, path: "Path | MergedLogs | None") -> None:
        """Turn to another file, or to none."""
        with self._changed:
            self._path, self._pending = path, None
            self._changed.notify()

    def ask(self, ask: LogRequest) -> None:
        """Ask for lines; an earlier request without an answer is dropped, a search in progress is abandoned."""
        with self._changed:
            self._pending = ask
            self._follow = ask.count if ask.kind == "end" else 0
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def run(self) -> None:
        file: LogWindowFile | None = None
        source: Path | MergedLogs | None = None  # what `file` was opened for
        shown = (-1, -1)  # generation and size that the pane knows
        counted = 0  # lines that came while the pane did not follow
        while True:
            with self._changed:
                if self._pending is None and not self._ended and self._path == source:
                    self._changed.wait(self._interval)
                if self._ended:
                    break
                path, ask, follow = self._path, self._pending, self._follow
                self._pending = None
            if path is None:
                if file is not None:
                    file.close()
                file = source = None
                continue
            if file is None or source != path:
                if file is not None:
                    file.close()
                file, source, shown = open_log(path, self._limit), path, (-1, -1)
            before = (file.generation, file.size)
            file.poll()
            now = (file.generation, file.size)
            if ask is not None:
                counted = 0
                self._answer(file, path, ask)
                shown = now
            elif now != shown:
                if follow:
                    self._answer(file, path, LogRequest("end", follow))
                else:
                    start = before[1] if before[0] == now[0] else 0
                    counted += file.count_newlines(start, now[1])
                    self._post(LogGrew(path, now[1], counted, now[0]))
                shown = now
        if file is not None:
            file.close()

    def _answer(self, file: LogWindowFile, path: "Path | MergedLogs", ask: LogRequest) -> None:
        if ask.kind == "end":
            window = file.backward(file.size, ask.count)
        elif ask.kind == "before":
            window = file.backward(ask.offset, ask.count)
            if len(window.lines) < ask.count:  # the top of the file: fill the pane from there
                window = file.forward(0, ask.count)
        elif ask.kind == "find":
            found = file.find(ask.needle, ask.offset, up=ask.up, stop=self._interrupted)
            if found is None and self._interrupted():
                return  # given up for a newer question, whose answer is the one that counts
            if found is None:
                self._post(LogRead(path, ask, LogWindow((), 0, file.size, file.generation)))
                return
            line = file.line_start(found)
            above = file.backward(line, ask.count // 3)
            self._post(LogRead(path, ask, file.forward(above.start, ask.count), line))
            return
        else:
            window = file.forward(ask.offset, ask.count)
            if len(window.lines) < ask.count and window.end >= file.size:
                window = file.backward(file.size, ask.count)
        self._post(LogRead(path, ask, window))

    def _interrupted(self) -> bool:
        time.sleep(0)  # let the screen's thread in between two blocks
        return self._ended or self._pending is not None
