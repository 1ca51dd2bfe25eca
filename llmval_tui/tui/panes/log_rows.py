"""How the lines of a log look: time, level, search, wrapping; and where the problems are in the time of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from llmval_tui.terminal.cell_width import cell_len, set_cell_size
from llmval_tui.terminal.format import hard_wrap, took
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.log_file import LogLine, LogWindow
from llmval_tui.tui.data.log_level import Level
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.drawing.viewport import with_scrollbar
from llmval_tui.tui.panes.document import cut_left

ROLES = {Level.NONE: "text", Level.DEBUG: "muted", Level.INFO: "text", Level.WARN: "warn", Level.ERROR: "bad"}
TIME, LEVEL = 9, 8  # columns of a time and of a level, with the blank behind them


@dataclass(frozen=True, slots=True)
class LineLook:
    """What the operator has chosen for the lines, and what there is room for."""

    glyphs: Glyphs
    timed: bool  # times have a column
    levelled: bool  # levels have a column
    since_s: float | None  # times count from this moment, the start of the run; None: they are those of the clock
    needle: str  # what is searched for
    left: int  # columns that are shifted out of sight
    wrapped: bool
    most_rows: int  # of a wrapped line
    found: int | None  # the offset of the line that the search has found

    def time(self, moment: float | None) -> str:
        """The time of a line."""
        if moment is None:
            return "n/a"
        if self.since_s is not None:
            return took(max(0.0, moment - self.since_s))
        return datetime.fromtimestamp(moment).strftime("%H:%M:%S")


def sign_of(level: Level, glyphs: Glyphs) -> str:
    """The sign of a level; a blank for those that need nobody."""
    return {Level.WARN: "!", Level.ERROR: "x" if glyphs.ascii else "✗"}.get(level, " ")


def line_rows(line: LogLine, width: int, look: LineLook) -> list[Row]:
    """The rows of a line: one, or if lines are wrapped as many as it needs, up to `look.most_rows`."""
    background = "idle" if line.offset == look.found else "screen"
    head: list[Span] = [(" ", "text")]
    role = ROLES[line.level]
    if look.timed:
        head.append((f"{'' if line.continues else look.time(line.time_s):>8} ", "muted"))
    if look.levelled:
        word = line.level.name if line.level >= Level.WARN else line.level.name.lower()
        named = "" if line.continues or line.level is Level.NONE else f"{sign_of(line.level, look.glyphs)} {word}"
        head.append((f"{named:<8}", role if line.level >= Level.WARN else "muted"))
    role = "muted" if line.continues else role
    again = ""
    if line.repeats > 1:
        until = f" until {look.time(line.last_s)}" if look.timed and line.last_s is not None else ""
        again = f"  ×{line.repeats:,}{until}"
    before = sum(cell_len(text) for text, _ in head)
    room = max(8, width + 1 - before - cell_len(again))
    text = cut_left(line.text, look.left) if look.left else line.text
    pieces = [text]
    if cell_len(text) > room and look.wrapped:
        pieces = hard_wrap(text, room)
        most = look.most_rows
        if len(pieces) > most:
            pieces = [*pieces[: most - 1], f"{len(pieces) - most + 1} more rows of this line"]
    elif cell_len(text) > room:
        pieces = [set_cell_size(text, max(1, room - 1)) + look.glyphs.ellipsis]
    bar: list[Span] = [(" " * (before - 2) + f"{look.glyphs.divider} ", "track")] if before > 2 else [(" ", "text")]
    rows = [row(*head, *marked(pieces[0], look.needle, role), (again, "key"), background=background)]
    return rows + [row(*bar, *marked(piece, look.needle, role), background=background) for piece in pieces[1:]]


def marked(text: str, needle: str, role: str) -> list[Span]:
    """The text with what was searched for."""
    spans: list[Span] = []
    done = 0
    for at in matches(text, needle):
        spans += [(text[done:at], role), (text[at : at + len(needle)], "key")]
        done = at + len(needle)
    return [*spans, (text[done:], role)]


def matches(text: str, needle: str) -> list[int]:
    """The positions of the needle in a line, in characters."""
    if not needle:
        return []
    folded = text if needle != needle.lower() else text.lower()
    if len(folded) != len(text):  # a capital became two letters, so positions would be wrong
        return []
    found, at = [], folded.find(needle)
    while at >= 0:
        found.append(at)
        at = folded.find(needle, at + len(needle))
    return found


def with_bar_of_bytes(
    drawn: list[Row], window: LogWindow, file_size: int, width: int, height: int, ascii_only: bool
) -> list[Row]:
    """The rows with a scroll bar that measures bytes, in thousandths of the file; without one if all is in sight."""
    if not window.lines or (window.start == 0 and window.end >= file_size):
        return drawn
    hidden = max(1, file_size - (window.end - window.start))
    top = min(1000, round(1000 * window.start / hidden))
    return [with_scrollbar(r, y, width, height, top, 1000 + height, ascii_only) for y, r in enumerate(drawn)]


def mark_row(
    marks: Sequence[tuple[float, Level]], began_s: float | None, ended_s: float, width: int, glyphs: Glyphs
) -> Row | None:
    """Where in the time of the run the lines with WARN and ERROR are; None without such a line, or without room."""
    if not marks or began_s is None:
        return None
    head, tail = " ERROR and WARN over the run ", f" {took(ended_s - began_s)} "
    cells = width - cell_len(head) - cell_len(tail) - 1
    if cells < 10 or ended_s <= began_s:
        return None
    found = [Level.NONE] * cells
    for moment, level in marks:
        at = min(cells - 1, max(0, int((moment - began_s) / (ended_s - began_s) * cells)))
        found[at] = max(found[at], level)
    spans: list[Span] = [(head, "muted")]
    for level in found:
        quiet = level is Level.NONE
        spans.append((glyphs.dot if quiet else sign_of(level, glyphs), "track" if quiet else ROLES[level]))
    return row(*spans, (tail, "muted"))
