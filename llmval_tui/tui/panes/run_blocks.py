"""The blocks of the Run pane: figures, charts of the load, GPUs, and the end of the log.

To add one, make a `block(…)` and put it where it stands on the screen. Its rank says when it goes if there is no room.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from llmval_tui.actions.command.argv import value_of
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit, gib, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.charts import TALL, TALLEST, ChartView, chart_row, shares
from llmval_tui.tui.widgets.figures import ShownFigure, figure_rows, figures_of, has_slo_gate, undecided_rows
from llmval_tui.tui.widgets.gate_groups import gate_group_rows
from llmval_tui.tui.widgets.gpu_charts import GpuView, all_gpu_charts, gpu_table, percent, summary
from llmval_tui.tui.widgets.host_rows import HOST_TALLEST, host_blocks
from llmval_tui.tui.widgets.run_charts import BANDS, RunCharts, metric_charts
from llmval_tui.tui.widgets.stack import PaneBlock, blank, block, fixed
from llmval_tui.tui.widgets.text_rows import command_rows, heading, log_name, tail_rows

if TYPE_CHECKING:
    from llmval_tui.tui.data.run_follower import RunSnapshot

RAMP_S = 30.0  # the longest time in which a load still rises
NEARLY = 0.9  # of the offered rate: then the load has risen
NARROW = 72  # columns below which three charts side by side are too narrow


def running_blocks(
    state: ScreenState,
    run: "RunSnapshot",
    width: int,
    height: int,
    glyphs: Glyphs,
    view: ChartView,
    *,
    tall: bool = False,
) -> list[PaneBlock]:
    """The blocks of a running run, below its head; `tall`: nothing but the charts can use the rows that are left."""
    blocks = [blank("above figures", rank=20)]
    if figures := live_figures(run):
        blocks.append(block("figures", lambda rows: figure_rows(figures, width, rows, glyphs), rank=1, least=3))
        blocks.append(blank("above charts", rank=21))
    # The log takes the rows that are left; without one, the charts do.
    blocks += load_blocks(run, width, glyphs, view, tallest=TALLEST if run.tail and not tall else TALL)
    if run.memory:
        from llmval_tui.tui.widgets.memory_rows import memory_rows

        blocks.append(fixed("memory", memory_rows(run.memory, width, glyphs)[1:], rank=2))
    blocks += matrix_block(run, width, glyphs, rank=2)
    blocks += gpu_blocks(state, width, glyphs, view, tallest=max(TALL, height) if tall else TALLEST)
    blocks += log_block(state, run, width, glyphs)
    commands = [*heading("Command", width, glyphs)[1:], *command_rows(run.intent.commands, width)]
    blocks.append(block("command", lambda rows: commands, rank=11, least=2, wish=len(commands), late=True))
    return blocks


def ended_blocks(
    state: ScreenState, run: "RunSnapshot", width: int, glyphs: Glyphs, view: ChartView, *, unfolded: bool
) -> list[PaneBlock]:
    """Figures, gates and charts of an ended run."""
    verdict = run.verdict
    if verdict is None:
        return load_blocks(run, width, glyphs, view)
    figures = figures_of(verdict.metrics, run.bounds, baseline=run.baseline)
    if not has_slo_gate(verdict.gates):
        figures = [replace(one, decides=one.bound is None or one.bound.set_by != "SLO") for one in figures]
    rows = [*figure_rows(figures, width, 4, glyphs), *undecided_rows(figures, verdict.gates, width)]
    blocks = [fixed("figures", [row(), *rows], rank=1)] if rows else []
    gates = gate_group_rows(verdict.gates, width, glyphs, unfolded=unfolded, summary=verdict.summary)
    blocks.append(fixed("gates", [row(), *gates], rank=1))
    blocks += matrix_block(run, width, glyphs, rank=1)
    charts = load_blocks(run, width, glyphs, view)
    if charts:
        title = "The whole run" if verdict.outcome is not Outcome.INVALID else "The whole run: not a measurement"
        note = ", ".join([*view.changed(), state.keymap.pane_hint("load", "all charts")])
        blocks.append(fixed("charts", heading(title, width, glyphs, note), rank=1))
    return blocks + charts


def matrix_block(run: "RunSnapshot", width: int, glyphs: Glyphs, *, rank: int) -> list[PaneBlock]:
    """The bandwidths from GPU to GPU, if the run measures them."""
    if run.matrix is None:
        return []
    from llmval_tui.tui.widgets.matrix_rows import matrix_rows

    return [fixed("matrix", matrix_rows(run.matrix, width, glyphs), rank=rank)]


def live_figures(run: "RunSnapshot") -> list[ShownFigure]:
    """The headline figures of a running run, as last reported."""
    values = {metric.name: metric.last for metric in run.metrics}
    if not values:
        return []
    asked = [value_of(tuple(command.argv), "--target-qps") for command in run.intent.commands]
    return figures_of(
        values,
        run.bounds,
        ramp=is_ramping(run),
        baseline=run.baseline,
        live=True,
        asked_qps=next((rate for text in asked if text and (rate := _positive(text))), None),
        missed_s={metric.name: metric.outside_s for metric in run.metrics},
    )


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def is_ramping(run: "RunSnapshot") -> bool:
    """Whether the load still rises: the completed rate has not been near the offered one yet."""
    completed, offered = run.metric("completed_qps"), run.metric("offered_qps")
    if completed is None or offered is None or completed.buckets.end_s > RAMP_S:
        return False
    reached, asked = completed.buckets.whole(), offered.buckets.whole()
    return reached is None or (asked is not None and reached.highest < NEARLY * asked.mean)


def load_blocks(
    run: "RunSnapshot", width: int, glyphs: Glyphs, view: ChartView, *, tallest: int = TALLEST
) -> list[PaneBlock]:
    """The charts of the run's metrics: rate and latencies of a load, else its first two other metrics."""
    if not run.metrics:
        return []
    charts = RunCharts(run, view, glyphs)
    blocks: list[PaneBlock] = []
    if (rate := charts.rate(width - 1)) is not None:
        blocks.append(chart_row("rate", [rate], [width - 1], glyphs, rank=2, least=4, wish=8, tallest=tallest))
    halves = shares(width, 2, gap=2)
    bands = [chart for band, half in zip(BANDS, halves, strict=True) if (chart := charts.band(band, half))]
    if bands:
        widths = halves if len(bands) == 2 else [width - 1]
        if len(bands) == 1:
            bands = [chart for band in BANDS if (chart := charts.band(band, width - 1))]
        blocks.append(chart_row("latency", bands, widths, glyphs, rank=3, least=3, wish=5, tallest=tallest))
    if not blocks:
        names = charts.other_areas()[:2]
        widths = shares(width, len(names), gap=2) if names else []
        areas = metric_charts(charts, names, min(widths, default=width))
        if areas:
            blocks.append(
                chart_row(
                    "metrics", areas, [min(widths)] * len(areas), glyphs, rank=2, least=3, wish=7, tallest=tallest
                )
            )
    return blocks


