"""The checklist as rows: its title, the sections with their progress, the steps with their state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmval_tui.actions.headline import Figure
from llmval_tui.actions.step_state import TICK_STATES, StepState, StepStatus
from llmval_tui.checklist.model import Section, Step
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit, number, short_age, took, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.run_history import StepFacts
from llmval_tui.tui.data.screen_state import NEEDS_YOU, ScreenState
from llmval_tui.tui.drawing.labels import disambiguated_labels, list_label, strip_markdown
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.drawing.step_words import has_state, rests_on_words, sign_of, state_rank, state_words, waiting
from llmval_tui.tui.drawing.trend import trend

WORD = 12  # cells of the longest word for a state
ROOMY = 44  # from this width on, the words for states have a column of their own
# The columns after the state, in the order in which they go first when there is less room: name, cells, least width.
COLUMNS = (
    ("rests on", 18, 92),
    ("by", 8, 100),
    ("age", 5, 46),
    ("took", 7, 56),
    ("headline", 18, 106),
    ("trend", 9, 115),
)
FULL_WIDTH = 100  # from this width on, the states that can be shown are in a row above the list
SECTION = "\0section\0"  # the target of a section is this and its title


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of the list, and the step of each target."""

    rows: Sequence[Row]
    keys: Mapping[str, StepKey]

    def row_of(self, key: StepKey | None, section: str | None = None) -> int | None:
        """The row of a step or of a section; None if the list does not show it."""
        if section is not None:
            return next((i for i, r in enumerate(self.rows) if r.target == SECTION + section), None)
        return next((i for i, r in enumerate(self.rows) if r.target and self.keys.get(r.target) == key), None)


def section_of(target: str | None) -> str | None:
    """The title of the section that a target names; None for a step."""
    return target.removeprefix(SECTION) if target is not None and target.startswith(SECTION) else None


def title_row(state: ScreenState, glyphs: Glyphs, width: int, focused: bool) -> Row:
    """The row above the list: title, number of ticked steps and what the ticks stand on, marks, filters, order."""
    steps = state.snapshot.steps
    done = sum(status.step.checked for status in steps)
    checklist = state.snapshot.checklist
    title = strip_markdown(checklist.title) if checklist else state.settings.checklist.name
    states = [status.state for status in steps if status.step.checked]
    counts = [f"{states.count(one)} {one}" for one in TICK_STATES if one in states]
    measured = f"{states.count(StepState.MEASURED)} measured"
    special = ""
    if state.filter:
        special += f" /{state.filter}"
    if state.shown_state is not None and width < FULL_WIDTH:
        special += f" .{state.shown_state}"
    if state.order != "list" and width < FULL_WIDTH:
        special += f" by {state.order}"
    if state.marks:
        special += f" {len(state.marks)} marked"
    needs = len(waiting(steps))
    tail = f", {needs} need you" if needs else ""
    forms = [
        f" {done}/{len(steps)} ticked: {', '.join(counts)} " if counts else f" {done}/{len(steps)} ticked ",
        f" {done}/{len(steps)}, {measured}{tail} ",
        f" {done}/{len(steps)}, {measured} ",
        f" {done}/{len(steps)}{tail} ",
        f" {done}/{len(steps)} ",
    ]
    room = width - cell_len(special) - cell_len(title) - 1
    extra = next((form for form in forms if cell_len(form) <= room), forms[-1])
    name = fit(f" {title}", width - cell_len(special) - cell_len(extra), glyphs.ellipsis)
    return Row(
        ((name, "title" if focused else "muted"), (special, "key"), (extra, "text")), "cursor" if focused else "bar"
    )


def head_rows(state: ScreenState, glyphs: Glyphs, width: int, hints: Sequence[tuple[str, str]]) -> list[Row]:
    """What stays above the list when it scrolls: the states that can be shown, and the names of the columns."""
    rows: list[Row] = []
    if width >= FULL_WIDTH:
        spans: list[Span] = [(" ", "text")]
        chosen = state.shown_state
        for word, count in [("all", len(state.snapshot.steps)), *state_words(state)]:
            now = word == (chosen or "all")
            left, right = (("[", "]") if glyphs.ascii else ("▌", "▐")) if now else (" ", " ")
            text = f"{left}{word} {count}{right}"
            if now or sum(cell_len(one) for one, _ in spans) + cell_len(text) <= width:
                spans.append((text, "accent" if now else "muted"))
        for key, text in hints:
            if key and sum(cell_len(t) for t, _ in spans) + cell_len(key) + cell_len(text) + 3 <= width:
                spans += [(f"  {glyphs.key(key)}", "key"), (f" {text}", "muted")]
        rows.append(row(*spans))
    spans = [(" " * (2 + number_width(state)) + "step", "muted")]
    before = cell_len(spans[0][0])
    columns = [(name, cells) for name, cells, least in COLUMNS if width >= least]
    place = width - sum(cells for _, cells in columns) - (WORD + 4 if width >= ROOMY else 0)
    if width < ROOMY or place <= before:
        return rows
    spans.append((" " * (place - before) + " state" + " " * (WORD - 2), "muted"))
    for name, cells in columns:
        spans.append((f"{name:>{cells}}" if name in ("age", "took") else f" {name:<{cells - 1}}", "muted"))
    rows.append(row(*spans))
    return rows


