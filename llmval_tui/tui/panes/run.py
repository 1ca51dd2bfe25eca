"""The Run pane: what the item will do, then its progress, then its verdict."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from llmval_tui.actions.rests_on import IN_WORDS
from llmval_tui.actions.step_state import StepState
from llmval_tui.actions.tick_basis import signature
from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import NOT_AVAILABLE, duration, fit, number, parse_utc, wrap
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.labels import strip_markdown
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.text_rows import (
    artifact_rows,
    command_rows,
    gate_rows,
    heading,
    labelled,
    metric_rows,
    paragraph,
    progress_rows,
)

if TYPE_CHECKING:
    from llmval_tui.actions.api import Proposal
    from llmval_tui.actions.step_state import StepStatus
    from llmval_tui.runs.records import Verdict
    from llmval_tui.runs.store import LogFile
    from llmval_tui.telemetry.sample import GpuSample
    from llmval_tui.tui.data.run_follower import RunSnapshot

UTC = timezone.utc  # noqa: UP017


class RunPane(ScrollPane):
    """The chosen step and its shown run."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="run")
        self.state = state

    def content(self, width: int) -> Sequence[Row]:
        return run_rows(self.state, width, self.glyphs)


def run_rows(state: ScreenState, width: int, glyphs: Glyphs) -> list[Row]:
    """The pane's rows."""
    rows: list[Row] = []
    if state.snapshot.problem:
        rows += paragraph(
            "The list on disk could not be read; this is the last good one. " + state.snapshot.problem,
            "bad",
            width,
        )
        rows.append(row())
    for hindrance in state.snapshot.hindrances:
        rows += labelled("held up", clean_line(hindrance.sentence), "bad", width)
    for sentence in state.snapshot.unreadable:
        rows += labelled("unreadable", clean_line(sentence), "bad", width)
    status = state.snapshot.status(state.key)
    if status is None:
        rows.append(row((" choose a step", "muted")))
        return rows
    sign = state.sign(status.step, status.state)
    rows.append(row((f" {status.step.number} ", "title"), (f" {glyphs.sign(sign)} {sign.word}", sign.role)))
    rows += paragraph(strip_markdown(status.step.text), "text", width)
    if status.step.deviation:
        rows += labelled("deviation on record", status.step.deviation, "warn", width)
    rows += basis_rows(status, width)
    detail = state.detail
    if detail is None:
        return [*rows, row(), row((" looking it up", "muted"))]
    run = detail.run
    if run is not None and (run.alive or run.verdict is not None or detail.back):
        rows += run_section(run, state.now(), width, glyphs, f"run {detail.runs - detail.back} of {detail.runs}")
        if run.alive:
            rows += now_section(run, state, width, glyphs)
        rows += tail_section(run, width, glyphs)
    if run is None or not run.alive:
        rows += proposal_section(detail.proposal, width, glyphs)
    if run is not None and not run.alive and run.verdict is None and not detail.back:
        rows += run_section(run, state.now(), width, glyphs, f"run {detail.runs} of {detail.runs}")
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
    by_run = f", run {basis.run_id}" if basis.run_id else ""
    role = "good" if status.state is StepState.MEASURED else "text"
    rows += labelled("tick rests on", f"{IN_WORDS[basis.rests_on]}{by_run}", role, width)
    for note in basis.notes:
        rows += labelled("note", clean_line(f"{signature(note)}{note.text}"), "text", width)
    if basis.contradicts:
        rows += labelled("contradicts", f"run {basis.contradicts}, which failed", "warn", width)
    return rows


def proposal_section(proposal: "Proposal | None", width: int, glyphs: Glyphs) -> list[Row]:
    """The proposal: the effect of running the item now."""
    if proposal is None:
        return []
    rows = heading("What it will do", width, glyphs, proposal.action)
    rows += paragraph(proposal.summary, "text", width)
    if proposal.refusal:
        rows += labelled("cannot run", proposal.refusal, "warn", width)
    rows += command_rows(proposal.commands, width, glyphs)
    for detail in proposal.details:
        lines = wrap(clean_line(detail), width - 5)
        rows += [
            row((f" {glyphs.bullet} " if not i else "   ", "muted"), (line, "text")) for i, line in enumerate(lines)
        ]
    rows += artifact_rows(proposal.artifacts, width)
    for deviation in proposal.deviations:
        rows += labelled("deviation", deviation, "warn", width)
    return rows


