"""The widgets of one row: header, title of the list, tabs, keys at the bottom."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

from textual import events
from textual.message import Message

from llmval_tui.actions.step_state import StepState
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import age, duration, fit
from llmval_tui.tui.data.messages import Notice
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.possible import label_of, obstacle
from llmval_tui.tui.drawing.rows import Row, Span
from llmval_tui.tui.drawing.step_rows import title_row
from llmval_tui.tui.keys import PANE_TITLES, PANES, SHORT_TITLES, Key
from llmval_tui.tui.widgets.row_widget import RowWidget

DRIVER = Path("/proc/driver/nvidia/version")


class Bar(RowWidget):
    """One row; a click on a part with a name posts that name."""

    class Pressed(Message):
        """A named part of a bar was clicked."""

        def __init__(self, bar: "Bar", name: str) -> None:
            super().__init__()
            self.bar = bar
            self.name = name

    def __init__(self, state: ScreenState, *, id: str) -> None:
        super().__init__(id=id)
        self.state = state
        self._parts: list[tuple[int, int, str]] = []

    def clickable_row(self, parts: Sequence[tuple[str, str, str | None]], background: str = "bar") -> Row:
        """A row of parts `(text, role, name)`; parts with a name can be clicked."""
        self._parts = []
        column = 0
        for text, _role, name in parts:
            length = cell_len(text)
            if name is not None:
                self._parts.append((column, column + length, name))
            column += length
        return Row(tuple((text, role) for text, role, _ in parts), background)

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._parts:
            if start <= event.x < end:
                self.post_message(self.Pressed(self, name))
                return


class Header(Bar):
    """Host, driver, GPUs, running work, age of the newest sample, time."""

    def rows(self, width: int, height: int) -> Sequence[Row]:
        right = self._right()
        if sum(cell_len(text) for text, _ in right) > width:  # what is usual goes first
            right = [span for span in right if span[1] != "muted"]
        room = width - sum(cell_len(text) for text, _ in right)
        left: list[Span] = [(" llmval ", "accent"), (f"{platform.node()}  ", "title")]
        if sum(cell_len(text) for text, _ in left) > room:  # age and time are not cut: half a figure is a wrong one
            left = [(" ", "accent"), (fit(platform.node(), max(0, room - 3), self.glyphs.ellipsis) + "  ", "title")]
        used = sum(cell_len(text) for text, _ in left)
        work = self._work(room - used)
        room -= sum(cell_len(text) for text, _ in work)
        for text, role in self._hardware():
            if used + cell_len(text) <= room:
                left.append((text, role))
                used += cell_len(text)
        gap = width - used - sum(cell_len(text) for text, _ in (*work, *right))
        return [Row((*left, *work, (" " * max(0, gap), "text"), *right), "bar")]

    def _hardware(self) -> list[Span]:
        last = self.state.live.last
        if last is None:
            return [("hardware not known yet  ", "muted")]
        if not last.gpus:
            return [("no GPU  ", "warn")]
        names = {gpu.name for gpu in last.gpus if gpu.name}
        name = names.pop() if len(names) == 1 else "GPUs"
        found: list[Span] = [(f"{len(last.gpus)} × {name}  ", "text")]
        if driver := driver_version():
            found.append((f"driver {driver}  ", "muted"))
        return found

    def _work(self, room: int) -> list[Span]:
        """What runs, how far it is, and what waits: as much of it as fits."""
        state, glyphs = self.state, self.glyphs
        running = next((s for s in state.snapshot.steps if s.state is StepState.RUNNING), None)
        if running is None and state.snapshot.plan is None:
            return []
        sign = state.sign(running.step, running.state) if running else None
        texts = [f"{glyphs.sign(sign)} {running.step.number} {sign.word}" if running and sign else "plan running"]
        run = state.run
        if running and run and running.run and run.id == running.run.id and run.progress.fraction is not None:
            texts.append(f"{texts[-1]} {run.progress.fraction:.0%}")
            if run.eta_s is not None:
                texts.append(f"{texts[-1]}, {duration(run.eta_s)} left")
        if state.snapshot.queued:
            texts.append(f"{texts[-1]}, {len(state.snapshot.queued)} queued")
        text = next((text for text in reversed(texts) if cell_len(text) + 2 <= room), None)
        return [] if text is None else [(f"{text}  ", "busy")]

    def _replay(self) -> list[Span]:
        """The position and the speed of the replay."""
        timeline = self.state.timeline
        if timeline is None:
            return []
        length = (timeline.end_ns - timeline.start_ns) / 1e9
        how = "ended" if timeline.ended else "paused" if timeline.paused else f"×{timeline.speed:g}"
        return [("REPLAY ", "key"), (f"{clock(timeline.fraction * length)}/{clock(length)} {how}  ", "key")]

    def _faults(self) -> list[Span]:
        """The first GPU with a fault, so that no pane hides it."""
        last = self.state.live.last
        if last is None or not last.gpus or self.state.stale:
            return []
        from llmval_tui.tui.widgets.gpu_charts import faults_of, is_lost

        bad = [(gpu, found) for gpu in last.gpus if (found := faults_of(gpu))]
        if not bad:
            return []
        gpu, found = bad[0]
        word = "lost" if is_lost(gpu) else found[0].partition(":")[0]
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return [(f"GPU {gpu.index} {word}{more}  ", "warn" if word == "throttled" else "bad")]

    def _right(self) -> list[Span]:
        state = self.state
        spans: list[Span] = self._replay()
        if state.settings.readonly and state.timeline is None:
            spans.append(("read-only  ", "warn"))
        if state.preset:
            spans.append((f"{state.preset}  ", "key"))
        if state.adapt:
            spans.append(("adapt  ", "key"))
        spans += [(f"{short}  ", "bad") for short in dict.fromkeys(one.short for one in state.snapshot.hindrances)]
        if state.files_problem:
            spans.append((f"{state.files_problem}  ", "bad"))
        elif state.snapshot.problem:
            spans.append(("list not current  ", "bad"))
        spans += self._faults()
        since = state.sample_age
        if since is None:
            spans.append(("no samples  ", "warn" if state.recorder_problem else "muted"))
        elif state.stale:
            spans.append((f"stale, {age(since)} old  ", "bad"))
        else:
            spans.append(("sample now  ", "muted"))
        spans.append((datetime.fromtimestamp(state.now()).strftime("%H:%M:%S "), "text"))
        return spans


def clock(seconds: float) -> str:
    """A duration as media players show it: `3:05`, `2:03:05`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