def number_width(state: ScreenState) -> int:
    """The cells of the steps' numbers, one blank included."""
    return max((cell_len(status.step.number) for status in state.snapshot.steps), default=3) + 2


def step_rows(state: ScreenState, glyphs: Glyphs, width: int) -> StepRows:
    """All rows of the list."""
    if state.snapshot.checklist is None:
        text = state.snapshot.problem or "reading the checklist"
        role = "bad" if state.snapshot.problem else "muted"
        return StepRows([row(), *(row((f" {line}", role)) for line in wrap(text, width - 2))], {})
    checklist = state.snapshot.checklist
    statuses = {status.step.key: status for status in state.snapshot.steps}
    rows: list[Row] = []
    keys: dict[str, StepKey] = {}
    texts = tuple(step.text for section in checklist.sections for step in section.steps)
    labels = dict(zip(texts, disambiguated_labels(texts), strict=True))
    letters = {target: letter for letter, target in (state.jump or {}).items()}
    if state.snapshot.problem:
        rows.append(row((fit(" not current: see Run", width), "bad")))

    def add(step: Step) -> None:
        status = statuses.get(step.key)
        if status is not None:
            target = f"{step.number}\0{step.occurrence}\0{step.text}"
            keys[target] = step.key
            rows.append(_step_row(state, status, labels[step.text], letters.get(target), target, glyphs, width))

    shown = [step for step in checklist.steps if step.key in statuses and _is_shown(state, statuses[step.key])]
    if state.order != "list":
        for status in sorted((statuses[step.key] for step in shown), key=lambda one: _place(state, one)):
            add(status.step)
    else:
        filtered = bool(state.filter) or state.shown_state is not None
        numbers = {step.key for step in shown}
        for section in checklist.sections:
            steps = [step for step in section.steps if step.key in numbers]
            if not steps:
                continue
            folded = section.title in state.folded and not filtered
            states = [statuses[step.key].state for step in section.steps if step.key in statuses]
            rows.append(_section_row(state, section, states, folded, letters, glyphs, width))
            for step in steps if not folded else ():
                add(step)
    if not shown and state.snapshot.steps:  # otherwise the filter is not the reason
        rows.append(row((fit(f" {_nothing(state)}", width, glyphs.ellipsis), "warn")))
    return StepRows(rows, keys)


def _nothing(state: ScreenState) -> str:
    if state.shown_state is None:
        return f"no step contains “{state.filter}”; Esc shows all"
    what = "needs you" if state.shown_state == NEEDS_YOU else f"is {state.shown_state}"
    return f"no step {what}{f' and contains “{state.filter}”' if state.filter else ''}; Esc shows all"


def _is_shown(state: ScreenState, status: StepStatus) -> bool:
    text = strip_markdown(status.step.text).casefold()
    return state.filter.casefold() in text and has_state(state, status)


def _place(state: ScreenState, status: StepStatus) -> tuple[float, int]:
    """The place of a step in an order that is not the list's; steps without a value come last."""
    facts = state.snapshot.facts.get(status.step.key)
    value: float | None = None
    if state.order == "state":
        value = state_rank(status)
    elif state.order == "age":
        value = -facts.moment_s if facts is not None and facts.moment_s is not None else None
    elif state.order == "took":
        seconds = took_s(state, facts)
        value = -seconds if seconds is not None else None
    return (float("inf") if value is None else value), status.step.line


