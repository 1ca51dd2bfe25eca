"""The Run pane: what the item will do, then its progress with its figures and charts, then its verdict."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmval_tui.actions.rests_on import IN_WORDS
from llmval_tui.actions.step_state import StepState
from llmval_tui.actions.tick_basis import signature
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome, State
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import duration, number, parse_utc, wrap
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.labels import strip_markdown
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import ChartView
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.stack import PaneBlock, fixed, stacked
from llmval_tui.tui.widgets.step_blocks import other_command
from llmval_tui.tui.widgets.text_rows import (
    artifact_rows,
    command_rows,
    heading,
    labelled,
    log_name,
    paragraph,
    tail_rows,
)

if TYPE_CHECKING:
    from llmval_tui.actions.api import Proposal
    from llmval_tui.actions.step_state import StepStatus
    from llmval_tui.runs.records import Verdict
    from llmval_tui.tui.data.run_follower import RunSnapshot

MOST_BLANK = 3  # rows at the end of the pane of a running run


class RunPane(ScrollPane):
    """The chosen step and its shown run."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="run")
        self.state = state
        self.view = ChartView()
        self.unfolded = False

    def content(self, width: int) -> Sequence[Row]:
        return run_rows(self.state, width, self.glyphs, self.size.height, self.view, unfolded=self.unfolded)

    def fold_all(self) -> None:
        self.unfolded = not self.unfolded
        self.repaint()

    def next_range(self) -> None:
        self.view.next_range()
        self.repaint()

    def next_window(self) -> None:
        self.view.next_window()
        self.repaint()


def run_rows(
    state: ScreenState,
    width: int,
    glyphs: Glyphs,
    height: int = 0,
    view: ChartView | None = None,
    *,
    unfolded: bool = False,
) -> list[Row]:
    """The pane's rows: as many as fit into `height` if something runs, else all of them."""
    view = view or ChartView()
    rows = problem_rows(state, width)
    status = state.snapshot.status(state.key)
    if status is None:
        return [*rows, row((" choose a step", "muted"))]
    detail = state.detail
    run = detail.run if detail is not None else None
    if run is not None and run.alive:
        head = [*rows, *running_head(state, status, run, width, glyphs)]
        from llmval_tui.tui.panes.run_blocks import running_blocks

        first = fixed("head", head, rank=0)
        shown = stacked([first, *running_blocks(state, run, width, height, glyphs, view)], height)
        if len(shown) >= height - MOST_BLANK:
            return shown
        # At its start a run has few figures and few lines of log: the charts take their rows.
        return stacked([first, *running_blocks(state, run, width, height, glyphs, view, tall=True)], height)
    rows += step_head(state, status, width, glyphs)
    if detail is None:
        return [*rows, row(), row((" looking it up", "muted"))]
    which = "" if run is None else f"run {detail.runs - detail.back} of {detail.runs}"
    if run is not None and (run.verdict is not None or detail.back):
        rows += ended_rows(state, run, which, width, height - len(rows), glyphs, view, unfolded=unfolded)
    rows += proposal_section(detail.proposal, width, glyphs, other_command(state))
    if run is not None and run.verdict is None and not detail.back:
        rows += run_section(run, state.now(), width, glyphs, which)
        rows += tail_section(run, width, glyphs)
    return rows


def problem_rows(state: ScreenState, width: int) -> list[Row]:
    """What is wrong with the list and the records."""
    rows: list[Row] = []
    if state.snapshot.problem:
        rows += paragraph(
            "The list on disk could not be read; this is the last good one. " + state.snapshot.problem, "bad", width
        )
        rows.append(row())
    for hindrance in state.snapshot.hindrances:
        rows += labelled("held up", clean_line(hindrance.sentence), "bad", width)
    for sentence in state.snapshot.unreadable:
        rows += labelled("unreadable", clean_line(sentence), "bad", width)
    return rows


def step_head(state: ScreenState, status: "StepStatus", width: int, glyphs: Glyphs) -> list[Row]:
    """The step in full, its state, and what its tick rests on."""
    sign = state.sign(status.step, status.state)
    rows = [row((f" {status.step.number} ", "title"), (f" {glyphs.sign(sign)} {sign.word}", sign.role), *_node(state))]
    rows += paragraph(strip_markdown(status.step.text), "text", width)
    if status.step.deviation:
        rows += labelled("deviation on record", status.step.deviation, "warn", width)
    return rows + basis_rows(status, width)


def _node(state: ScreenState) -> list[Span]:
    """Which node the pane is about; nothing for a whole run."""
    if state.node is None:
        return []
    back = state.keymap.hint("back")
    return [(f"   node {state.node}", "key"), (f"   {back} back to the fleet" if back else "", "muted")]