def gpu_blocks(
    state: ScreenState, width: int, glyphs: Glyphs, view: ChartView, *, tallest: int = TALLEST
) -> list[PaneBlock]:
    """All GPUs: charts from the lowest to the highest, a row for each, and the host."""
    last = state.live.last
    if last is None:
        return []
    blocks: list[PaneBlock] = []
    stale = state.stale
    if last.gpus:
        gpus = last.gpus
        words, role = ("stale: the newest sample is old", "bad") if stale else summary(gpus)
        name = f"All {len(gpus)} GPUs" if len(gpus) > 1 else f"GPU {gpus[0].index}"
        if role != "muted" and cell_len(name) + cell_len(words) + 5 > width:
            words = words.partition(", ")[2]  # what is wrong is more than the power
        room = max(0, width - cell_len(name) - 5)
        words = words if cell_len(words) <= room else fit(words, room, glyphs.ellipsis)
        title = heading(name, width, glyphs, words, role)
        top = 2 if role in ("bad", "warn") else 7  # a problem stays longer than the charts
        blocks.append(fixed("gpu heading", title[1:], rank=top))
        count = 3 if width >= NARROW else 2
        widths = shares(width, count, gap=2)
        charts = all_gpu_charts(GpuView(state, state.live, view, glyphs), min(widths), count, stale=stale)
        blocks.append(
            chart_row(
                "gpu charts",
                charts,
                [min(widths)] * len(charts),
                glyphs,
                rank=8,
                least=3,
                wish=5,
                late=True,
                tallest=tallest,
            )
        )
        blocks.append(
            block(
                "gpus",
                lambda rows: gpu_table(gpus, width, rows, glyphs, stale=stale),
                rank=4,
                least=len(gpus) + 1 if len(gpus) <= 4 else 3,
                wish=len(gpus) + 1 if len(gpus) < 16 else 6,
                most=len(gpus) + 1,
                grows=3,
            )
        )
    if last.host is not None and not last.gpus:
        tall = tallest if tallest > TALLEST else HOST_TALLEST
        blocks += host_blocks(last, GpuView(state, state.live, view, glyphs), width, glyphs, stale=stale, tallest=tall)
    elif last.host is not None:
        host = last.host
        cores = f" of {host.cpu_count}" if host.cpu_count else ""
        parts = [
            f"load {number(host.load_1m)}{cores}",
            f"cpu {percent(host.cpu_percent)}",
            f"memory {gib(host.memory_used_bytes)}/{gib(host.memory_total_bytes)} GiB",
            f"disk free {gib(host.disk_free_bytes)} GiB",
        ]
        while len(parts) > 1 and cell_len("  ".join(parts)) + 6 > width:
            parts.pop()
        text = "  ".join(parts)
        blocks.append(
            fixed("host", [row((" host ", "muted"), (text, "muted" if stale else "text"))], rank=10, late=True)
        )
    return blocks


def log_block(state: ScreenState, run: "RunSnapshot", width: int, glyphs: Glyphs) -> list[PaneBlock]:
    """The last lines of the log, with a heading from three rows on."""
    if run.tail_of is None or not run.tail:
        return []
    title = heading("Log", width, glyphs, f"{log_name(run.tail_of)}   {state.keymap.pane_hint('log', 'all')}")[1:]
    most = len(run.tail) + 1

    def draw(rows: int) -> list[Row]:
        return tail_rows(run, width, rows, glyphs) if rows < 3 else [*title, *tail_rows(run, width, rows - 1, glyphs)]

    return [block("log", draw, rank=6, least=1, wish=min(6, most), most=most, grows=2)]
