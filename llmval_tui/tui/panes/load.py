"""The Load pane: each metric of a run as a chart with its unit, newest value and peak."""

from collections.abc import Sequence

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.format import number
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.data.run_follower import RunSnapshot
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.sparkline import nice_top
from llmval_tui.tui.widgets.text_rows import heading, metric_rows, paragraph, progress_rows

# The charts of a group share one range, so that they can be compared: offered with completed, p50 with p99.
GROUPS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Rate", "QPS", (("offered_qps", "offered"), ("achieved_qps", "achieved"), ("completed_qps", "completed"))),
    ("Prefill", "tokens/s", (("prefill_tokens_per_s", "rate"),)),
    ("Decode", "tokens/s", (("decode_tokens_per_s", "rate"),)),
    ("Throughput", "tokens/s", (("output_tokens_per_s", "output"), ("total_tokens_per_s", "total"))),
    ("Time to first token (TTFT)", "ms", (("ttft_p50_ms", "p50"), ("ttft_p99_ms", "p99"))),
    ("Time per output token (TPOT)", "ms", (("tpot_p50_ms", "p50"), ("tpot_p99_ms", "p99"))),
    ("Requests", "requests", (("running", "running"), ("queued", "queued"))),
    ("Server's scheduler", "requests", (("engine_running", "running"), ("engine_waiting", "waiting"))),
    ("Server's KV cache", "%", (("engine_kv_cache_used_percent", "used"),)),
)
_UNITS = (
    ("_ms", "ms"),
    ("_qps", "QPS"),
    ("_tokens_per_s", "tokens/s"),
    ("_percent", "%"),
    ("_gb_per_s", "GB/s"),
    ("_w", "W"),
    ("_s", "s"),
)
# A pass and a fail are both valid measurements; these are not.
_MEANING = {Outcome.INVALID: ": not a measurement", Outcome.INCONCLUSIVE: ": not enough data"}


class LoadPane(ScrollPane):
    """The metrics of the shown run while it runs and after its end."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="load")
        self.state = state

    def content(self, width: int) -> Sequence[Row]:
        return load_rows(self.state.run, width, self.size.height, self.glyphs)


def load_rows(run: RunSnapshot | None, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The pane's rows; charts are higher if there is room."""
    if run is None:
        return [row(), row((" This step has no run yet: r runs it, c completes it.", "muted"))]
    if run.sweep is not None and run.sweep.cells:
        from llmval_tui.tui.widgets.sweep_rows import sweep_rows

        return sweep_rows(run, run.sweep, width, glyphs)
    judged = run.verdict is not None and run.verdict.metrics
    if not run.metrics and not run.memory and (run.alive or not judged):
        if run.alive:
            waiting = row((" no metrics yet: they come with the measured window", "muted"))
            return [row(), *progress_rows(run, width, glyphs), row(), waiting]
        return [row(), row((f" The run {run.id} reported no metrics.", "muted"))]
    by_name = {metric.name: metric for metric in run.metrics}
    shown = sum(1 for _, _, names in GROUPS for name, _ in names if name in by_name)
    known = {name for _, _, names in GROUPS for name, _ in names}
    others = [metric for metric in run.metrics if metric.name not in known]
    groups = sum(1 for _, _, names in GROUPS if any(name in by_name for name, _ in names)) + bool(others)
    rows = progress_rows(run, width, glyphs) if run.alive else whole_run_rows(run, width, glyphs)
    if run.engine is not None:
        from llmval_tui.tui.widgets.engine_rows import engine_rows

        rows += engine_rows(run.engine, width)
    if run.memory:
        from llmval_tui.tui.widgets.memory_rows import memory_rows

        rows += memory_rows(run.memory, width, glyphs)
    spare = height - len(rows) - shown - len(others) - 2 * groups
    tall_rows = 3 if spare >= 2 * shown else 2 if spare >= shown else 1
    for title, unit, names in GROUPS:
        metrics = [(by_name[name], label) for name, label in names if name in by_name]
        if metrics:
            top = nice_top([metric.peak for metric, _ in metrics], 0.1)
            rows += heading(title, width, glyphs, f"0 to {number(top)} {unit}")
            for metric, label in metrics:
                rows += metric_rows(metric, label, unit, top, width, glyphs, tall_rows, past=not run.alive)
    if others:
        rows += heading("More", width, glyphs)
        for metric in others:
            top = nice_top([metric.peak], 0.1)
            name, unit = clean_line(metric.name), unit_of(metric.name)
            rows += metric_rows(metric, name, unit, top, width, glyphs, 1, past=not run.alive)
    return rows


def whole_run_rows(run: RunSnapshot, width: int, glyphs: Glyphs) -> list[Row]:
    """The verdict's figures of an ended run: over all its requests, not over its last seconds."""
    verdict = run.verdict
    judged = verdict.metrics if verdict is not None else {}
    past = "The charts show the course of the run; each value is the last reported one, not that of the whole run."
    if not run.metrics and not run.memory:
        past = "The run reported no metrics while it ran, so there are no charts."
    if verdict is None or not judged:
        why = "It is not judged yet." if verdict is None else "Its verdict has no figures of the whole run."
        return paragraph(f"{why} {past}", "muted", width)
    sign = OUTCOME_SIGNS[verdict.outcome]
    outcome = f"{glyphs.sign(sign)} judged {sign.word}{_MEANING.get(verdict.outcome, '')}"
    rows = heading("The whole run", width, glyphs, outcome, sign.role)[1:]
    column = max(len(title) for title, _, _ in GROUPS) + 3
    named: set[str] = set()
    for title, unit, names in GROUPS:
        named |= {name for name, _ in names}
        figures = [f"{label} {number(judged[name])} {unit}" for name, label in names if judged.get(name) is not None]
        if figures:
            rows += figure_rows(title, figures, "title", width, column)
    more = [
        f"{clean_line(name)} {number(value)} {unit_of(name)}".rstrip()
        for name, value in judged.items()
        if name not in named and value is not None
    ]
    if more:
        rows += figure_rows("More", more, "text", width, column)
    return [*rows, row(), *paragraph(past, "muted", width)]


def figure_rows(label: str, figures: Sequence[str], role: str, width: int, column: int) -> list[Row]:
    """Figures beside a label, as many in a row as fit, never split."""
    lines: list[str] = []
    for figure in figures:
        if lines and column + len(lines[-1]) + 3 + len(figure) < width:
            lines[-1] += f"   {figure}"
        else:
            lines.append(figure)
    return [
        row(((f" {label}" if not number else "").ljust(column), "muted"), (line, role))
        for number, line in enumerate(lines)
    ]


def unit_of(name: str) -> str:
    """The unit in a metric's name."""
    return next((unit for end, unit in _UNITS if name.endswith(end)), "")