@cache
def driver_version() -> str | None:
    """The version of the NVIDIA kernel driver; None without a driver."""
    try:
        words = DRIVER.read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


class ListTitle(Bar):
    """The title of the list; highlighted if the list has the focus."""

    def rows(self, width: int, height: int) -> Sequence[Row]:
        focused = bool(self.screen.focused and self.screen.focused.id == "steps")
        return [title_row(self.state, self.glyphs, width, focused)]


class TabBar(Bar):
    """The panes by number; the shown one is highlighted, and more so if it has the focus."""

    active = "run"

    def rows(self, width: int, height: int) -> Sequence[Row]:
        focused = bool(self.screen.focused and self.screen.focused.id in PANES)
        # Most machines are validated alone: without a run on several nodes there is no such pane to see.
        panes = [name for name in PANES if name != "fleet" or self.state.snapshot.fleet or self.active == "fleet"]
        long, middle = (
            sum(cell_len(names.get(name, PANE_TITLES[name])) + 4 for name in panes) <= width
            for names in (PANE_TITLES, SHORT_TITLES)
        )
        parts: list[tuple[str, str, str | None]] = []
        for number, name in enumerate(panes, 1):
            title = PANE_TITLES[name] if long else SHORT_TITLES.get(name, PANE_TITLES[name])
            title = title if middle or name == self.active else ""  # a number is better than half a name
            if name == self.active:
                left, right = ("[", "]") if self.glyphs.ascii or self.styled_theme.kind == "ansi" else ("▌", "▐")
                parts.append((f"{left}{number} {title}{right}", "accent" if focused else "title", name))
            else:
                parts.append((f" {number} {title} ", "muted", name))
        return [self.clickable_row(parts)]


class KeyBar(Bar):
    """The most useful keys of the pane with the focus: those that can do something now."""

    pane = "list"

    def rows(self, width: int, height: int) -> Sequence[Row]:
        if (notice := self.state.messages.shown) is not None:
            return [self._notice(notice, width)]
        parts: list[tuple[str, str, str | None]] = [(" ", "text", None)]
        room = width - 1
        shown = sorted(
            (
                self._worded(key)
                for key in self.themed_app.keymap.keys_for(self.pane)
                if key.footer < 9 and self._can(key)
            ),
            key=lambda key: key.footer,
        )
        shown = [key for key in shown if key.label]
        # Palette, help and quit are always shown, the others if they fit.
        last = [key for key in shown if key.id in ("palette", "help", "quit")]
        room -= sum(self._length(key) for key in last)
        for key in [key for key in shown if key not in last]:
            if self._length(key) <= room:
                room -= self._length(key)
                parts += self._part(key)
        for key in last:
            parts += self._part(key)
        return [self.clickable_row(parts)]

    def _worded(self, key: Key) -> Key:
        """The key with the word for what it does in this pane now."""
        label = label_of(self.state, key.id, key.label, self.pane)
        if key.id == "other_next":
            return replace(key, label=label, display=self.themed_app.keymap.hint("other_previous", "other_next"))
        return key if label == key.label else replace(key, label=label)

    @staticmethod
    def _length(key: Key) -> int:
        return cell_len(key.display) + cell_len(key.label) + 3

    def _notice(self, notice: Notice, width: int) -> Row:
        """A message in place of the keys: it covers no figure."""
        role = {"information": "title", "warning": "warn", "error": "bad"}[notice.severity]
        sign = {"information": "", "warning": "! ", "error": "! "}[notice.severity]
        key = self.themed_app.keymap.hint("messages")
        tail = f"  {key} {self.state.messages.total} " if key else " "
        at = datetime.fromtimestamp(notice.at_s).strftime("%H:%M:%S")
        head = f" {at} " if width >= 60 else " "
        text = fit(f"{sign}{notice.text}", width - cell_len(head) - cell_len(tail), self.glyphs.ellipsis)
        parts = [(head, "muted", None), (text, role, "messages"), (tail, "key", "messages")]
        return self.clickable_row(parts, "cursor")

    def _can(self, key: Key) -> bool:
        state, name = self.state, key.id
        if name == "open" and self.pane == "run":
            if self.themed_app.keymap.hide_changes:
                return False
            name = "answer"  # nothing else is opened there
        return obstacle(state, name, alive=state.run is not None and state.run.alive) is None

    @staticmethod
    def _part(key: Key) -> list[tuple[str, str, str | None]]:
        return [(key.display, "key", key.id), (f" {key.label}  ", "text", key.id)]
