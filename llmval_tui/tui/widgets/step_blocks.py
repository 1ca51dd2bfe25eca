"""What stands below the list if there is room: services, what needs a person, the step in full, its last runs."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from llmval_tui.actions.headline import Figure
from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.format import cut, fit, number, short_age, took, wrap
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, STEP_SIGNS, Glyphs, Sign
from llmval_tui.tui.data.run_history import RunRow, figure_value
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.labels import strip_markdown
from llmval_tui.tui.drawing.markdown_text import read_markdown
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.drawing.step_rows import StepRows
from llmval_tui.tui.drawing.step_words import need_of, sign_of, waiting
from llmval_tui.tui.drawing.trend import trend_signs
from llmval_tui.tui.widgets.gate_groups import kind_of
from llmval_tui.tui.widgets.text_rows import heading

MOST_NEEDS = 5
LEAST_LIST = 8  # rows of a long list that stay
FIXED_STEP = 9  # rows of the step in full below a list that scrolls: then nothing moves when another is chosen
LEAST_FOR_NEEDS, LEAST_FOR_STEP = 20, 34  # rows of the whole column from which a list that scrolls leaves room
FIGURE = 11  # cells of a figure in the table of runs
LEAST_FOR_MORE = 6  # blank rows from which on they are worth a block more
UNJUDGED = Sign("◔", "~", "judging", "busy")


def allot(list_rows: int, height: int, needs: int) -> tuple[int, int]:
    """The rows of the list, and those of the blocks below it; `needs` is the height of what needs a person."""
    if list_rows <= height:
        return list_rows, height - list_rows
    below = 0
    if height >= LEAST_FOR_NEEDS:
        below = needs
    if height >= LEAST_FOR_STEP:
        below += FIXED_STEP
    below = min(below, height - LEAST_LIST)
    return height - max(0, below), max(0, below)


def block_rows(state: ScreenState, keys: StepRows, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The blocks, as many of them as fit into `height` rows; each is whole, or cut at its end if it is the first."""
    found: list[Row] = []

    def add(rows: Sequence[Row]) -> None:
        if len(rows) > 1 and height - len(found) >= 3:  # a blank row, a heading and one row
            found.extend(rows[: height - len(found)])

    add(service_rows(state, width, glyphs))
    add(need_rows(state, keys, width, glyphs))
    add(step_in_full(state, width, glyphs))
    add(run_rows(state, width, glyphs, height - len(found)))
    alive = state.run is not None and state.run.alive
    if alive:
        from llmval_tui.tui.widgets.work_blocks import filling_charts, gpu_rows, metric_rows
    if height - len(found) >= LEAST_FOR_MORE:
        from llmval_tui.tui.widgets.more_blocks import (
            gate_list_rows,
            newest_message_rows,
            phase_rows,
            result_rows,
        )

        add(result_rows(state, keys, width, height - len(found), glyphs))
        add(gate_list_rows(state, width, height - len(found), glyphs))
        if alive:
            add(gpu_rows(state, width, height - len(found), glyphs))
        add(phase_rows(state, width, height - len(found), glyphs))
        if alive:
            add(metric_rows(state, width, height - len(found), glyphs))
        add(newest_message_rows(state, width, height - len(found), glyphs))
    if alive:
        found += filling_charts(state, width, height - len(found), glyphs)
    return found


def service_rows(state: ScreenState, width: int, glyphs: Glyphs) -> list[Row]:
    """The services that run beside the list, a row each."""
    lines = state.snapshot.services
    return [row(), *(row((fit(f" {line.text}", width, glyphs.ellipsis), line.role)) for line in lines)] if lines else []


def need_rows(state: ScreenState, keys: StepRows, width: int, glyphs: Glyphs) -> list[Row]:
    """GPUs with a fault in a run, and the steps that wait for a person, the most urgent first, with reason and age."""
    found, faults = waiting(state.snapshot.steps), []
    if state.live.last is not None:  # not before the first picture
        from llmval_tui.tui.widgets.gpu_needs import gpu_need_rows, gpu_needs

        faults = gpu_needs(state)
    if not found and not faults:
        return []
    rows = heading("Needs you", width, glyphs, str(len(found) + len(faults)), "key")
    rows += gpu_need_rows(faults, width) if faults else []
    targets = {key: target for target, key in keys.keys.items()}
    for status in found[:MOST_NEEDS]:
        facts = state.snapshot.facts.get(status.step.key)
        sign = sign_of(state, status)
        age = short_age(state.now() - facts.moment_s if facts is not None and facts.moment_s is not None else None)
        head = f" {glyphs.sign(sign)} {status.step.number} "
        tail = f"{age:>5} "
        text = fit(need_of(status, state.keymap.hint("answer")), width - len(head) - len(tail), glyphs.ellipsis)
        rows.append(row((head, sign.role), (text, "text"), (tail, "muted"), target=targets.get(status.step.key)))
    if len(found) > MOST_NEEDS:
        rows.append(row((fit(f"   {len(found) - MOST_NEEDS} more", width), "muted")))
    return rows


