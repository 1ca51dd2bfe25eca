"""The list of steps; `drawing/step_rows.py` makes its rows."""

from collections.abc import Sequence

from llmval_tui.checklist.model import StepKey
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.drawing.step_rows import StepRows, step_rows
from llmval_tui.tui.widgets.scroll_pane import ScrollPane


class StepList(ScrollPane):
    """The list at the left. Its cursor follows the chosen step when an edit of the file moves it."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="steps")
        self.state = state
        self.cursor = 0
        self._step_rows = StepRows((), {})

    @property
    def key(self) -> StepKey | None:
        """The chosen step."""
        return self._step_rows.keys.get(self.target or "")

    def visible_targets(self) -> list[str]:
        """The targets of the visible steps, from the top."""
        rows = self.content_rows[self.top : self.top + self.size.height]
        return [shown.target for shown in rows if shown.target is not None]

    def content(self, width: int) -> Sequence[Row]:
        self._step_rows = step_rows(self.state, self.glyphs, width)
        index = self._step_rows.row_of(self.state.key)
        if index is not None:
            self.cursor = index
        return self._step_rows.rows

    def _set_cursor(self, index: int) -> None:
        # At once, not by message: a key pressed right after the move must act on the step under the cursor.
        shown = self.content_rows[index] if 0 <= index < len(self.content_rows) else None
        key = self._step_rows.keys.get(shown.target or "") if shown is not None else None
        if key is not None and key != self.state.key:
            self.state.key, self.state.back, self.state.document = key, 0, 0
        super()._set_cursor(index)

    def filter_changed(self) -> None:
        """Repaint after the filter has changed, and choose a visible step, because keys act on the chosen one."""
        self.repaint()
        if self._step_rows.row_of(self.state.key) is None and self.cursor is not None:
            self._set_cursor(self.cursor)
            if self.target is not None:
                self.post_message(self.Chosen(self, self.target))
