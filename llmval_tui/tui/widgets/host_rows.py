"""The host in one row, and its charts."""

from llmval_tui.telemetry.sample import HostSample, Sample
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import gib, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import TelemetryHistory
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.widgets.charts import Chart, chart_row, shares
from llmval_tui.tui.widgets.gpu_charts import NARROWEST, GpuView, percent
from llmval_tui.tui.widgets.stack import PaneBlock, fixed
from llmval_tui.tui.widgets.text_rows import heading

HOST_TALLEST = 6  # rows of a chart of the host beside other blocks


def host_blocks(
    last: Sample, view: GpuView, width: int, glyphs: Glyphs, *, stale: bool, tallest: int = HOST_TALLEST
) -> list[PaneBlock]:
    """The host in one row, and its charts if there is room."""
    host = last.host
    assert host is not None
    blocks = [fixed("host", [host_row(host, view.history, width, glyphs, stale=stale)], rank=3)]
    charts = host_charts(host, view, width, stale=stale)
    widths = [min(shares(width, len(charts), gap=2))] * len(charts)
    blocks.append(chart_row("host charts", charts, widths, glyphs, rank=9, least=3, wish=4, late=True, tallest=tallest))
    return blocks


def host_row(host: HostSample, history: TelemetryHistory, width: int, glyphs: Glyphs, *, stale: bool) -> Row:
    """The host's figures, as many as fit."""
    cores = f" of {host.cpu_count} cores" if host.cpu_count else ""
    total = history.all_gpus.get("total_power_w")
    memory = f"{gib(host.memory_used_bytes)}/{gib(host.memory_total_bytes)} GiB"
    parts = [
        f"cpu {percent(host.cpu_percent)}",
        f"load {number(host.load_1m)}{cores}",
        f"memory {memory}",
        f"network in {number(host.network_rx_mb_per_s)} out {number(host.network_tx_mb_per_s)} MB/s",
        f"disk free {gib(host.disk_free_bytes)} GiB",
    ]
    if total is not None and total.last is not None:
        parts.insert(0, f"all GPUs {total.last:,.0f} W")
    while len(parts) > 1 and cell_len("  ".join(parts)) + 8 > width:
        parts.pop()
    return heading("Host", width, glyphs, "  ".join(parts), "muted" if stale else "text")[1]


def host_charts(host: HostSample, view: GpuView, width: int, *, stale: bool) -> list[Chart]:
    """Processor and memory; in a wide pane also the power of all GPUs and the hottest one."""
    series, every = view.history.host, view.history.all_gpus
    wide = width >= 4 * (NARROWEST + 2) and every
    cells = min(shares(width, 4 if wide else 2, gap=2))
    role = "muted" if stale else "title"
    total = f" of {host.memory_total_bytes / 2**30:,.0f}" if host.memory_total_bytes else ""
    used = series["memory_gib"].last
    shown = [
        (series["cpu_percent"], "host cpu", 10.0, percent(host.cpu_percent)),
        (series["memory_gib"], f"host memory GiB{total}", 1.0, number(used)),
    ]
    if wide:
        power, heat = every["total_power_w"], every["temperature_c"]
        shown += [
            (power, "all GPUs W", 100.0, number(power.last)),
            (heat, "GPUs °C", 50.0, f"hottest {number(hottest_of(view.history))}"),
        ]
    return [
        view.chart(one, [(title, "text")], cells, least=least, notes=[(value, role)], stale=stale)
        for one, title, least, value in shown
    ]


def hottest_of(history: TelemetryHistory) -> float | None:
    known = [gpu.temperature_c for gpu in history.last.gpus if gpu.temperature_c is not None] if history.last else []
    return max(known, default=None)
