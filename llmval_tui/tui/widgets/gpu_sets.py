"""A set of charts for each GPU, all with the same ranges and one time axis; a table of the GPUs if they do not fit."""

from collections.abc import Sequence
from dataclasses import replace

from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.terminal.axis import axis_row, dot_width
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, chart_rows
from llmval_tui.terminal.format import fit, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import Series
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import Chart, beside, chart_row, shares
from llmval_tui.tui.widgets.gpu_charts import (
    NARROWEST,
    ComparedGpu,
    GpuView,
    from_median_span,
    gpu_table,
    is_hot,
    is_lost,
    is_odd,
    limit_words,
    memory_text,
    percent,
    problems_of,
    worst_first,
)
from llmval_tui.tui.widgets.stack import PaneBlock, block, fixed

MANY = 16  # GPUs from which on the sets scroll, the furthest from the median first
TWO_SETS = 150  # columns from which on two GPUs are side by side
ROWS_BELOW = 3  # of what is below the GPUs, that charts may take from it
LOWEST, HIGHEST = 2, 8  # rows of a chart of one GPU
SCROLLED = 4  # rows of a chart where the GPUs do not fit anyway
# Field, title, least top of its range. The first three in the first row, the others in a second one if there is room.
FIRST = (
    ("sm_util_percent", "util %", 10.0),
    ("power_w", "power W", 50.0),
    ("nvlink_rx_gb_per_s", "NVLink in GB/s", 1.0),
)
SECOND = (
    ("memory_gib", "memory GiB", 1.0),
    ("temperature_c", "temp °C", 50.0),
    ("pcie_rx_gb_per_s", "PCIe in GB/s", 1.0),
)


# What shows why a GPU is odd: the charts of it where the table is all that fits.
ODD_FIELDS = (FIRST[1], SECOND[1], ("sm_clock_mhz", "clock MHz", 500.0))


