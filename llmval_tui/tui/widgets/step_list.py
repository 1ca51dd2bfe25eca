"""The list of steps, and below it what needs a person and the chosen step in full."""

from collections.abc import Sequence

from textual import events

from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.tui.data.screen_state import ORDERS, ScreenState
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.drawing.step_rows import StepRows, head_rows, section_of, step_rows
from llmval_tui.tui.drawing.step_words import state_words
from llmval_tui.tui.drawing.viewport import scroll_to_cursor, visible_rows
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.step_blocks import allot, block_rows, need_rows

LEAST_FOR_HEAD = 12  # rows from which the columns have names


class StepList(ScrollPane):
    """The list at the left. Its cursor follows the chosen step when an edit of the file moves it."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="steps")
        self.state = state
        self.cursor = 0
        self._step_rows = StepRows((), {})
        self._head = 0  # rows above the list that do not scroll
        self._list_height = 0
        self._blocks: list[Row] = []

    @property
    def key(self) -> StepKey | None:
        """The chosen step."""
        return self._step_rows.keys.get(self.target or "")

    def visible_targets(self) -> list[str]:
        """The targets of the visible steps and folded sections, from the top."""
        rows = self.content_rows[self.top : self.top + self.view_height]
        targets = [shown.target for shown in rows if shown.target is not None]
        return [one for one in targets if (section := section_of(one)) is None or section in self.state.folded]

    @property
    def view_height(self) -> int:
        return self._list_height or self.size.height

    @property
    def view_top(self) -> int:
        return self._head

    def content(self, width: int) -> Sequence[Row]:
        self._step_rows = step_rows(self.state, self.glyphs, width)
        index = self._step_rows.row_of(self.state.key, self.state.section)
        if index is not None:
            self.cursor = index
        return self._step_rows.rows

    def rows(self, width: int, height: int) -> Sequence[Row]:
        hint = self.state.keymap.hint
        hints = [(hint("find"), "filter"), (hint("order"), f"{self.state.order} order"), (hint("state"), "state")]
        known = self.state.snapshot.checklist is not None
        head = head_rows(self.state, self.glyphs, width - 1, hints) if known and height >= LEAST_FOR_HEAD else []
        self._head = len(head)
        self.content_rows = self.content(width - 1)
        needs = len(need_rows(self.state, self._step_rows, width, self.glyphs))
        self._list_height, below = allot(len(self.content_rows), height - len(head), needs)
        self.top, self.cursor = scroll_to_cursor(self.content_rows, self.top, self.cursor, self._list_height)
        shown = visible_rows(
            self.content_rows, self.top, width, self._list_height, self._highlighted, self.glyphs.ascii
        )
        self._blocks = block_rows(self.state, self._step_rows, width, below, self.glyphs) if known else []
        return [*head, *shown, *self._blocks]

    def _set_cursor(self, index: int) -> None:
        # At once, not by message: a key pressed right after the move must act on the step under the cursor.
        shown = self.content_rows[index] if 0 <= index < len(self.content_rows) else None
        target = shown.target if shown is not None else None
        key, section = self._step_rows.keys.get(target or ""), section_of(target)
        if (key, section) != (self.state.key, self.state.section) and target is not None:
            self.state.key, self.state.section = key, section
            self.state.back, self.state.document = 0, 0
            self.state.leave_node()
        super()._set_cursor(index)

    def go_to(self, key: StepKey) -> None:
        """Choose a step, and unfold its section."""
        if self._step_rows.row_of(key) is None:
            self.state.folded.discard(key.section)
            self.repaint()
        index = self._step_rows.row_of(key)
        if index is not None:
            self._set_cursor(index)

    def toggle_section(self) -> bool:
        """Fold or unfold the section under the cursor; False if a step is under it."""
        section = self.state.section
        if section is None:
            return False
        self.state.folded ^= {section}
        self.repaint()
        return True

    def fold_all(self) -> None:
        state, checklist = self.state, self.state.snapshot.checklist
        if checklist is None:
            return
        titles = {section.title for section in checklist.sections}
        if titles <= state.folded:
            state.folded.clear()
        else:
            state.folded |= titles
            status = state.snapshot.status(state.key)
            if status is not None:
                state.key, state.section = None, status.step.section
                self.post_message(self.Chosen(self, ""))
        self.repaint()

    def next_state(self) -> None:
        words = [None, *(word for word, _ in state_words(self.state))]
        now = self.state.shown_state
        self.state.shown_state = words[(words.index(now) + 1) % len(words)] if now in words else None
        self.filter_changed()

    def next_order(self) -> None:
        self.state.order = ORDERS[(ORDERS.index(self.state.order) + 1) % len(ORDERS)]
        self.filter_changed()

    def filter_changed(self) -> None:
        """Repaint after the filter has changed, and choose a visible step, because keys act on the chosen one."""
        state = self.state
        if state.section is not None and (state.filter or state.shown_state is not None or state.order != "list"):
            state.section = None
        self.repaint()
        if self._step_rows.row_of(state.key, state.section) is None and self.cursor is not None:
            first = next((i for i, r in enumerate(self.content_rows) if r.target in self._step_rows.keys), self.cursor)
            self._set_cursor(first)
            if self.target is not None:
                self.post_message(self.Chosen(self, self.target))

    def on_click(self, event: events.Click) -> None:
        row = event.y - self._head - self._list_height
        if row < 0:
            super().on_click(event)
        elif row < len(self._blocks) and (target := self._blocks[row].target) is not None:
            self.go_to(self._step_rows.keys[target])