def running_head(state: ScreenState, status: "StepStatus", run: "RunSnapshot", width: int, glyphs: Glyphs) -> list[Row]:
    """State, phase and time of a running run in one row, its progress in the next; then what a reader must know."""
    from llmval_tui.tui.widgets.sparkline import bar

    sign = state.sign(status.step, status.state)
    left: list[Span] = [(f" {status.step.number} ", "title"), (f" {glyphs.sign(sign)} {sign.word}", sign.role)]
    left += _node(state)
    left.append((f"  {phase_words(run)}", "text"))
    began = parse_utc(run.status.started_utc)
    since = "" if began is None else f"{duration(state.run_now() - began.timestamp())}"
    right = "" if began is None else f"began {began:%H:%M:%S} UTC, {since} ago "
    used = sum(cell_len(text) for text, _ in left)
    if used + cell_len(right) > width:
        right = f"{since} " if since and used + cell_len(since) + 1 <= width else ""
    rows = [row(*left, (" " * max(0, width - used - cell_len(right)), "text"), (right, "muted"))]
    progress = run.progress
    unit = f" {progress.unit}" if progress.unit else ""
    if progress.fraction is None or progress.total is None:
        # Always shown, so that nothing moves when the first value arrives.
        none = "no progress reported in this phase so far" if progress.phase else "no progress reported so far"
        words = none if progress.done is None else f"{number(progress.done)}{unit}, end not known"
        rows.append(row((f" {words}", "muted")))
    else:
        tail = f" {progress.fraction:>4.0%}  {number(progress.done)}/{number(progress.total)}{unit}"
        left_s = f"  {duration(run.eta_s)} left" if run.eta_s is not None else ""
        tail += left_s if cell_len(tail + left_s) + 10 <= width else ""
        filled, empty = bar(progress.fraction, max(8, width - 2 - cell_len(tail)), glyphs)
        rows.append(row((" ", "text"), (filled, "busy"), (empty, "track"), (tail, "text")))
    if (basis := status.basis) is not None and (basis.contradicted or basis.stale or basis.unreadable):
        rows += basis_rows(status, width)
    return rows + remark_rows(run, width)


def phase_words(run: "RunSnapshot") -> str:
    """The phase of a run, and which of how many it is."""
    progress = run.progress
    # Most commands are no runners and never report a phase.
    phase = progress.phase or ("starting" if run.state is State.STARTING else "no phase reported")
    if progress.phase_index is not None and progress.phase_total:
        phase += f" ({progress.phase_index} of {progress.phase_total})"
    return phase


def remark_rows(run: "RunSnapshot", width: int) -> list[Row]:
    """What a reader of the figures must know: a cancel, deviations, notes, and the problems that the run reported."""
    rows: list[Row] = []
    if run.status.cancelled:
        rows += labelled("cancelled", f"by {run.status.cancelled}", "warn", width)
    for deviation in run.intent.deviations:
        rows += labelled("deviation", deviation, "warn", width)
    for note in (*run.status.notes, *run.progress.problems[-5:]):
        rows += labelled("note", note, "warn", width)
    return rows


def basis_rows(status: "StepStatus", width: int) -> list[Row]:
    """What the tick rests on, and what has happened to that since."""
    rows: list[Row] = []
    basis = status.basis
    if basis is None:
        return rows
    if basis.contradicted:
        rows += labelled("contradicted", clean_line(basis.contradicted), "bad", width)
    for reason in basis.stale:
        rows += labelled("stale", clean_line(reason), "warn", width)
    for reason in basis.unreadable:
        rows += labelled("unreadable", clean_line(reason), "bad", width)
    by_run = f", run {basis.run_id}" if basis.run_id else ""
    role = "good" if status.state is StepState.MEASURED else "text"
    rows += labelled("tick rests on", f"{IN_WORDS[basis.rests_on]}{by_run}", role, width)
    for note in basis.notes:
        rows += labelled("note", clean_line(f"{signature(note)}{note.text}"), "text", width)
    if basis.contradicts:
        rows += labelled("contradicts", f"run {basis.contradicts}, which failed", "warn", width)
    return rows


def proposal_section(proposal: "Proposal | None", width: int, glyphs: Glyphs, label: str = "") -> list[Row]:
    """The proposal: the effect of running the item now; `label` stands above its commands."""
    if proposal is None:
        return []
    rows = heading("What it will do", width, glyphs, proposal.action)
    rows += paragraph(proposal.summary, "text", width)
    if proposal.refusal:
        rows += labelled("cannot run", proposal.refusal, "warn", width)
    rows += [row((f" {label}", "muted"))] if label and proposal.commands else []
    rows += command_rows(proposal.commands, width)
    for detail in proposal.details:
        lines = wrap(clean_line(detail), width - 5)
        rows += [
            row((f" {glyphs.bullet} " if not i else "   ", "muted"), (line, "text")) for i, line in enumerate(lines)
        ]
    rows += artifact_rows(proposal.artifacts, width)
    for deviation in proposal.deviations:
        rows += labelled("deviation", deviation, "warn", width)
    return rows


