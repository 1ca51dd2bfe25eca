"""Rows that several panes and dialogs use: headings, paragraphs, labels, commands, progress, metrics, gates."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.command_end import limits_of
from llmval_tui.runs.records import Gate, Outcome, State
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import duration, fit, fit_middle, hard_wrap, number, wrap
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.drawing.rows import Row, Span, row

if TYPE_CHECKING:
    from llmval_tui.runs.records import Artifact, Command
    from llmval_tui.runs.store import LogFile
    from llmval_tui.tui.data.run_follower import RunSnapshot


LEAST_BAR = 8  # cells of a bar of progress
LEAST_GATE_NAME = 28  # columns of a gate's name; more in a wide pane
LONGEST_MEASURED = 36
LEAST_REQUIRED = 24


def heading(text: str, width: int, glyphs: Glyphs, note: str = "", role: str = "muted") -> list[Row]:
    """A blank row, then a heading with a rule and a note at its end."""
    rule = glyphs.rule * max(0, width - cell_len(text) - cell_len(note) - 4 - (1 if note else 0))
    spans: list[Span] = [(f" {text} ", "accent"), (rule, "track")]
    if note:
        spans.append((f" {note} ", role))
    return [row(), row(*spans)]


def paragraph(text: str, role: str, width: int, indent: int = 1) -> list[Row]:
    """Wrapped text."""
    return [row((" " * indent + line, role)) for line in wrap(clean_line(text), width - indent - 1)]


def labelled(label: str, text: str, role: str, width: int) -> list[Row]:
    """A label in the left column with wrapped text beside it."""
    head = f" {label} ".ljust(12)
    room = max(12, width - len(head) - 1)
    lines = wrap(clean_line(text), room)
    return [row((head if not index else " " * len(head), "muted"), (line, role)) for index, line in enumerate(lines)]


def artifact_rows(artifacts: "Sequence[Artifact]", width: int, label: str = "leaves") -> list[Row]:
    """The artifacts of a proposal, with `<run id>` in place of the id that is not known yet."""
    from llmval_tui.runs.store import RUN_ID_PLACEHOLDER

    rows: list[Row] = []
    for artifact in artifacts:
        rows += labelled(label, artifact.path.replace(RUN_ID_PLACEHOLDER, "<run id>"), "code", width)
    return rows


def command_rows(commands: "Sequence[Command]", width: int) -> list[Row]:
    """Each command as it would be typed."""
    rows: list[Row] = []
    for command in commands:
        for index, line in enumerate(wrap(clean_line(command.display), width - 5)):
            rows.append(row((" $ " if not index else "   ", "key"), (line, "code")))
        if command.hidden_env:
            rows += labelled("with", command.hidden_env, "muted", width)
        if command.script is not None:
            rows += labelled(
                command.script.name, f"line {command.line}, SHA-256 {command.script.sha256}", "muted", width
            )
            for line in command.script.text.splitlines():
                rows += [row((f"   {piece}", "code")) for piece in hard_wrap(clean_line(line), width - 4)]
        for line in limits_of(command):
            rows += labelled("limit", line, "muted", width)
    return rows


def progress_rows(run: "RunSnapshot", width: int, glyphs: Glyphs) -> list[Row]:
    """Phase, bar, time left."""
    from llmval_tui.tui.widgets.sparkline import bar

    progress = run.progress
    running = run.state is not State.STARTING  # most commands are not runners and never report progress
    phase = progress.phase or (("running" if running else "starting") if run.alive else "no phase seen")
    if progress.phase_index is not None and progress.phase_total:
        phase += f" ({progress.phase_index} of {progress.phase_total})"
    rows = [row((" phase".ljust(12), "muted"), (phase, "busy" if run.alive else "text"))]
    if progress.done is None:
        # Always shown, so that nothing moves when the first value arrives.
        none_yet = "none reported in this phase so far" if progress.phase else "none reported so far"
        waiting = none_yet if run.alive else "nothing was reported"
        return [*rows, row((" progress".ljust(12), "muted"), (waiting, "muted"))]
    unit = f" {progress.unit}" if progress.unit else ""
    if progress.fraction is None or progress.total is None:
        rows.append(row((" done".ljust(12), "muted"), (f"{number(progress.done)}{unit}, end not known", "text")))
        return rows
    tail = f" {progress.fraction:>4.0%}  {number(progress.done)}/{number(progress.total)}{unit}"
    if run.eta_s is not None and run.alive:
        left = f"  {duration(run.eta_s)} left"
        tail += left if 13 + LEAST_BAR + cell_len(tail + left) <= width else ""  # half a figure is a wrong one
    filled, empty = bar(progress.fraction, max(LEAST_BAR, width - 13 - cell_len(tail)), glyphs)
    rows.append(row((" progress".ljust(12), "muted"), (filled, "busy"), (empty, "track"), (tail, "text")))
    return rows


def trace_rows(
    values: Sequence[float | None], first: int, label: str, unit: str, top: float, width: int, glyphs: Glyphs
) -> list[Row]:
    """The newest values in two rows, the last one and their peak; `first` is the number of the oldest."""
    from llmval_tui.tui.widgets.sparkline import tall_sparkline

    last = values[-1] if values else None
    highest = max((value for value in values if value is not None), default=None)
    peak = "" if highest is None else f"{glyphs.peak}{number(highest)}"
    room = max(8, width - 37)
    part = values[-2 * room - 2 :]
    upper, lower = tall_sparkline(part, top, room, 2, glyphs, first + len(values) - len(part))
    value = number(last) if last is None else f"{number(last)} {unit}"
    return [
        row((" " * 12, "text"), (upper, "chart")),
        row(
            (fit(f" {label}", 12, glyphs.ellipsis), "muted"),
            (lower, "chart"),
            (" " + fit(value, 16), "warn" if last is None else "title"),
            (fit(peak, 8), "muted"),
        ),
    ]


def gate_rows(gates: Sequence[Gate], width: int, glyphs: Glyphs, summary: str = "") -> list[Row]:
    """The gates of a verdict as a table (short lines in a narrow pane), with a reason for each that did not pass.

    What stands in the `summary` above them is not said again.
    """
    if not gates:
        return []
    word = max(cell_len(OUTCOME_SIGNS[gate.outcome].word) for gate in gates)
    said = {id(gate): _measured(gate, summary) for gate in gates}
    longest = max(map(cell_len, said.values()))
    beside = 3 + word + 2 + 2 + min(LONGEST_MEASURED, max(longest, len("measured"))) + 3 + LEAST_REQUIRED
    name = min(max(LEAST_GATE_NAME, width - beside), max(cell_len(clean_line(gate.title)) for gate in gates))
    lead = 3 + word + 2 + name + 2
    measured = min(LONGEST_MEASURED, max(longest, len("measured")), (width - lead) // 2)
    required = width - lead - measured - 3
    columns = required >= LEAST_REQUIRED
    rows = [row()]
    if columns:
        rows.append(row((" " * lead + fit("measured", measured + 2) + "required", "muted")))
    for gate in gates:
        sign = OUTCOME_SIGNS[gate.outcome]
        head = (
            (f" {glyphs.sign(sign)} {fit(sign.word, word)}  ", sign.role),
            (fit_middle(clean_line(gate.title), name, glyphs.ellipsis) + "  ", "title"),
        )
        if columns:
            left, right = wrap(said[id(gate)], measured), wrap(clean_line(str(gate.bound)), required)
            lines = [(fit(a or "", measured + 2), b or "") for a, b in zip_longest(left, right)]
        else:
            text = clean_line(f"{said[id(gate)]}  (required: {gate.bound})")
            lines = [(line, "") for line in wrap(text, max(16, width - lead - 1))]
        for index, (first, second) in enumerate(lines):
            start = head if not index else ((" " * lead, "text"),)
            rows.append(row(*start, (first, "text"), (second, "muted")))
        if gate.reason and gate.outcome is not Outcome.PASS and clean_line(gate.reason) not in summary:
            rows += paragraph(gate.reason, sign.role, width, 5)
    return rows


def _measured(gate: Gate, summary: str) -> str:
    """What a gate measured; only its beginning if the summary above has it in full."""
    measured = clean_line(str(gate.measured))
    return measured.partition(": ")[0] if gate.outcome is not Outcome.PASS and measured in summary else measured


def tail_rows(run: "RunSnapshot", width: int, count: int, glyphs: Glyphs) -> list[Row]:
    """The last `count` lines."""
    room = width - 2
    lines = [line if cell_len(line) <= room else fit(line, room, glyphs.ellipsis) for line in run.tail[-count:]]
    return [row((f" {line}", "code")) for line in lines]


def log_name(log: "LogFile") -> str:
    """The name of a log for people: `main, rank 3, stderr`."""
    rank = "command" if log.rank is None else f"rank {log.rank}"
    return f"{log.label}, {rank}, {log.stream}"
