"""A pane of rows longer than the screen: scrolled by keys and wheel, with or without a cursor."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import BindingType
from textual.message import Message

from llmval_tui.tui.keys import MOVES, bindings
from llmval_tui.tui.widgets.painted import Painted, Row


class ScrollPane(Painted, can_focus=True):
    """Shows `content()`, which subclasses give; rows beyond the height are reached by scrolling.

    With `self.cursor` not None one row is selected, and moving moves it; rows without a target are stepped over.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(MOVES)]

    class Chosen(Message):
        """The cursor came to another row."""

        def __init__(self, pane: "ScrollPane", target: str) -> None:
            super().__init__()
            self.pane = pane
            self.target = target

    class Opened(Chosen):
        """A row was opened, by Enter or a second click."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.top = 0
        self.cursor: int | None = None
        self.content_rows: Sequence[Row] = ()

    def on_mount(self) -> None:
        self.styled.keymap.rebind(self._bindings)

    def moves(self, key: str) -> bool:
        """Whether a key moves here and does nothing else."""
        return key in self._bindings.key_to_bindings

    def content(self, width: int) -> Sequence[Row]:
        """All rows for this width, without the scroll bar's column."""
        raise NotImplementedError

    def rows(self, width: int, height: int) -> Sequence[Row]:
        self.content_rows = self.content(width - 1)
        count = len(self.content_rows)
        if self.cursor is not None:
            self.cursor = self._nearest(max(0, min(self.cursor, count - 1)), 1)
            self.top = min(self.top, self.cursor)
            self.top = max(self.top, self.cursor - height + 1)
        self.top = max(0, min(self.top, count - height))
        visible = [self._marked(self.top + i, r) for i, r in enumerate(self.content_rows[self.top : self.top + height])]
        return [with_thumb(r, i, width, height, self.top, count, self.glyphs.ascii) for i, r in enumerate(visible)]

    def _marked(self, index: int, shown: Row) -> Row:
        if index != self.cursor or shown.target is None:
            return shown
        return Row(shown.spans, "cursor" if self.has_focus else "idle", shown.target)

    def _nearest(self, index: int, direction: int) -> int:
        """The nearest row that can be chosen, looked for first in `direction`."""
        count = len(self.content_rows)
        ahead = range(index, count) if direction > 0 else range(index, -1, -1)
        behind = range(index, -1, -1) if direction > 0 else range(index, count)
        return next((i for i in (*ahead, *behind) if self.content_rows[i].target is not None), 0)

    def choose(self, target: str) -> bool:
        """Put the cursor on the row with this target; False where there is none."""
        for index, shown in enumerate(self.content_rows):
            if shown.target == target:
                self._set_cursor(index)
                return True
        return False

    @property
    def target(self) -> str | None:
        """The target of the row under the cursor."""
        if self.cursor is None or not 0 <= self.cursor < len(self.content_rows):
            return None
        return self.content_rows[self.cursor].target

    def _set_cursor(self, index: int) -> None:
        before = self.target
        self.cursor = index
        self.repaint()
        if self.target is not None and self.target != before:
            self.post_message(self.Chosen(self, self.target))

    def action_move(self, rows: int) -> None:
        if self.cursor is None:
            self.top += rows
            self.repaint()
        elif self.content_rows:
            wanted = max(0, min(self.cursor + rows, len(self.content_rows) - 1))
            found = self._nearest(wanted, rows)
            # At either end, what lies beyond the last row that can be chosen is scrolled into view.
            if found == self.cursor:
                self.top = 0 if rows < 0 and found < self.size.height else self.top
            self._set_cursor(found)

    def action_page(self, pages: float) -> None:
        self.action_move(round(pages * max(1, self.size.height - 1)))

    def action_end(self, direction: int) -> None:
        self.action_move(direction * (len(self.content_rows) + 1))
        if direction < 0:
            self.top = 0
            self.repaint()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3 if self.cursor is None else 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3 if self.cursor is None else -1)

    def on_click(self, event: events.Click) -> None:
        index = self.top + event.y
        if self.cursor is None or not 0 <= index < len(self.content_rows):
            return
        target = self.content_rows[index].target
        if target is None:
            return
        if target == self.target and event.chain > 1:
            self.post_message(self.Opened(self, target))
        self._set_cursor(index)

    def on_focus(self) -> None:
        self.repaint()

    def on_blur(self) -> None:
        self.repaint()


def with_thumb(shown: Row, y: int, width: int, height: int, top: int, count: int, ascii_only: bool) -> Row:
    """The row with the scroll bar's cell in its last column, where there is more than fits."""
    if count <= height:
        return shown
    length = max(1, height * height // count)
    start = round(top * (height - length) / max(1, count - height))
    inside = start <= y < start + length
    sign = ("#" if inside else "|") if ascii_only else ("┃" if inside else "│")
    spans: list[tuple[str, str]] = []
    room = width - 1
    for text, role in shown.spans:
        length = cell_len(text)
        if length > room:
            text, length = set_cell_size(text, room), room
        spans.append((text, role))
        room -= length
        if room <= 0:
            break
    spans += [(" " * room, "text"), (sign, "muted" if inside else "track")]
    return Row(tuple(spans), shown.ground, shown.target)