def ended_rows(
    state: ScreenState,
    run: "RunSnapshot",
    which: str,
    width: int,
    height: int,
    glyphs: Glyphs,
    view: ChartView,
    *,
    unfolded: bool,
) -> list[Row]:
    """An ended run: its outcome, figures and gates, the whole run in charts, and what is behind it."""
    from llmval_tui.tui.panes.run_blocks import ended_blocks

    rows = outcome_rows(state, run, which, width, glyphs) if run.verdict is not None else []
    behind = run_section(run, state.now(), width, glyphs, which if run.verdict is None else "", verdict=False)
    blocks: list[PaneBlock] = [fixed("outcome", rows, rank=0)]
    blocks += ended_blocks(state, run, width, glyphs, view, unfolded=unfolded)
    tail = tail_section(run, width, glyphs)
    wanted = run.verdict is not None and run.verdict.outcome is not Outcome.PASS
    blocks += [fixed("tail", tail, rank=4)] if wanted else []
    blocks.append(fixed("behind", behind, rank=5))
    blocks += [] if wanted else [fixed("tail", tail, rank=6)]
    # All of it, because one can scroll; charts have their least height if there is more than fits.
    least = sum(one.block.least for one in blocks)
    return stacked(blocks, max(height, least))


def outcome_rows(state: ScreenState, run: "RunSnapshot", which: str, width: int, glyphs: Glyphs) -> list[Row]:
    """The outcome, which run it is, when it was and how long it took; its summary if it did not pass; its question."""
    verdict = run.verdict
    assert verdict is not None
    sign = OUTCOME_SIGNS[verdict.outcome]
    began, ended = parse_utc(run.status.started_utc), parse_utc(run.status.ended_utc)
    right = ""
    if began is not None:
        took = f", took {duration((ended - began).total_seconds())}" if ended is not None else ", end not seen"
        right = f" {began:%Y-%m-%d %H:%M:%S} UTC{took}"
    left: list[Span] = [
        (" Verdict ", "accent"),
        (f" {glyphs.sign(sign)} {sign.word}", sign.role),
        (f"  {which} ", "muted"),
    ]
    used = sum(cell_len(text) for text, _ in left)
    rule = glyphs.rule * max(0, width - used - cell_len(right) - 1)
    rows = [row(), row(*left, (rule, "track"), (right if rule else "", "muted"))]
    rows += paragraph(verdict.summary, "text", width)
    if run.gpus is not None:
        from llmval_tui.tui.widgets.gpu_line import gpu_line_rows

        rows += gpu_line_rows(run.gpus, width)
    if verdict.question:
        text = str(verdict.question.get("text", "it waits for your decision"))
        key = state.keymap.hint("answer")
        rows += labelled("asks you", f"{text} (press {key})" if key else text, "accent", width)
    return rows + remark_rows(run, width)


def run_section(
    run: "RunSnapshot", now: float, width: int, glyphs: Glyphs, which: str, *, verdict: bool = True
) -> list[Row]:
    """What is behind a run: its id, times, exit codes and command; `verdict`: also its remarks."""
    from llmval_tui.tui.widgets.text_rows import progress_rows

    title = "Behind it" if run.verdict is not None else f"Run {run.state}"
    rows = heading(title, width, glyphs, which)
    if run.verdict is None:
        rows += progress_rows(run, width, glyphs)
        if run.alive:
            rows += labelled("gates", "judged when the run has ended", "muted", width)
    rows += labelled("run", run.id, "code", width)
    began, ended = parse_utc(run.status.started_utc), parse_utc(run.status.ended_utc)
    if began:
        elapsed = duration(((ended or datetime.fromtimestamp(now, UTC)) - began).total_seconds())
        running = run.alive and run.verdict is None
        lasted = f"took {elapsed}" if ended else f"for {elapsed}" if running else "end not seen"
        rows += labelled("began", f"{began:%Y-%m-%d %H:%M:%S} UTC, {lasted}", "text", width)
    for command in run.status.commands:
        if command.exit_code is not None:
            ranks = ", ".join(f"rank {rank}: {code}" for rank, code in command.ranks.items() if code)
            text = f"{command.label}: {exit_text(command.exit_code)}" + (f" ({ranks})" if ranks else "")
            rows += labelled("exit", text, "text" if command.exit_code == 0 else "bad", width)
    if run.verdict is not None:
        for evidence in run.verdict.evidence:
            rows += labelled("evidence", f"{evidence.path}, SHA-256 {evidence.sha256[:8]}…", "code", width)
        rows += metrics_row(run.verdict, width, glyphs)
        rows += [row((" ran", "muted"))] if run.intent.commands else []
        rows += command_rows(run.intent.commands, width)
    return rows + (remark_rows(run, width) if verdict else [])


def metrics_row(verdict: "Verdict", width: int, glyphs: Glyphs) -> list[Row]:
    """Every metric of a verdict by its name."""
    figures = [f"{name} {number(value)}" for name, value in verdict.metrics.items()]
    return labelled("metrics", f" {glyphs.dot} ".join(figures), "text", width) if figures else []


def tail_section(run: "RunSnapshot", width: int, glyphs: Glyphs) -> list[Row]:
    """The last lines of the run's log."""
    if not run.tail or run.tail_of is None:
        return []
    return heading("Last lines", width, glyphs, log_name(run.tail_of)) + tail_rows(run, width, len(run.tail), glyphs)


def exit_text(code: int) -> str:
    """An exit code in words."""
    if code == 0:
        return "ended with 0"
    return f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
