"""The checklist: sections with how far they are, steps with their state as a sign and a word."""

from collections.abc import Sequence

from rich.cells import cell_len

from llmval_tui.checklist.model import StepKey
from llmval_tui.tui.fmt import fit
from llmval_tui.tui.labels import plain_text, short_text
from llmval_tui.tui.state import ScreenState
from llmval_tui.tui.widgets.painted import Row, row
from llmval_tui.tui.widgets.scroll import ScrollPane

WORD = 12  # cells of the longest state's word


class StepList(ScrollPane):
    """The list at the left; its cursor is the chosen step."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="steps")
        self.state = state
        self.cursor = 0
        self._keys: dict[str, StepKey] = {}

    @property
    def key(self) -> StepKey | None:
        """The chosen step."""
        return self._keys.get(self.target or "")

    def targets_in_sight(self) -> list[str]:
        """The targets of the steps that are on the screen, from above."""
        rows = self.content_rows[self.top : self.top + self.size.height]
        return [shown.target for shown in rows if shown.target is not None]

    def content(self, width: int) -> Sequence[Row]:
        state, glyphs = self.state, self.glyphs
        if state.view.checklist is None:
            text = state.view.trouble or "reading the checklist"
            from llmval_tui.tui.fmt import wrap

            return [
                row(),
                *(row((f" {line}", "bad" if state.view.trouble else "muted")) for line in wrap(text, width - 2)),
            ]
        statuses = {status.step.key: status for status in state.view.steps}
        rows: list[Row] = []
        letters = {target: letter for letter, target in (state.jump or {}).items()}
        self._keys = {}
        if state.view.trouble:
            rows.append(row((fit(" not current: see Run", width), "bad")))
        for section in state.view.checklist.sections:
            steps = [step for step in section.steps if self._wanted(step.text)]
            if not steps:
                continue
            done = sum(step.checked for step in section.steps)
            count = f" {done}/{len(section.steps)} "
            if rows:
                rows.append(row())
            title = fit(f" {plain_text(section.title)}", width - cell_len(count), glyphs.ellipsis)
            rows.append(row((title, "title"), (count, "good" if done == len(section.steps) else "muted")))
            for step in steps:
                status = statuses.get(step.key)
                if status is None:
                    continue
                sign = state.sign(step, status.state)
                target = f"{step.number}\0{step.occurrence}\0{step.text}"
                self._keys[target] = step.key
                mark = glyphs.mark if step.key in state.marks else " "
                chosen = letters.get(target) or (glyphs.cursor if step.key == state.key else " ")
                number = fit(step.number, max(4, cell_len(step.number)) + 1)
                word = fit(sign.word, WORD if width >= 44 else cell_len(sign.word))
                tail = f" {glyphs.sign(sign)} {word} " if width >= 44 else f" {glyphs.sign(sign)} {word}"
                room = width - 2 - cell_len(number) - cell_len(tail)
                rows.append(
                    row(
                        (chosen, "key" if letters else "accent"),
                        (mark, "key"),
                        (number, "muted"),
                        (fit(short_text(step.text), room, glyphs.ellipsis), "text"),
                        (tail, sign.role),
                        target=target,
                    )
                )
        if not self._keys and state.view.steps:  # else it is not the filter's doing
            rows.append(row((f" no step contains “{state.filter}”; Esc shows all", "warn")))
        return rows

    def _wanted(self, text: str) -> bool:
        return self.state.filter.casefold() in plain_text(text).casefold()

    def _set_cursor(self, index: int) -> None:
        # At once, not by message: a key pressed right after the move must act on the step that is seen chosen.
        shown = self.content_rows[index] if 0 <= index < len(self.content_rows) else None
        key = self._keys.get(shown.target or "") if shown is not None else None
        if key is not None and key != self.state.key:
            self.state.key, self.state.back, self.state.document = key, 0, 0
        super()._set_cursor(index)

    def filtered(self) -> None:
        """The filter is another: what is chosen must be in sight, for keys act on it."""
        self.repaint()
        if self.state.key not in self._keys.values() and self.cursor is not None:
            self._set_cursor(self.cursor)
            if self.target is not None:
                self.post_message(self.Chosen(self, self.target))
        self.follow()

    def follow(self) -> None:
        """Repaint with the cursor on the chosen step, wherever an edit of the file has moved it."""
        self.repaint()
        for target, key in self._keys.items():
            if key == self.state.key:
                index = next((i for i, r in enumerate(self.content_rows) if r.target == target), None)
                if index is not None and index != self.cursor:
                    self.cursor = index
                    self.repaint()
                return
