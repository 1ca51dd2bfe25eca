"""A pane of rows that scrolls by keys and wheel, with or without a cursor."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message

from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.drawing.viewport import highlight, nearest_target, scroll_to_cursor, visible_rows
from llmval_tui.tui.keys import SCROLL_KEYS, bindings
from llmval_tui.tui.textual_private import bindings_of
from llmval_tui.tui.widgets.row_widget import RowWidget


class ScrollPane(RowWidget, can_focus=True):
    """Shows the rows of `content()`.

    If `cursor` is not None, it is the selected row, and moving moves it; rows without a target are skipped.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(SCROLL_KEYS)]

    class Chosen(Message):
        """The cursor has moved to another row."""

        def __init__(self, pane: "ScrollPane", target: str) -> None:
            super().__init__()
            self.pane = pane
            self.target = target

    class Opened(Chosen):
        """A row was opened by Enter or a double click."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.top = 0
        self.cursor: int | None = None
        self.content_rows: Sequence[Row] = ()

    def on_mount(self) -> None:
        self.themed_app.keymap.rebind(bindings_of(self))

    @property
    def view_height(self) -> int:
        """The rows in which the contents scroll."""
        return self.size.height

    @property
    def view_top(self) -> int:
        """The rows above them."""
        return 0

    def is_scroll_key(self, key: str) -> bool:
        """Whether a key only scrolls here."""
        return key in bindings_of(self).key_to_bindings

    def content(self, width: int) -> Sequence[Row]:
        """All rows for this width, without the scroll bar's column."""
        raise NotImplementedError

    def rows(self, width: int, height: int) -> Sequence[Row]:
        self.content_rows = self.content(width - 1)
        self.top, self.cursor = scroll_to_cursor(self.content_rows, self.top, self.cursor, height)
        return visible_rows(self.content_rows, self.top, width, height, self._highlighted, self.glyphs.ascii)

    def _highlighted(self, index: int, shown: Row) -> Row:
        # Not `has_focus`, which follows by a message: the first picture after a key would be the old one.
        return highlight(shown, self.screen.focused is self) if index == self.cursor else shown

    def choose(self, target: str) -> bool:
        """Put the cursor on the row with this target; False if there is none."""
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
            # At either end, also show the rows without a target beyond the last row with one.
            if found == self.cursor:
                self.top = 0 if rows < 0 and found < self.view_height else self.top
            self._set_cursor(found)

    def action_page(self, pages: float) -> None:
        self.action_move(round(pages * max(1, self.view_height - 1)))

    def action_end(self, direction: int) -> None:
        self.action_move(direction * (len(self.content_rows) + 1))
        if direction < 0:
            self.top = 0
            self.repaint()

    # What the keys of the main screen do in this pane; each pane has its own meaning of them, or none.

    def next_state(self) -> None:
        """Show only the next state, outcome or level that occurs; all of them after the last."""

    def next_order(self) -> None:
        """Sort by the next order."""

    def reverse_order(self) -> None:
        """Sort the other way round."""

    def next_block(self) -> bool:
        """Give the focus to the next block of the pane whose rows can be chosen; False after the last."""
        return False

    def leave_block(self) -> bool:
        """Give the focus back to the whole pane; False if it has it."""
        return False

    def copied(self) -> str | None:
        """What the key for copying takes here; None: the command of the step."""
        return None

    def fold_all(self) -> None:
        """Fold everything, or unfold everything."""

    def next_range(self) -> None:
        """Change the range of the charts."""

    def next_window(self) -> None:
        """Change the window of time of the charts."""

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3 if self.cursor is None else 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3 if self.cursor is None else -1)

    def on_click(self, event: events.Click) -> None:
        index = self.top + event.y - self.view_top
        if self.cursor is None or event.y < self.view_top or not 0 <= index < len(self.content_rows):
            return
        target = self.content_rows[index].target
        if target is None:
            return
        if target == self.target and event.chain > 1:
            self.post_message(self.Opened(self, target))
        self._set_cursor(index)

    def on_focus(self, event: events.Focus) -> None:
        self._focus_moved(event, events.DescendantFocus(self), focused=True)

    def on_blur(self, event: events.Blur) -> None:
        self._focus_moved(event, events.DescendantBlur(self), focused=False)

    def watch_has_focus(self, _has_focus: bool) -> None:
        """Nothing: no style depends on the focus, and Textual would compute all styles of the pane again."""

    def _focus_moved(self, event: events.Event, told: events.Event, *, focused: bool) -> None:
        """As Textual does, but its own handlers would draw the whole pane again, also one that was just hidden."""
        event.prevent_default()
        self.has_focus = focused
        self.screen.post_message(told)  # not the parent, which would only hand it on
        if self.cursor is not None:
            self.repaint()  # the cursor's row looks different
