"""The lines of a window with their levels and times, equal ones that follow each other as one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from llmval_tui.tui.data.log_file import LogLine, LogWindow, LogWindowFile
from llmval_tui.tui.data.log_level import LevelReader

CONTEXT = 40  # lines above a window that may be the beginning of its traceback
MORE = 8  # times as many lines are read if too many are folded
MOST = 1_000  # lines that are read for one window
LARGEST = 128 << 10  # bytes after which no more are read: lines may be long


class Folding(Protocol):
    """The part of a request that matters here."""

    @property
    def fold(self) -> bool: ...


def lines_before(file: LogWindowFile, end: int, count: int, request: Folding) -> LogWindow:
    """At most `count` lines before `end`, as the pane shows them."""
    wanted = count + request.fold  # one more, because the last one read may be a part of its group
    while True:
        window = file.backward(end, wanted)
        lines = decorated(file, window.lines, request.fold)
        if len(lines) >= count + request.fold or len(window.lines) < wanted or _is_enough(window, wanted):
            return replace(window, lines=tuple(lines[-count:]))
        wanted = min(MOST, wanted * MORE)


def lines_from(file: LogWindowFile, start: int, count: int, request: Folding) -> LogWindow:
    """At most `count` lines from `start` on, as the pane shows them."""
    wanted = count + request.fold
    while True:
        window = file.forward(start, wanted)
        lines = decorated(file, window.lines, request.fold)
        if len(lines) >= count + request.fold or len(window.lines) < wanted or _is_enough(window, wanted):
            end = lines[count].offset if len(lines) > count else window.end
            return replace(window, lines=tuple(lines[:count]), end=end)
        wanted = min(MOST, wanted * MORE)


def _is_enough(window: LogWindow, wanted: int) -> bool:
    return wanted >= MOST or window.end - window.start > LARGEST


def decorated(file: LogWindowFile, lines: Sequence[LogLine], fold: bool) -> list[LogLine]:
    """The lines with levels and times; with `fold`, equal lines that follow each other are one."""
    reader = LevelReader()
    if lines and lines[0].offset > 0 and (lines[0].text[:1].isspace() or "Error" in lines[0].text[:80]):
        for above in file.backward(lines[0].offset, CONTEXT).lines:
            reader.read(above.text)
    found: list[LogLine] = []
    for line in lines:
        level, continues = reader.read(line.text)
        moment = file.time_at(line.offset)
        last = found[-1] if found else None
        if fold and last is not None and last.text == line.text and line.text and last.continues == continues:
            found[-1] = replace(last, repeats=last.repeats + 1, last_s=moment)
        else:
            found.append(replace(line, level=level, continues=continues, time_s=moment))
    return found
