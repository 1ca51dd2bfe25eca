"""A pane of rows longer than the screen: scrolled by keys and wheel, with or without a cursor."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message

from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.drawing.viewport import highlight, nearest_target, scroll_to_cursor, visible_rows
from llmval_tui.tui.keys import SCROLL_KEYS, bindings
from llmval_tui.tui.widgets.row_widget import RowWidget


class ScrollPane(RowWidget, can_focus=True):
    """Shows `content()`, which subclasses give; rows beyond the height are reached by scrolling.

    With `self.cursor` not None one row is selected, and moving moves it; rows without a target are stepped over.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(SCROLL_KEYS)]

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
        self.styled_app.keymap.rebind(self._bindings)

    def moves(self, key: str) -> bool:
        """Whether a key moves here and does nothing else."""
        return key in self._bindings.key_to_bindings

    def content(self, width: int) -> Sequence[Row]:
        """All rows for this width, without the scroll bar's column."""
        raise NotImplementedError

    def rows(self, width: int, height: int) -> Sequence[Row]:
        self.content_rows = self.content(width - 1)
        self.top, self.cursor = scroll_to_cursor(self.content_rows, self.top, self.cursor, height)
        return visible_rows(self.content_rows, self.top, width, height, self._marked, self.glyphs.ascii)

    def _marked(self, index: int, shown: Row) -> Row:
        return highlight(shown, self.has_focus) if index == self.cursor else shown

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
            found = nearest_target(self.content_rows, wanted, rows)
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