def run_section(run: "RunSnapshot", now: float, width: int, glyphs: Glyphs, which: str) -> list[Row]:
    """The run: its progress while it runs, then its verdict."""
    rows = heading(f"Run {run.state}" if run.verdict is None else "Verdict", width, glyphs, which)
    if run.verdict is not None:
        rows += verdict_rows(run.verdict, width, glyphs)
    else:
        rows += progress_rows(run, width, glyphs)
        if run.alive:
            rows += command_rows(run.intent.commands, width, glyphs)
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
    if run.status.cancelled:
        rows += labelled("cancelled", f"by {run.status.cancelled}", "warn", width)
    for deviation in run.intent.deviations:
        rows += labelled("deviation", deviation, "warn", width)
    for note in (*run.status.notes, *run.progress.problems[-5:]):
        rows += labelled("note", note, "warn", width)
    return rows


# The metrics with a chart beside the progress, each with label and unit.
GLANCE = (
    ("completed_qps", "completed", "QPS"),
    ("output_tokens_per_s", "output", "tokens/s"),
    ("prefill_tokens_per_s", "prefill", "tokens/s"),
    ("ttft_p99_ms", "TTFT p99", "ms"),
    ("tpot_p99_ms", "TPOT p99", "ms"),
)


def now_section(run: "RunSnapshot", state: ScreenState, width: int, glyphs: Glyphs) -> list[Row]:
    """The main metrics and the hardware, a row each; the panes Load and Telemetry have the rest."""
    from llmval_tui.tui.widgets.sparkline import nice_top

    rows: list[Row] = []
    by_name = {metric.name: metric for metric in run.metrics}
    for name, label, unit in GLANCE:
        if metric := by_name.get(name):
            top = nice_top([metric.peak], 0.1)
            rows += metric_rows(metric, label, unit, top, width, glyphs, 1)
    last = state.live.last
    if last is not None and last.gpus and not state.stale:
        rows.append(row((fit(" GPUs", 12), "muted"), (gpu_summary(last.gpus), "text")))
    return [*heading("Now", width, glyphs), *rows] if rows else []


def gpu_summary(gpus: "Sequence[GpuSample]") -> str:
    """All GPUs in one line: range of utilisation, total power, highest temperature."""
    util = [gpu.sm_util_percent for gpu in gpus if gpu.sm_util_percent is not None]
    power = [gpu.power_w for gpu in gpus if gpu.power_w is not None]
    heat = [gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None]
    parts = [f"util {min(util):.0f} to {max(util):.0f} %" if util else f"util {NOT_AVAILABLE}"]
    parts.append(f"power {sum(power):,.0f} W in total" if len(power) == len(gpus) else f"power {NOT_AVAILABLE}")
    parts.append(f"hottest {max(heat):.0f} °C" if heat else f"temperature {NOT_AVAILABLE}")
    return f"{len(gpus)}: " + ", ".join(parts)


def tail_section(run: "RunSnapshot", width: int, glyphs: Glyphs) -> list[Row]:
    """The last lines of the run's log."""
    if not run.tail or run.tail_of is None:
        return []
    rows = heading("Last lines", width, glyphs, log_name(run.tail_of))
    room = width - 2
    lines = [line if cell_len(line) <= room else fit(line, room, glyphs.ellipsis) for line in run.tail]
    return rows + [row((f" {line}", "code")) for line in lines]


def log_name(log: "LogFile") -> str:
    """The name of a log for people: `main, rank 3, stderr`."""
    rank = "command" if log.rank is None else f"rank {log.rank}"
    return f"{log.label}, {rank}, {log.stream}"


def exit_text(code: int) -> str:
    """An exit code in words."""
    if code == 0:
        return "ended with 0"
    return f"was ended by signal {-code}" if code < 0 else f"ended with {code}"


def verdict_rows(verdict: "Verdict", width: int, glyphs: Glyphs) -> list[Row]:
    """The verdict and its gates."""
    sign = OUTCOME_SIGNS[verdict.outcome]
    rows = [row((f" {glyphs.sign(sign)} {sign.word} ", sign.role))]
    rows += paragraph(verdict.summary, "text", width)
    if verdict.question:
        text = str(verdict.question.get("text", "it waits for your decision"))
        rows += labelled("asks you", f"{text} (press o)", "accent", width)
    rows += gate_rows(verdict.gates, width, glyphs)
    if verdict.metrics:
        rows.append(row())
        figures = [f"{name} {number(value)}" for name, value in verdict.metrics.items()]
        rows += labelled("metrics", " · ".join(figures) if not glyphs.ascii else " | ".join(figures), "text", width)
    return rows
