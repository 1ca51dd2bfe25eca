"""Rows that several panes and dialogs are made of: headings, paragraphs, labels, commands, progress, metrics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import duration, fit, number, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.rows import Row, Span, row

if TYPE_CHECKING:
    from llmval_tui.runs.records import Artifact, Command
    from llmval_tui.tui.data.run_follower import MetricSeries, RunSnapshot


def heading(text: str, width: int, glyphs: Glyphs, note: str = "", role: str = "muted") -> list[Row]:
    """A heading with a rule behind it, then a note in its role; a blank row before it."""
    rule = glyphs.rule * max(0, width - cell_len(text) - cell_len(note) - 4 - (1 if note else 0))
    spans: list[Span] = [(f" {text} ", "accent"), (rule, "track")]
    if note:
        spans.append((f" {note} ", role))
    return [row(), row(*spans)]


def paragraph(text: str, role: str, width: int, indent: int = 1) -> list[Row]:
    """Wrapped text."""
    return [row((" " * indent + line, role)) for line in wrap(clean_line(text), width - indent - 1)]


def labelled(label: str, text: str, role: str, width: int) -> list[Row]:
    """A label in a column of its own with text beside it, wrapped there."""
    head = f" {label} ".ljust(12)
    room = max(12, width - len(head) - 1)
    lines = wrap(clean_line(text), room)
    return [row((head if not index else " " * len(head), "muted"), (line, role)) for index, line in enumerate(lines)]


def artifact_rows(artifacts: "Sequence[Artifact]", width: int, label: str = "leaves") -> list[Row]:
    """What a proposal promises to leave; the run's id is not known before the run is made, and is said so."""
    from llmval_tui.runs.store import RUN_ID_PLACEHOLDER

    rows: list[Row] = []
    for artifact in artifacts:
        rows += labelled(label, artifact.path.replace(RUN_ID_PLACEHOLDER, "<run id>"), "code", width)
    return rows


def command_rows(commands: "Sequence[Command]", width: int, glyphs: Glyphs) -> list[Row]:
    """Each command as it would be typed."""
    rows: list[Row] = []
    for command in commands:
        for index, line in enumerate(wrap(clean_line(command.display), width - 5)):
            rows.append(row((" $ " if not index else "   ", "key"), (line, "code")))
        if command.hidden_env:
            rows += labelled("with", command.hidden_env, "muted", width)
    return rows


def progress_rows(run: "RunSnapshot", width: int, glyphs: Glyphs) -> list[Row]:
    """Phase, bar, time left."""
    from llmval_tui.runs.records import State
    from llmval_tui.tui.widgets.sparkline import bar

    progress = run.progress
    at_work = run.state is not State.STARTING  # most commands are no runner, and report nothing all their life
    phase = progress.phase or (("running" if at_work else "starting") if run.alive else "no phase seen")
    if progress.phase_index is not None and progress.phase_total:
        phase += f" ({progress.phase_index} of {progress.phase_total})"
    rows = [row((" phase".ljust(12), "muted"), (phase, "busy" if run.alive else "text"))]
    if progress.done is None:
        # The row is there from the start, so that nothing jumps when the first figure comes.
        told = "none reported in this phase so far" if progress.phase else "none reported so far"
        waiting = told if run.alive else "nothing was reported"
        return [*rows, row((" progress".ljust(12), "muted"), (waiting, "muted"))]
    unit = f" {progress.unit}" if progress.unit else ""
    if progress.fraction is None or progress.total is None:
        rows.append(row((" done".ljust(12), "muted"), (f"{number(progress.done)}{unit}, end not known", "text")))
        return rows
    tail = f" {progress.fraction:>4.0%}  {number(progress.done)}/{number(progress.total)}{unit}"
    if run.eta_s is not None and run.alive:
        tail += f"  {duration(run.eta_s)} left"
    filled, empty = bar(progress.fraction, max(8, width - 13 - cell_len(tail)), glyphs)
    rows.append(row((" progress".ljust(12), "muted"), (filled, "busy"), (empty, "track"), (tail, "text")))
    return rows


def metric_rows(
    metric: "MetricSeries",
    label: str,
    unit: str,
    top: float,
    width: int,
    glyphs: Glyphs,
    height: int,
    *,
    past: bool = False,
) -> list[Row]:
    """One metric: its name, its chart, its newest value and its peak. `past`: the run is over, the value an old one."""
    from llmval_tui.tui.widgets.sparkline import tall

    last = metric.values[-1] if metric.values else None
    name = 12 if len(label) <= 11 else 24
    peak = f"{glyphs.peak}{number(metric.peak)}" if metric.peak is not None else ""
    room = max(8, width - name - 25)
    values = metric.values[-2 * room - 2 :]
    first = metric.first + len(metric.values) - len(values)
    drawn = tall(values, top, room, height, glyphs, first)
    role = "chart2" if label in ("completed", "p99", "queued") else "chart"
    value = number(last) if last is None else f"{number(last)} {unit}"
    rows = [row((" " * name, "text"), (line, role)) for line in drawn[:-1]]
    rows.append(
        row(
            (fit(f" {label}", name, glyphs.ellipsis), "muted"),
            (drawn[-1], role),
            (" " + fit(value, 16), "warn" if last is None else "muted" if past else "title"),
            (fit(peak, 8), "muted"),
        )
    )
    return rows