def _section_row(
    state: ScreenState,
    section: Section,
    states: Sequence[StepState],
    folded: bool,
    letters: Mapping[str, str],
    glyphs: Glyphs,
    width: int,
) -> Row:
    done = sum(step.checked for step in section.steps)
    count = f" {done}/{len(section.steps)} "
    measured = states.count(StepState.MEASURED)
    if folded and measured:
        count = (
            f" {done}/{len(section.steps)}  {measured} measured"
            if width >= FULL_WIDTH
            else f" {measured} measured {count}"
        )
    role = "good" if states and set(states) == {StepState.MEASURED} else "muted"
    target = SECTION + section.title
    chosen = letters.get(target) or (glyphs.cursor if section.title == state.section else " ")
    fold = ("+" if folded else "-") if glyphs.ascii else ("▸" if folded else "▾")
    behind = sum(cells for _, cells, least in COLUMNS if width >= least) if width >= FULL_WIDTH else 0
    if behind:  # the count then is in the column of the states, near its section
        count = fit(count, behind + WORD + 3, glyphs.ellipsis)
    title = fit(strip_markdown(section.title), width - 4 - cell_len(count), glyphs.ellipsis)
    return row(
        (chosen, "key" if letters else "accent"),
        (f"{fold} ", "muted"),
        (f"{title} ", "title"),
        (count, role),
        target=target,
    )


def _step_row(
    state: ScreenState,
    status: StepStatus,
    label: tuple[str, str],
    letter: str | None,
    target: str,
    glyphs: Glyphs,
    width: int,
) -> Row:
    step, facts = status.step, state.snapshot.facts.get(status.step.key)
    sign = sign_of(state, status)
    mark = glyphs.mark if step.key in state.marks else " "
    chosen = letter or (glyphs.cursor if step.key == state.key else " ")
    number_text = fit(step.number, number_width(state))
    roomy = width >= ROOMY
    word = fit(sign.word, WORD) if roomy else sign.word
    tail: list[Span] = [(f" {glyphs.sign(sign)} {word}{' ' if roomy else ''}", sign.role)]
    for name, cells, least in COLUMNS:
        if width >= least:
            tail.append(_cell(name, cells, state, status, facts, glyphs))
    room = width - 2 - cell_len(number_text) - sum(cell_len(text) for text, _ in tail)
    return row(
        (chosen, "key" if state.jump else "accent"),
        (mark, "key"),
        (number_text, "muted"),
        *_label(*label, room, glyphs),
        *tail,
        target=target,
    )


def _cell(
    name: str, cells: int, state: ScreenState, status: StepStatus, facts: StepFacts | None, glyphs: Glyphs
) -> Span:
    """One column of a step, in exactly `cells` cells."""
    running = status.state is StepState.RUNNING
    if name == "rests on":
        sign = sign_of(state, status)
        role = sign.role if sign.role in ("warn", "bad") else "text"
        return f" {fit(rests_on_words(status), cells - 1, glyphs.ellipsis)}", role
    if facts is None:
        return " " * cells, "text"
    if name == "by":
        return f" {fit(facts.by, cells - 1, glyphs.ellipsis)}", "muted"
    if name == "age":
        age = "now" if running else short_age(state.now() - facts.moment_s if facts.moment_s is not None else None)
        return f"{age:>{cells}}", "muted"
    if name == "took":
        return f"{took(took_s(state, facts)):>{cells}}", "muted"
    if name == "headline":
        return f" {fit(figure_text(facts.figure), cells - 1, glyphs.ellipsis)}", "text"
    shown = trend(facts.trend, cells - 1, glyphs) if len(facts.trend) > 1 else ""
    return f" {fit(shown, cells - 1)}", "chart"


def took_s(state: ScreenState, facts: StepFacts | None) -> float | None:
    """How long the newest run took, or has been running; None if it is not known."""
    newest = facts.newest if facts is not None else None
    if newest is None:
        return None
    if newest.alive and newest.began_s is not None:
        return max(0.0, state.now() - newest.began_s)
    return newest.took_s


def figure_text(figure: Figure | None) -> str:
    """A figure with its unit: `26.8 QPS`, `64K peak 139.8 GiB`."""
    if figure is None:
        return ""
    value = number(figure.value)
    text = f"{value} {figure.unit}".strip() if figure.value is not None else value
    return text if figure.unit in ("QPS", "tokens/s", "×") else f"{figure.label} {text}"


def _label(name: str, different: str, room: int, glyphs: Glyphs) -> list[Span]:
    """The item's label in exactly `room` cells; the part that differs from similar items gets up to half of them."""
    name = list_label(name)
    share = min(cell_len(different), max(room // 2, room - cell_len(name) - 1))
    if not share:
        return [(fit(name, room, glyphs.ellipsis), "text")]
    head = fit(name, min(cell_len(name), room - share - 1), glyphs.ellipsis)
    return [(head, "text"), (fit(f" {different}", room - cell_len(head), glyphs.ellipsis), "text")]
