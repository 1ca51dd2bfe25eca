"""The Load pane: each metric over the whole run, with its bound, the time outside it, and its drift."""

from collections.abc import Sequence
from dataclasses import replace

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.format import duration, number
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.data.run_follower import RunSnapshot
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import TALL, Chart, ChartView, chart_row, shares
from llmval_tui.tui.widgets.figures import steady
from llmval_tui.tui.widgets.run_charts import BANDS, RATES, Band, RunCharts, drift_of, metric_charts, unit_of
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.stack import PaneBlock, fixed, stacked
from llmval_tui.tui.widgets.text_rows import heading, paragraph, progress_rows

# The figures of a verdict, by what they are about.
GROUPS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Rate", "QPS", (("offered_qps", "offered"), ("achieved_qps", "sent"), ("completed_qps", "completed"))),
    ("Prefill", "tokens/s", (("prefill_tokens_per_s", "rate"),)),
    ("Decode", "tokens/s", (("decode_tokens_per_s", "rate"),)),
    ("Throughput", "tokens/s", (("output_tokens_per_s", "output"), ("total_tokens_per_s", "total"))),
    ("TTFT from arrival", "ms", (("ttft_sched_p50_ms", "p50"), ("ttft_sched_p99_ms", "p99"))),
    ("TTFT from dispatch", "ms", (("ttft_p50_ms", "p50"), ("ttft_p99_ms", "p99"))),
    ("Time per output token (TPOT)", "ms", (("tpot_p50_ms", "p50"), ("tpot_p99_ms", "p99"))),
    ("Whole answer from arrival", "ms", (("e2e_sched_p50_ms", "p50"), ("e2e_sched_p99_ms", "p99"))),
    ("Sent after its arrival", "ms", (("schedule_delay_p99_ms", "p99"),)),
    ("Requests", "requests", (("running", "running"), ("queued", "queued"))),
    ("Server's scheduler", "requests", (("engine_running", "running"), ("engine_waiting", "waiting"))),
    ("Server's KV cache", "%", (("engine_kv_cache_used_percent", "used"),)),
)
SIDE_BY_SIDE = 76  # columns from which on two latencies are side by side
THREE_ABREAST = 130
NOTABLE_DRIFT = 0.10
# A pass and a fail are both valid measurements; these are not.
_MEANING = {Outcome.INVALID: ": not a measurement", Outcome.INCONCLUSIVE: ": not enough data"}


class LoadPane(ScrollPane):
    """The metrics of the shown run while it runs and after its end."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="load")
        self.state = state
        self.view = ChartView()

    def content(self, width: int) -> Sequence[Row]:
        run = self.state.run
        if run is None:
            return [row(), row((f" This step has no run yet{how_to_start(self.state)}.", "muted"))]
        return load_rows(run, width, self.size.height, self.glyphs, self.view)

    def next_range(self) -> None:
        self.view.next_range()
        self.repaint()

    def next_window(self) -> None:
        self.view.next_window()
        self.repaint()


def how_to_start(state: ScreenState) -> str:
    """The keys that start the chosen step; "" if none does."""
    hint = state.keymap.hint
    ways = [f"{key} {does}" for key, does in ((hint("run"), "runs it"), (hint("complete"), "completes it")) if key]
    return f": {', '.join(ways)}" if ways else ""


def load_rows(run: RunSnapshot, width: int, height: int, glyphs: Glyphs, view: ChartView | None = None) -> list[Row]:
    """The pane's rows: the charts share the height, and the pane scrolls if even their least heights do not fit."""
    view = view or ChartView()
    if run.sweep is not None and run.sweep.cells:
        from llmval_tui.tui.widgets.sweep_rows import sweep_rows

        return sweep_rows(run, run.sweep, width, glyphs)
    judged = run.verdict is not None and run.verdict.metrics
    if not run.metrics and not run.memory and (run.alive or not judged):
        if run.alive:
            waiting = row((" no metrics yet: they come with the measured window", "muted"))
            return [row(), *progress_rows(run, width, glyphs), row(), waiting]
        return [row(), row((f" The run {run.id} reported no metrics.", "muted"))]
    blocks = [fixed("head", head_rows(run, width, glyphs, view), rank=0)]
    if run.memory:
        from llmval_tui.tui.widgets.memory_rows import memory_rows

        blocks.append(fixed("memory", memory_rows(run.memory, width, glyphs), rank=1))
    blocks += chart_blocks(run, width, glyphs, view)
    least = sum(one.block.least for one in blocks)
    return stacked(blocks, max(height, least))


def head_rows(run: RunSnapshot, width: int, glyphs: Glyphs, view: ChartView) -> list[Row]:
    """The progress or the verdict's figures, the server, and the choices for the charts that are not the usual ones."""
    rows = progress_rows(run, width, glyphs) if run.alive else whole_run_rows(run, width, glyphs)
    if run.engine is not None:
        from llmval_tui.tui.widgets.engine_rows import engine_rows

        rows += engine_rows(run.engine, width, alive=run.alive)
    if changed := view.changed():
        rows.append(row((f" charts: {', '.join(changed)}", "accent")))
    return rows