def step_in_full(state: ScreenState, width: int, glyphs: Glyphs) -> list[Row]:
    """The chosen step: why it has its state, its words, its command, and what judges it."""
    status = state.snapshot.status(state.key)
    if status is None:
        return []
    facts = state.snapshot.facts.get(status.step.key)
    newest = facts.newest if facts is not None else None
    history = state.detail.history if state.detail is not None else ()
    notes = []
    if (last := next((one.took_s for one in history if one.took_s is not None), None)) is not None:
        notes.append(f"took {took(last)} last time")
    if newest is not None and newest.gpus:
        notes.append(f"{newest.gpus} GPU{'s' if newest.gpus != 1 else ''}")
    rows = heading(f"Step {status.step.number}", width, glyphs, ", ".join(notes))
    reason = need_of(status)
    if status.state not in (StepState.RUNNING, StepState.JUDGING) and reason:
        sign = sign_of(state, status)
        rows += [row((f" {line}", sign.role)) for line in wrap(reason, width - 2)]
    words = strip_markdown(status.step.text)
    commands = state.detail.proposal.commands if state.detail and state.detail.proposal else ()
    if not commands and state.run is not None:
        commands = tuple(state.run.intent.commands)
    if commands:
        words = read_markdown(status.step.text, lambda span: span if " " not in span.strip() else "…")
        words = "" if words.strip(" .:…").casefold() in ("run", "") else words.replace("…", glyphs.ellipsis)
    rows += [row((f" {line}", "text")) for line in wrap(words, width - 2)] if words else []
    if would_run := other_command(state):
        rows.append(row((f" {would_run}", "muted")))
    for command in commands:
        for index, line in enumerate(wrap(clean_line(command.display), width - 5)):
            rows.append(row((" $ " if not index else "     ", "key"), (line, "code")))
    rows += _judged_by(state, status, width)
    return rows


def other_command(state: ScreenState) -> str:
    """The label of the command of a new run, if the shown run ended and ran another; else ""."""
    run, proposal = state.run, state.detail.proposal if state.detail is not None else None
    if run is None or run.alive or proposal is None or not proposal.commands:
        return ""
    if [one.display for one in run.intent.commands] == [one.display for one in proposal.commands]:
        return ""
    key = state.keymap.hint("run")
    return f"{key} would run" if key else "a new run would run"


def _judged_by(state: ScreenState, status: StepStatus, width: int) -> list[Row]:
    """What judged the step last; before that, what will."""
    run = state.run
    verdict = run.verdict if run is not None and run.verdict is not None else status.verdict
    if verdict is not None and verdict.gates:
        kinds = Counter(kind_of(gate) for gate in verdict.gates if gate.outcome is Outcome.PASS)
        count = f"{kinds.total()} of {len(verdict.gates)} gates passed"
        text = ": ".join(filter(None, (count, ", ".join(f"{kind} {number}" for kind, number in kinds.items()))))
        return [row((f" {line}", "muted")) for line in wrap(text, width - 2)]
    proposal = state.detail.proposal if state.detail is not None else None
    details = [detail for detail in (proposal.details if proposal is not None else ()) if "judge" in detail.casefold()]
    return [row((f" {line}", "muted")) for detail in details for line in wrap(clean_line(detail), width - 2)]


def outcome_sign(shown: RunRow) -> Sign:
    """The sign of a run in a table of runs."""
    if shown.outcome is not None:
        return OUTCOME_SIGNS[shown.outcome]
    return STEP_SIGNS[StepState.RUNNING] if shown.alive else UNJUDGED


def figures_of(history: Sequence[RunRow]) -> list[Figure]:
    """The figures that a table of these runs has as columns: those of the newest run that has any."""
    return list(next((one.figures for one in history if one.figures), ()))


def run_rows(state: ScreenState, width: int, glyphs: Glyphs, height: int) -> list[Row]:
    """The newest runs of the chosen step, and the trend of their first figure."""
    detail = state.detail
    history = detail.history if detail is not None else ()
    if detail is None or not history:
        return []
    status = state.snapshot.status(state.key)
    judged = [one for one in history if one.outcome is not None]
    passed = sum(one.outcome is Outcome.PASS for one in judged)
    keys = state.keymap.pane_hint("runs", "all") if detail.runs > 1 else ""
    note = f"{passed} of {len(judged)} passed   {keys}".rstrip() if judged else keys
    rows = heading(f"Runs of {status.step.number if status else ''}", width, glyphs, note)
    figures = figures_of(history)[: max(0, (width - 28) // FIGURE)]
    heads = "".join(f"{cut(_short(figure), FIGURE - 1, glyphs.ellipsis):>{FIGURE}}" for figure in figures)
    rows.append(row((f" outcome{'when':>12}{'took':>8}{heads}", "muted")))
    for one in history[: max(1, height - 4)]:  # a blank row, a heading, the names of the columns, the trend
        rows.append(row(*run_spans(one, figures, state.now(), glyphs)))
    if figures and len(judged) > 1:
        values = [figure_value(one, figures[0].name) for one in reversed(judged[: max(4, width - 40)])]
        spans: list[Span] = [(f" {_short(figures[0])}, oldest first  ", "muted")]
        spans += [(sign, "warn" if outside else "chart") for sign, outside in trend_signs(values, glyphs)]
        rows.append(row(*spans))
    return rows


def run_spans(one: RunRow, figures: Sequence[Figure], now: float, glyphs: Glyphs) -> list[Span]:
    """One run in the short table below the list."""
    sign = outcome_sign(one)
    moment = one.judged_s or one.began_s
    age = "now" if one.alive else short_age(now - moment if moment is not None else None)
    lasted = one.took_s if not one.alive or one.began_s is None else now - one.began_s
    values = [figure_value(one, figure.name) for figure in figures]
    cells = chain.from_iterable(
        [(f"{glyphs.dash if value is None else number(value):>{FIGURE}}", "text" if value is not None else "muted")]
        for value in values
    )
    return [
        (f" {glyphs.sign(sign)} {sign.word:<13}", sign.role),
        (f"{age:>4}", "muted"),
        (f"{took(lasted):>8}", "text"),
        *cells,
    ]


def _short(figure: Figure) -> str:
    return figure.unit if figure.label == "completed" else figure.label