def gpu_blocks(
    gpus: Sequence[ComparedGpu], view: GpuView, width: int, room: int, glyphs: Glyphs, *, stale: bool
) -> list[PaneBlock]:
    """The sets of charts of all GPUs with one time axis below them; a table if they do not fit."""
    if not gpus:
        return []
    across = 2 if width >= TWO_SETS and len(gpus) > 1 else 1
    lines = -(-len(gpus) // across)
    foot = 2
    scrolls = len(gpus) >= MANY
    if not scrolls and lines * (1 + LOWEST) + foot > room + ROWS_BELOW:
        plain = [one.gpu for one in gpus]
        table = gpu_table(plain, width, len(gpus) + 1, glyphs, stale=stale)
        problems = problem_rows(gpus, width)
        return [fixed("gpus", [*table, *problems], rank=1), *odd_block(gpus, view, width, glyphs, stale=stale)]
    sets = shares(width, across, gap=3)
    count = max(1, min(len(FIRST), (min(sets) + 2) // (NARROWEST + 2)))
    two = len(gpus) <= 4 and room - foot - 10 >= lines * (1 + 2 * (LOWEST + 3))
    fields = [FIRST[:count], *([SECOND[:count]] if two else [])]
    tall = SCROLLED if scrolls else max(LOWEST, min(HIGHEST, ((room - foot) // lines - 1) // len(fields)))
    heights = [tall] * len(fields)

    def draw(_: int) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(gpus), across):
            part = gpus[start : start + across]
            blocks = [
                gpu_set(one, view, sets[index], fields, heights, glyphs, stale=stale) for index, one in enumerate(part)
            ]
            # The last row of sets may have one GPU less.
            blocks += [[[(" " * cells, "text")]] * len(blocks[0]) for cells in sets[len(part) :]]
            found += beside(blocks, 3)
        feet = [gpu_foot(view, cells, fields, glyphs, stale=stale) for cells in sets[: min(across, len(gpus))]]
        return found + beside(feet, 3)

    return [block("gpus", draw, rank=2, least=lines * (1 + tall * len(fields)) + foot)]


def odd_block(
    gpus: Sequence[ComparedGpu], view: GpuView, width: int, glyphs: Glyphs, *, stale: bool
) -> list[PaneBlock]:
    """Where only a table fits: the charts of the GPU that is the oddest, if one is odd."""
    worst = worst_first(gpus)[0]
    if not is_odd(worst) or worst.gpu.index not in view.history.gpus:
        return []
    count = max(1, min(len(ODD_FIELDS), (width + 2) // (NARROWEST + 2)))
    cells = min(shares(width, count, gap=2))
    charts = []
    for field in ODD_FIELDS[:count]:
        limit = worst.gpu.power_limit_w if field[0] == "power_w" else None
        name = (f"GPU {worst.gpu.index} {field[1]}", field[1], field[2])
        chart = gpu_chart(worst.gpu.index, field, view, cells, stale=stale, limit=limit)
        charts.append(replace(chart, title=((name[0], "text"),)))
    return [chart_row("odd", charts, [cells] * count, glyphs, rank=3, least=3, wish=4, tallest=4)]


Fields = Sequence[tuple[str, str, float]]


def gpu_chart(
    index: int, field: tuple[str, str, float], view: GpuView, width: int, *, stale: bool, limit: float | None = None
) -> Chart:
    """One figure of one GPU; the range is that of all GPUs, so that they can be compared."""
    name, title, least = field
    every = view.history.all_gpus.get(name)
    top = max(least, every.peak if every is not None and every.peak is not None else 0.0)
    series = view.history.gpus.get(index, {}).get(name)
    return view.chart(series or Series(), [(title, "text")], width, least=top, limit=limit, stale=stale)


def gpu_set(
    one: ComparedGpu,
    view: GpuView,
    width: int,
    fields: Sequence[Fields],
    heights: Sequence[int],
    glyphs: Glyphs,
    *,
    stale: bool,
) -> list[list[Span]]:
    """One GPU: its figures in a row, and its charts below them."""
    rows = [gpu_title(one, width, glyphs, stale=stale)]
    for line, height in zip(fields, heights, strict=True):
        cells = shares(width + 1, len(line), gap=2)
        parts = []
        for field, room in zip(line, cells, strict=True):
            limit = one.gpu.power_limit_w if field[0] == "power_w" else None
            chart = gpu_chart(one.gpu.index, field, view, room, stale=stale, limit=limit)
            parts.append(chart_rows(chart.plot, chart.columns, chart.axis, room, height, glyphs))
        rows += [joined(part) for part in zip(*parts, strict=True)]
    return rows


def joined(parts: Sequence[Sequence[Span]]) -> list[Span]:
    """Rows of charts side by side, two blanks between them."""
    spans: list[Span] = list(parts[0])
    for part in parts[1:]:
        spans += [("  ", "text"), *part]
    return spans


def gpu_foot(view: GpuView, width: int, lines: Sequence[Fields], glyphs: Glyphs, *, stale: bool) -> list[list[Span]]:
    """The time axis of each chart, and below it what the charts above it show."""
    cells = shares(width + 1, len(lines[0]), gap=2)
    axes: list[Sequence[Span]] = []
    names: list[Sequence[Span]] = []
    last = view.history.last
    limits = [gpu.power_limit_w for gpu in last.gpus if gpu.power_limit_w] if last else []
    index = last.gpus[0].index if last and last.gpus else 0
    for column, room in enumerate(cells):
        shown = [line[column] for line in lines]
        chart = gpu_chart(index, shown[0], view, room, stale=stale)
        axes.append([(" " * LABEL + axis_row(chart.axis, room - LABEL, glyphs.tick), "muted")])
        title = shown[0][1] if len(shown) == 1 else f"{shown[0][1]}, below it {shown[1][1]}"
        title = title if LABEL + cell_len(title) <= room else " / ".join(field[1] for field in shown)
        if shown[0][0] == "power_w" and limits and (words := limit_words(min(limits), chart.plot.range.top)):
            title += f", {words}" if LABEL + cell_len(f"{title}, {words}") <= room else ""
        dot = f"{title}, a dot = {dot_width(chart.axis.dot_s)}"
        title = dot if column == 0 and LABEL + cell_len(dot) <= room else title
        names.append([(fit(" " * LABEL + title, room, glyphs.ellipsis), "muted")])
    return [joined(axes), joined(names)]


def gpu_title(one: ComparedGpu, width: int, glyphs: Glyphs, *, stale: bool) -> list[Span]:
    """The GPU with its problems and its figures, as many as fit; exactly `width` cells.

    The figures that show how far it is from the others keep their place: a long reason is cut instead.
    """
    gpu = one.gpu
    role = "muted" if stale else "text"
    spans: list[Span] = [(f"GPU {gpu.index}", "title")]
    if is_lost(gpu):
        spans.append(("  lost: no reading", "bad"))
    elif stale:
        spans.append(("  stale", "bad"))
    limit = f"/{number(gpu.power_limit_w)}" if gpu.power_limit_w else ""
    figures: list[Span] = [
        (percent(gpu.sm_util_percent), "warn" if gpu.sm_util_percent is None else "muted" if stale else "title"),
        (f"{number(gpu.power_w)}{limit} W", "warn" if gpu.power_w is None else "muted" if stale else "title"),
        (
            f"{number(gpu.temperature_c)} °C",
            "warn" if gpu.temperature_c is None or (is_hot(gpu) and not stale) else role,
        ),
    ]
    if one.from_median is not None:
        figures.append(from_median_span(one.from_median))
    kept = sum(2 + cell_len(text) for text, _ in figures)
    for problem in problems_of(gpu):
        room = width - kept - sum(cell_len(text) for text, _ in spans) - 2
        if problem != "no reading" and room > 0:
            kind = "warn" if problem.startswith("throttled") else "bad"
            spans.append((f"  {fit(problem, min(room, cell_len(problem)), glyphs.ellipsis)}", kind))
    figures.append((f"{memory_text(gpu)} GiB", "warn" if gpu.memory_used_bytes is None else role))
    figures += more_figures(gpu, role)
    used = sum(cell_len(text) for text, _ in spans)
    for text, kind in figures:
        if used + 2 + cell_len(text) <= width:
            spans.append((f"  {text}", kind))
            used += 2 + cell_len(text)
    return cut([*spans, (" " * max(0, width - used), "text")], width)


def more_figures(gpu: GpuSample, role: str) -> list[Span]:
    """The known figures that have no chart; unknown ones are left out, because no verdict needs them."""
    found: list[Span] = []
    if gpu.nvlink_rx_gb_per_s is not None and gpu.nvlink_tx_gb_per_s is not None:
        found.append((f"NVLink {number(gpu.nvlink_rx_gb_per_s)}/{number(gpu.nvlink_tx_gb_per_s)}", role))
    if "gpu_idle" in (gpu.throttle_reasons or ()):
        found.append(("idle", "muted"))
    for name, value in (("tensor", gpu.tensor_util_percent), ("DRAM", gpu.dram_util_percent)):
        if value is not None:
            found.append((f"{name} {percent(value)}", role))
    if gpu.sm_clock_mhz is not None:
        found.append((f"{gpu.sm_clock_mhz:.0f} MHz", "muted"))
    if gpu.processes is not None:
        count = len(gpu.processes)
        found.append(("no process" if not count else f"{count} process{'es' if count > 1 else ''}", "muted"))
    return found


def cut(spans: Sequence[Span], width: int) -> list[Span]:
    """The spans without what is beyond the width."""
    found: list[Span] = []
    for text, role in spans:
        room = width - sum(cell_len(part) for part, _ in found)
        if room <= 0:
            break
        found.append((text[:room], role))
    return found


def problem_rows(gpus: Sequence[ComparedGpu], width: int) -> list[Row]:
    """The meaning of the signs in the table: one row for each problem, with its GPUs."""
    having: dict[str, list[int]] = {}
    for one in gpus:
        for problem in problems_of(one.gpu):
            having.setdefault(problem, []).append(one.gpu.index)
    return [
        row((" ! ", "bad"), (f"{problem}: ", "warn"), (f"GPU {ranges(sorted(which))}", "text"))
        for problem, which in having.items()
    ]


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers with ranges: `0-3, 7`."""
    runs: list[list[int]] = []
    for index in numbers:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