def chart_blocks(run: RunSnapshot, width: int, glyphs: Glyphs, view: ChartView) -> list[PaneBlock]:
    """Rate, latencies, and an area for every other metric."""
    charts = RunCharts(run, view, glyphs)
    blocks: list[PaneBlock] = []
    inner = width - 1
    if (rate := charts.rate(inner)) is not None:
        blocks.append(chart_row("rate", [rate], [inner], glyphs, rank=1, least=4, wish=8, tallest=TALL))
        if rates := rate_rows(run):
            blocks.append(fixed("rates", rates, rank=1))
    across = 2 if width >= SIDE_BY_SIDE else 1
    widths = shares(width, across, gap=2)
    bands = [(band, chart) for band in BANDS if (chart := charts.band(band, min(widths)))]
    for index in range(0, len(bands), across):
        part = bands[index : index + across]
        noted = [with_time_over(run, band, chart) for band, chart in part]
        name = " ".join(band.title for band, _ in part)
        blocks.append(chart_row(name, noted, [min(widths)] * len(part), glyphs, rank=2, least=3, wish=6, tallest=TALL))
    if drifts := drift_rows(run):
        blocks.append(fixed("drift", drifts, rank=1))
    areas = charts.other_areas()
    across = 3 if width >= THREE_ABREAST else 2
    cells = min(shares(width, across, gap=2))
    for index in range(0, len(areas), across):
        part_of = metric_charts(charts, areas[index : index + across], cells)
        name = f"areas {index}"
        blocks.append(chart_row(name, part_of, [cells] * len(part_of), glyphs, rank=3, least=2, wish=4, tallest=TALL))
    return blocks


def rate_rows(run: RunSnapshot) -> list[Row]:
    """Offered, sent and completed rate: now, and the means of what the chart shows, until a verdict has the rates."""
    judged = run.verdict.metrics if run.verdict is not None else {}
    if not run.alive and any(judged.get(name) is not None for name in RATES):
        return []  # a mean over ramp-up and drain would stand below the same names with other values
    named = [(label, run.metric(name)) for label, name in zip(("offered", "sent", "completed"), RATES, strict=True)]
    known = [(label, metric) for label, metric in named if metric is not None]
    rows: list[Row] = []
    if run.alive:
        now = "  ".join(f"{label} {steady(metric.last):>6}" for label, metric in known)
        rows.append(row((" now          ", "muted"), (now, "text")))
    whole = [(label, metric.buckets.whole()) for label, metric in known]
    mean = "  ".join(f"{label} {steady(found.mean if found else None):>6}" for label, found in whole)
    label = " mean so far  " if run.alive else " mean of the chart  "
    rows.append(row((label, "muted"), (mean, "text" if run.alive else "muted")))
    return rows


def with_time_over(run: RunSnapshot, band: Band, chart: Chart) -> Chart:
    """The chart, with the time in which the latency was not within its bound."""
    name = next((name for name in (*band.upper, *band.lower) if name in run.bounds and run.metric(name)), None)
    metric = run.metric(name) if name is not None else None
    if metric is None:
        return chart
    over, known = duration(metric.outside_s), duration(metric.known_s)
    note: Span = (f"over it {over} of {known}", "warn") if metric.outside_s else (f"never over it in {known}", "muted")
    return replace(chart, notes=(*chart.notes, note))


def drift_rows(run: RunSnapshot) -> list[Row]:
    """How the latencies have changed from the beginning to the end of the run."""
    rows: list[Row] = []
    for band in BANDS:
        name = next((name for name in (*band.upper, *band.lower) if run.metric(name)), None)
        metric = run.metric(name) if name is not None else None
        drift = drift_of(metric.buckets) if metric is not None else None
        if name is None or drift is None or drift.change is None:
            continue
        statistic = "p99" if name in band.upper else "p50"
        text = f"{band.title} {statistic} {drift.words.format(unit='ms')}: {drift.change:+.0%}".replace("%", " %")
        role = "warn" if drift.change >= NOTABLE_DRIFT else "text"
        rows.append(row((" drift " if not rows else "       ", "muted"), (text, role)))
    return rows


def whole_run_rows(run: RunSnapshot, width: int, glyphs: Glyphs) -> list[Row]:
    """The verdict's figures of an ended run: over all its requests, not over its last seconds."""
    verdict = run.verdict
    judged = verdict.metrics if verdict is not None else {}
    past = (
        "The charts show what the run reported while it ran, mostly over its last seconds, ramp-up and drain included."
    )
    if not run.metrics and not run.memory:
        past = "The run reported no metrics while it ran, so there are no charts."
        if run.intent.launcher is not None:
            past = "Each node recorded its own metrics: the charts are in the panes of a node of the pane Fleet."
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
    """Figures beside a label, as many in a row as fit, never split; below it if the pane is too narrow."""
    if column + max(map(len, figures)) > width:
        return [row((f" {label}", "muted")), *figure_rows("", figures, role, width, 3)]
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
