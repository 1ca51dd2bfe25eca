"""Chooses the plots of a run: live metrics and telemetry over time, and the distributions of its requests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from llmval_tui.actions.judges.load_test_result import LoadResult
from llmval_tui.report.blocks import Block, Heading, Paragraph, Plots
from llmval_tui.report.charts import chart
from llmval_tui.report.charts.chart import Line, Strip, TimeAxis
from llmval_tui.report.downsample import Summary
from llmval_tui.report.facts import RunFacts
from llmval_tui.report.figure import figure
from llmval_tui.report.recording import GpuTracks, Recording
from llmval_tui.terminal.format import duration

# Title, unit, and (metric in the events, label) of each line. A metric that the run did not report is left out.
LIVE = (
    ("Requests per second", "requests/s", (("offered_qps", "offered"), ("completed_qps", "completed"))),
    ("Output tokens", "tokens/s", (("output_tokens_per_s", "output tokens/s"),)),
    (
        "Time to first token, over the last 5 s",
        "ms",
        (("ttft_p50_ms", "TTFT p50"), ("ttft_p99_ms", "TTFT p99"), ("ttft_sched_p99_ms", "TTFT p99 from arrival")),
    ),
    ("Time per output token, over the last 5 s", "ms", (("tpot_p50_ms", "TPOT p50"), ("tpot_p99_ms", "TPOT p99"))),
    ("Requests in the engine", "requests", (("running", "running"), ("queued", "queued"))),
)
# Title, unit, (field, label) of each line, and the smallest upper end of the axis.
GPU_PLOTS = (
    ("GPU utilisation", "%", (("sm_util_percent", "utilisation"),), 100.0),
    ("GPU memory used", "GiB", (("memory_used_bytes", "used"),), 0.0),
    ("GPU power", "W", (("power_w", "power"),), 0.0),
    ("NVLink, all links of a GPU", "GB/s", (("nvlink_tx_gb_per_s", "out"), ("nvlink_rx_gb_per_s", "in")), 0.0),
    ("GPU temperature", "°C", (("temperature_c", "temperature"),), 0.0),
)


def time_blocks(run: RunFacts, number: int) -> list[Block]:
    """The plots of a run over time; empty if nothing was recorded."""
    axis = _axis(run)
    blocks: list[Block] = []
    if axis is not None:
        blocks.append(Heading(3, "Over time"))
        blocks.append(Paragraph(_how_to_read(run.recording)))
        blocks.append(Plots("Phases", [chart.phase_strip(f"r{number}-phases", axis)]))
        blocks += _live(run, axis, number)
        blocks += _gpus(run.recording, axis, number)
        blocks += _host(run.recording, axis, number)
    return blocks


def _axis(run: RunFacts) -> TimeAxis | None:
    line = run.timeline
    if line.zero_utc_ns is None or line.end_s <= 0:
        return None
    zero = datetime.fromtimestamp(line.zero_utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return TimeAxis(line.end_s, line.phases, zero)


def _how_to_read(recording: Recording) -> str:
    text = (
        "All plots of this run share one time axis. The shaded span is the measured window; dotted lines mark where "
        "phases begin. A broken line means that no value was recorded, not that it was zero."
    )
    if recording.bucket_s > 0:
        text += (
            f" The recording is long: each point of a telemetry line is the mean of {duration(recording.bucket_s)}, "
            "and the pale band shows the minimum and maximum of its samples."
        )
    return text


def _live(run: RunFacts, axis: TimeAxis, number: int) -> list[Block]:
    blocks: list[Block] = []
    for at, (title, unit, metrics) in enumerate(LIVE):
        drawn = [
            Line(label, run.timeline.live[name], style)
            for style, (name, label) in enumerate(metrics)
            if name in run.timeline.live and run.timeline.live[name].summary.count
        ]
        if drawn:
            blocks.append(Plots(f"{title} ({unit})", [chart.lines(f"r{number}-l{at}", title, unit, drawn, axis)]))
    return blocks


def _gpus(recording: Recording, axis: TimeAxis, number: int) -> list[Block]:
    gpus = sorted(recording.gpus.values(), key=lambda gpu: gpu.index)
    if not gpus:
        return []
    blocks: list[Block] = []
    for at, (title, unit, metrics, axis_end) in enumerate(GPU_PLOTS):
        rows = []
        for gpu in gpus:
            drawn = [Line(label, gpu.tracks[name].series, style) for style, (name, label) in enumerate(metrics)]
            notes = [
                _note(gpu.tracks[name].series.summary, label if len(metrics) > 1 else "") for name, label in metrics
            ]
            rows.append(Strip(_gpu_label(gpu), drawn, "; ".join(notes), _limit(gpu, metrics[0][0])))
        limits = [row.limit for row in rows if row.limit is not None]
        plot = chart.strips(f"r{number}-g{at}", title, unit, rows, axis, (0.0, max([axis_end, *limits])))
        blocks.append(Plots(f"{title} ({unit}){_remark(metrics[0][0], gpus)}", [plot]))
    return blocks


def _gpu_label(gpu: GpuTracks) -> str:
    return f"GPU {gpu.index} {gpu.name}".strip()


def _limit(gpu: GpuTracks, name: str) -> float | None:
    return {"memory_used_bytes": gpu.memory_total_gib, "power_w": gpu.power_limit_w}.get(name)


def _remark(name: str, gpus: list[GpuTracks]) -> str:
    if name == "memory_used_bytes":
        return "; the dashed line is the memory of the GPU"
    if name == "power_w":
        return "; average over 1 s; the dashed line is the power limit"
    if name == "sm_util_percent":
        sources = {gpu.util_source for gpu in gpus}
        if sources == {"gpm"}:
            return "; share of SMs busy (GPM)"
        if sources == {"nvml"}:
            return "; share of time in which any kernel ran (NVML, not the share of SMs)"
    return ""


def _note(summary: Summary, label: str) -> str:
    if not summary.count:
        return f"{label} not available".strip()
    figures = f"minimum {figure(summary.low)}, mean {figure(summary.mean)}, maximum {figure(summary.high)}"
    return f"{label} {figures}".strip()


def _host(recording: Recording, axis: TimeAxis, number: int) -> list[Block]:
    blocks: list[Block] = []
    for at, track in enumerate(recording.host.values()):
        reading = track.reading
        percent = reading.unit == "%"
        limit = None if percent else recording.host_memory_gib
        row = Strip("host", [Line(reading.title, track.series)], _note(track.series.summary, ""), limit)
        bounds = (0.0, 100.0 if percent else limit or 0.0)
        plot = chart.strips(f"r{number}-h{at}", reading.title, reading.unit, [row], axis, bounds)
        remark = "" if limit is None else "; the dashed line is the memory of the host"
        blocks.append(Plots(f"{reading.title} ({reading.unit}){remark}", [plot]))
    return blocks


def distribution_blocks(result: LoadResult, name: str) -> list[Block]:
    """The latency distributions of a load test; `name` makes the ids of the plots unique."""
    done = result.done
    sets: tuple[tuple[str, Mapping[str, Sequence[float | None]]], ...] = (
        (
            "TTFT",
            {"from dispatch": [record.ttft_s for record in done], "from arrival": [r.ttft_sched_s for r in done]},
        ),
        ("TPOT", {"per request": [record.tpot_s for record in done]}),
        (
            "E2E",
            {
                "from dispatch": [r.last_s - r.dispatch_s for r in done if r.last_s is not None],
                "from arrival": [record.e2e_sched_s for record in done],
            },
        ),
    )
    svgs = []
    for at, (title, curves) in enumerate(sets):
        known = [
            (label, sorted(1e3 * value for value in values if value is not None)) for label, values in curves.items()
        ]
        known = [(label, values) for label, values in known if values]
        if known:
            svgs.append(chart.distribution(f"{name}-{at}", title, "ms", known))
    if not svgs:
        return []
    caption = (
        f"Share of the {len(done)} completed requests that took at most this long. On the first line, the circle "
        "is p50, the square p90 and the triangle p99"
    )
    return [Plots(caption, svgs)]
