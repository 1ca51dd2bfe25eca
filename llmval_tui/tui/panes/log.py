"""The Log pane: a window into a file of any size that follows the end until the operator scrolls up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events

from llmval_tui.runs.store import LogFile
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import size
from llmval_tui.tui.data.log_file import LogWindow
from llmval_tui.tui.data.log_level import Level
from llmval_tui.tui.data.log_reader import LogGrew, LogLooked, LogRead, LogRequest
from llmval_tui.tui.data.run_follower import preferred_log
from llmval_tui.tui.data.run_history import seconds
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row, whole_spans
from llmval_tui.tui.panes.log_rows import LEVEL, TIME, LineLook, line_rows, mark_row, matches, with_bar_of_bytes
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.text_rows import log_name, paragraph

if TYPE_CHECKING:
    from llmval_tui.tui.data.log_merge import MergedLogs

SEARCHING = "searching"
CLOCKS = ("clock", "run", "none")
LEAST_FOR_TIMES, LEAST_FOR_LEVELS = 60, 50  # columns of the pane
LEAST_FOR_MARKS = 16  # rows of the pane


class LogPane(ScrollPane):
    """Shows one log of the shown run, or all of them merged. Positions are byte offsets; the reader's thread reads."""

    def __init__(
        self,
        state: ScreenState,
        request: Callable[[LogRequest], None],
        show: "Callable[[Path | MergedLogs | None], None]",
    ) -> None:
        super().__init__(id="log")
        self.state = state
        self._send = request
        self._search: LogRequest | None = None  # the search in progress
        self._show = show
        self.following = True
        self.window = LogWindow((), 0, 0, 0)
        self.new_lines = 0
        self.needle = ""
        self.message = ""
        self.left = 0
        self.wrapped = False
        self.folded = True  # equal lines that follow each other are one
        self.level: Level | None = None  # only lines of this level or more
        self.clock = "clock"  # one of `CLOCKS`
        self.looked: LogLooked | None = None  # how many lines have WARN and ERROR
        self.file: LogFile | None = None
        self.all_ranks = False
        self._source: Path | MergedLogs | None = None  # the source that the reader shows
        self._file_size = 0
        self._found: int | None = None
        self._chosen: tuple[str, int | None, str] | None = None  # the operator's choice, which stays from run to run
        self._asked: LogRequest | None = None  # the last request

    @property
    def _count(self) -> int:
        return max(1, self.size.height - 1)

    def _request(self, request: LogRequest) -> None:
        """Send a request to the reader; it drops earlier ones, also a search in progress."""
        request = replace(request, fold=self.folded, level=self.level)
        if request.kind in ("find", "problem"):
            self._search, self.message = request, SEARCHING
        elif self._search is not None:
            self._search, self.message = None, ""
        self._asked = request
        self._send(request)

    def refresh_logs(self) -> None:
        """Show a log of the current run: the chosen one, else the most useful one."""
        logs = self.state.run.logs if self.state.run else ()
        chosen = next((log for log in logs if (log.label, log.rank, log.stream) == self._chosen), None)
        if chosen is None:
            chosen = next((log for log in logs if self.file is not None and log.path == self.file.path), None)
        self._turn(chosen or preferred_log(logs))

    def toggle_merged(self) -> None:
        """Change between all logs of the run in one view and a single log."""
        self.all_ranks = not self.all_ranks
        self._turn(self.file)

    def other(self, step: int) -> None:
        """Change to the next log of the run."""
        logs = list(self.state.run.logs) if self.state.run else []
        if not logs:
            return
        index = next((i for i, log in enumerate(logs) if self.file and log.path == self.file.path), 0)
        if self.all_ranks:
            self.all_ranks, step = False, 0
        log = logs[(index + step) % len(logs)]
        self._chosen = (log.label, log.rank, log.stream)
        self._turn(log)

    def _turn(self, log: LogFile | None) -> None:
        source: Path | MergedLogs | None = log.path if log else None
        if self.all_ranks and self.state.run is not None and self.state.run.logs:
            from llmval_tui.tui.data.log_merge import merge_logs

            source = merge_logs(self.state.run.logs)
        self.file = log
        if source == self._source:
            return
        self._source = source
        self.window, self.new_lines, self._found, self._file_size = LogWindow((), 0, 0, 0), 0, None, 0
        self.following, self.message, self._search = True, "", None
        self.looked = None
        self._show(source)
        if log is not None:
            self._request(LogRequest("end", self._count))
        self.repaint()

    def show_read(self, read: LogRead) -> None:
        """Show an answer of the reader."""
        if self.file is None or read.path != self._source:
            return
        if read.request.kind in ("find", "problem"):
            if self._search is None:
                return  # another request was sent meanwhile
            self._search = None
            if read.found is None:
                where = "above" if read.request.up else "below"
                what = f"“{self.needle}” is not found" if read.request.kind == "find" else "no WARN or ERROR"
                self.message = f"{what} {where}"
                self.repaint()
                return
            self._found, self.following, self.message = read.found, False, ""
        if read.request.kind == "end":
            if not self.following:
                return
            self.new_lines = 0
        self.window = read.window
        self._file_size = read.window.size
        if read.request.kind == "find":
            self._scroll_sideways()
        if not self.following and read.request.kind == "from" and self.window.end >= self.window.size:
            self.action_follow()
        self.repaint()

    def show_growth(self, grown: LogGrew) -> None:
        """The file has grown after the shown lines, or has begun a new generation."""
        if self.file is None or grown.path != self._source:
            return
        self._file_size, self.new_lines = grown.size, grown.new_lines
        if grown.generation != self.window.generation:
            self.action_follow()
            self.message = "the file was truncated or replaced"
        self.repaint()

    def show_looked(self, looked: LogLooked) -> None:
        """The reader has counted the lines with WARN and ERROR."""
        if looked.path == self._source:
            before, self.looked = self.looked, looked
            grown = before is None or (looked.warnings, looked.errors) != (before.warnings, before.errors)
            if self.level is not None and self.following and grown:
                self._request(LogRequest("end", self._count))
            self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        if self.file is None:
            none = self.state.run is None
            text = "This step has no run yet, so no log." if none else "The run has written no log yet."
            return [row(), row((f" {text}", "muted"))]
        room = width - 2  # a blank at the left, the scroll bar at the right
        marks = self._mark_row(width) if height >= LEAST_FOR_MARKS else None
        below = height - 1 - (marks is not None)
        look = self._look(width)
        drawn: list[Row] = []
        for line in reversed(self.window.lines) if self.following else self.window.lines:
            rows = line_rows(line, room, look)
            drawn = [*rows, *drawn] if self.following else [*drawn, *rows]
            if len(drawn) >= below:
                break
        drawn = drawn[-below:] if self.following else drawn[:below]
        if not drawn and not self._file_size:
            drawn = paragraph("Nothing has been written to this log so far.", "muted", width)
        elif not drawn and self.level is not None:
            drawn = [row((f" no line has the level {self.level.name}", "muted"))]
        shown = with_bar_of_bytes(drawn, self.window, self._file_size, width, below, self.glyphs.ascii)
        shown += [Row()] * (below - len(shown))
        return [self._title(width), *shown, *([marks] if marks is not None else [])]

    def _lead(self, width: int) -> tuple[bool, bool]:
        """Whether times and levels have a column: only where they are known, and there is room."""
        timed = self.clock != "none" and any(line.time_s is not None for line in self.window.lines)
        return timed and width >= LEAST_FOR_TIMES, width >= LEAST_FOR_LEVELS

    def _look(self, width: int) -> LineLook:
        timed, levelled = self._lead(width)
        since = self._began_s if self.clock == "run" else None
        most = max(2, self.size.height // 2)
        chosen = (self.needle, self.left, self.wrapped, most, self._found)
        return LineLook(self.glyphs, timed, levelled, since, *chosen)

    @property
    def _began_s(self) -> float | None:
        run = self.state.run
        return seconds(run.status.started_utc) if run is not None else None

    def _mark_row(self, width: int) -> Row | None:
        run, looked = self.state.run, self.looked
        if run is None or looked is None:
            return None
        ended = seconds(run.status.ended_utc) or self.state.now()
        return mark_row(looked.marks, self._began_s, ended, width, self.glyphs)

    def _title(self, width: int) -> Row:
        """The title row. In a narrow pane the last parts, which matter least, are left out."""
        assert self.file is not None
        logs = self.state.run.logs if self.state.run else ()
        place = next((i for i, log in enumerate(logs, 1) if log.path == self.file.path), 1)
        name = "all ranks" if self.all_ranks else log_name(self.file)
        parts: list[Span] = [(f" {name}", "title")]
        detail = self.state.detail
        if detail is not None and detail.back:
            parts.append((f"  run {detail.runs - detail.back} of {detail.runs}", "key"))
        parts.append((f"  {len(logs)} logs" if self.all_ranks else f"  {place} of {len(logs)}", "muted"))
        if self.message:
            parts.append((f"  {self.message}", "warn"))
        looked = self.looked
        if looked is not None and looked.errors:
            parts.append((f"  {looked.errors:,} ERROR", "bad"))
        if looked is not None and looked.warnings:
            parts.append((f"  {looked.warnings:,} WARN", "warn"))
        if looked is not None and looked.share < 1:
            parts.append((f"  looked through {looked.share:.0%}", "muted"))
        if self.level is not None:
            parts.append((f"  only {self.level.name}{' and worse' if self.level is Level.WARN else ''}", "key"))
        if self.following and self.state.timeline is not None:
            noted = any(line.time_s is not None for line in self.window.lines)
            parts.append(("  replay" if noted else "  replay: by share of time", "key"))
        elif self.following:
            parts.append(("  following", "good"))
        else:
            parts.append((f"  paused, {self.new_lines:,} new lines below" if self.new_lines else "  paused", "key"))
        if self.needle:
            parts.append((f"  /{self.needle}", "muted"))
        keymap = self.themed_app.keymap
        for keys, text in (
            ("" if self.following else keymap.hint("end"), "follow"),
            ("" if self.all_ranks else keymap.hint("other_previous", "other_next"), "others"),
            (keymap.hint("merged"), "one log" if self.all_ranks else "all in one"),
            (keymap.hint("next_problem") if looked is not None and looked.warnings + looked.errors else "", "next"),
            (keymap.hint("wrap"), f"wrap {'on' if self.wrapped else 'off'}"),
            ("" if self._lead(width)[0] or not self.window.lines else keymap.hint("clock"), self._no_times()),
        ):
            if keys:
                parts.append((f"  {keys}: {text}", "muted"))
        parts.append((f"  {size(self._file_size)}", "muted"))
        return row(*whole_spans(parts, width), background="bar")

    def _no_times(self) -> str:
        """Why no line shows its time."""
        known = any(line.time_s is not None for line in self.window.lines)
        return "times off" if self.clock == "none" and known else "times n/a"

    def _scroll_sideways(self) -> None:
        """Shift the lines so that the match is visible; back to the left if it is visible there."""
        text = next((line.text for line in self.window.lines if line.offset == self._found), "")
        found = matches(text, self.needle)
        timed, levelled = self._lead(self.size.width)
        room = self.size.width - 3 - TIME * timed - LEVEL * levelled
        if found:
            start, end = (cell_len(text[:at]) for at in (found[0], found[0] + len(self.needle)))
            if end <= room:
                self.left = 0
            elif not self.left <= start <= end <= self.left + room:
                self.left = max(0, start - room // 3)

    def on_resize(self) -> None:
        super().on_resize()
        asked = self._asked
        if asked is None or (asked.kind, asked.count) != ("end", self._count):  # else the reader sends them anyway
            self._reload()

    def _reload(self) -> None:
        """Request the shown lines again, as many as fit now."""
        if self._search is not None:  # the prompt has just closed, so the pane has one more row
            self._request(replace(self._search, count=self._count))
        elif self.file is not None:
            kind, start = ("end", 0) if self.following else ("from", self.window.start)
            self._request(LogRequest(kind, self._count, start))

    def action_follow(self) -> None:
        """Follow the end of the file."""
        self.following, self.new_lines, self.message = True, 0, ""
        self._request(LogRequest("end", self._count))
        self.repaint()

    def action_move(self, rows: int) -> None:
        lines = self.window.lines
        if not lines or (rows > 0 and self.following):
            return
        self.message = ""  # it was about the old position
        if rows > 0:
            # Counted in shown lines; after the last one, the file continues.
            index = min(rows, len(lines) - 1)
            self._request(LogRequest("from", self._count, lines[index].offset))
            return
        self.following = False
        index = len(lines) + rows
        end = lines[index].offset if index > 0 else self.window.start
        if end == 0 or self.window.start == 0:
            self._request(LogRequest("from", self._count, 0))
        else:
            self._request(LogRequest("before", self._count, end))

    def action_end(self, direction: int) -> None:
        if direction > 0:
            self.action_follow()
        else:
            self.following = False
            self._request(LogRequest("from", self._count, 0))

    def find(self, direction: int) -> bool:
        """Search from the last match, or from the shown lines; False without a needle."""
        if not self.needle or self.file is None:
            return False
        self.following = False
        if direction > 0:
            # After the line of the last match, because the same line would be no progress.
            found = self._found
            later = [line.offset for line in self.window.lines if found is not None and line.offset > found]
            start = self.window.start if found is None else later[0] if later else found + 1
            self._request(LogRequest("find", self._count, start, self.needle))
        else:
            start = self.window.end if self._found is None else self._found
            self._request(LogRequest("find", self._count, start, self.needle, up=True))
        self.repaint()
        return True

    def next_problem(self, direction: int) -> None:
        """Go to the next line with WARN or ERROR, or to the one before."""
        if self.file is None:
            return
        if self._found is not None:
            start = self._found
        elif direction > 0:
            start = self.window.start - 1
        else:
            start = self.window.end
        self.following = False
        self._request(LogRequest("problem", self._count, start, up=direction < 0))
        self.repaint()

    def toggle_wrap(self) -> None:
        self.wrapped = not self.wrapped
        self.left = 0
        self.repaint()

    def next_clock(self) -> None:
        self.clock = CLOCKS[(CLOCKS.index(self.clock) + 1) % len(CLOCKS)]
        self.repaint()

    def fold_all(self) -> None:
        """Fold equal lines that follow each other, or show each."""
        self.folded = not self.folded
        self._reload()

    def next_state(self) -> None:
        """All lines; those with WARN and worse; those with ERROR."""
        levels: list[Level | None] = [None, Level.WARN, Level.ERROR]
        self.level = levels[(levels.index(self.level) + 1) % len(levels)]
        self._found = None
        if self.file is not None:
            self.action_follow()

    def forget_search(self) -> None:
        """End the search."""
        self.needle, self._found = "", None
        if self._search is not None:
            self._request(LogRequest("from", self._count, self.window.start))
        self.message = ""
        self.repaint()

    def shift(self, columns: int) -> None:
        self.left = max(0, self.left + columns)
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        event.stop()
