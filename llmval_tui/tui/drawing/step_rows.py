"""The checklist as rows: its title, the sections with their progress, the steps with their state."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.actions.step_state import StepState
from llmval_tui.checklist.model import StepKey
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.labels import disambiguated_labels, strip_markdown
from llmval_tui.tui.drawing.rows import Row, Span, row

WORD = 12  # cells of the longest word for a state


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of the list, and the step of each target."""

    rows: Sequence[Row]
    keys: dict[str, StepKey]

    def row_of(self, key: StepKey | None) -> int | None:
        """The row of a step; None if the list does not show it."""
        return next((i for i, r in enumerate(self.rows) if r.target and self.keys.get(r.target) == key), None)


def title_row(state: ScreenState, glyphs: Glyphs, width: int, focused: bool) -> Row:
    """The row above the list: title, number of ticked steps, marks, filter."""
    steps = state.snapshot.steps
    done = sum(status.step.checked for status in steps)
    title = state.snapshot.checklist.title if state.snapshot.checklist else state.settings.checklist.name
    measured = sum(status.state is StepState.MEASURED for status in steps)
    extra = f" {done}/{len(steps)} ticked, {measured} measured "
    if cell_len(extra) + cell_len(title) + 1 > width:
        extra = f" {done}/{len(steps)}, {measured} measured "
    if state.marks:
        extra = f" {len(state.marks)} marked" + extra
    if state.filter:
        extra = f" /{state.filter}" + extra
    name = fit(f" {title}", width - cell_len(extra), glyphs.ellipsis)
    return Row(((name, "title" if focused else "muted"), (extra, "text")), "cursor" if focused else "bar")


def step_rows(state: ScreenState, glyphs: Glyphs, width: int) -> StepRows:
    """All rows of the list."""
    if state.snapshot.checklist is None:
        text = state.snapshot.problem or "reading the checklist"
        role = "bad" if state.snapshot.problem else "muted"
        return StepRows([row(), *(row((f" {line}", role)) for line in wrap(text, width - 2))], {})
    statuses = {status.step.key: status for status in state.snapshot.steps}
    rows: list[Row] = []
    keys: dict[str, StepKey] = {}
    texts = tuple(step.text for section in state.snapshot.checklist.sections for step in section.steps)
    labels = dict(zip(texts, disambiguated_labels(texts), strict=True))
    letters = {target: letter for letter, target in (state.jump or {}).items()}
    if state.snapshot.problem:
        rows.append(row((fit(" not current: see Run", width), "bad")))
    for section in state.snapshot.checklist.sections:
        steps = [step for step in section.steps if _matches_filter(state, step.text)]
        if not steps:
            continue
        done = sum(step.checked for step in section.steps)
        count = f" {done}/{len(section.steps)} "
        if rows:
            rows.append(row())
        title = fit(f" {strip_markdown(section.title)}", width - cell_len(count), glyphs.ellipsis)
        found = [statuses[step.key].state for step in section.steps if step.key in statuses]
        role = "good" if found and set(found) == {StepState.MEASURED} else "muted"
        rows.append(row((title, "title"), (count, role)))
        for step in steps:
            status = statuses.get(step.key)
            if status is None:
                continue
            sign = state.sign(step, status.state)
            target = f"{step.number}\0{step.occurrence}\0{step.text}"
            keys[target] = step.key
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
                    *_label(*labels[step.text], room, glyphs),
                    (tail, sign.role),
                    target=target,
                )
            )
    if not keys and state.snapshot.steps:  # otherwise the filter is not the reason
        rows.append(row((f" no step contains “{state.filter}”; Esc shows all", "warn")))
    return StepRows(rows, keys)


def _label(name: str, different: str, room: int, glyphs: Glyphs) -> list[Span]:
    """The item's label in exactly `room` cells; the part that differs from similar items gets up to half of them."""
    share = min(cell_len(different), max(room // 2, room - cell_len(name) - 1))
    if not share:
        return [(fit(name, room, glyphs.ellipsis), "text")]
    head = fit(name, min(cell_len(name), room - share - 1), glyphs.ellipsis)
    return [(head, "text"), (fit(f" {different}", room - cell_len(head), glyphs.ellipsis), "text")]


def _matches_filter(state: ScreenState, text: str) -> bool:
    return state.filter.casefold() in strip_markdown(text).casefold()
