"""A set of charts for each GPU, all with the same ranges and one time axis; a table of the GPUs if they do not fit."""

from collections.abc import Sequence
from dataclasses import replace

from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.terminal.axis import axis_row, coarser
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, chart_rows
from llmval_tui.terminal.format import fit, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import Series
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import Chart, beside, chart_row, shares
from llmval_tui.tui.widgets.gpu_charts import (
    IDLE,
    NARROWEST,
    ComparedGpu,
    GpuView,
    faults_of,
    from_median_span,
    gpu_table,
    is_hot,
    is_lost,
    is_odd,
    limit_words,
    memory_text,
    percent,
    problems_of,
    slowed_by,
    worst_first,
)
from llmval_tui.tui.widgets.gpu_line import reason_word
from llmval_tui.tui.widgets.run_charts import dot_words
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
        problems = problem_rows(gpus)
        return [fixed("gpus", [*table, *problems], rank=1), *odd_block(gpus, view, width, glyphs, stale=stale)]
    sets = shares(width, across, gap=3)
    count = max(1, min(len(FIRST), (min(sets) + 2) // (NARROWEST + 2)))
    two = len(gpus) <= 4 and room - foot - 10 >= lines * (1 + 2 * (LOWEST + 3))
    fields = [FIRST[:count], *([SECOND[:count]] if two else [])]
    tall = SCROLLED if scrolls else max(LOWEST, min(HIGHEST, ((room - foot) // lines - 1) // len(fields)))
    heights = [tall] * len(fields)

    def draw(_: int) -> list[Row]:
        found: list[Row] = []
        titles = {cells: gpu_titles(gpus, cells, glyphs, stale=stale) for cells in set(sets)}
        for start in range(0, len(gpus), across):
            part = gpus[start : start + across]
            blocks = [
                gpu_set(
                    one, titles[sets[index]][one.gpu.index], view, sets[index], fields, heights, glyphs, stale=stale
                )
                for index, one in enumerate(part)
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
    title: list[Span],
    view: GpuView,
    width: int,
    fields: Sequence[Fields],
    heights: Sequence[int],
    glyphs: Glyphs,
    *,
    stale: bool,
) -> list[list[Span]]:
    """One GPU: its `title` with its figures, and its charts below them."""
    rows = [title]
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
        dot = f"{title}, {dot_words(chart.axis, coarser(chart.axis, view.sampled_s).dot_s)}"
        title = dot if column == 0 and LABEL + cell_len(dot) <= room else title
        names.append([(fit(" " * LABEL + title, room, glyphs.ellipsis), "muted")])
    return [joined(axes), joined(names)]


Titles = dict[int, list[Span]]  # by the GPU's index


def gpu_titles(every: Sequence[ComparedGpu], width: int, glyphs: Glyphs, *, stale: bool) -> Titles:
    """Each GPU with its problems and its figures, exactly `width` cells; all have the same columns.

    The figures that show how far a GPU is from the others keep their place: a long reason is said in short instead.
    """
    figures = {one.gpu.index: gpu_figures(one, stale=stale) for one in every}
    widths = [max(cell_len(row[column][0]) for row in figures.values()) for column in range(len(LEAST_CELLS))]
    cells = [max(found, least) if found else 0 for found, least in zip(widths, LEAST_CELLS, strict=True)]
    name = max(cell_len(f"GPU {one.gpu.index}") for one in every)
    room = width - name - sum(2 + one for one in cells[:KEPT] if one)
    said = {one.gpu.index: states(one.gpu, stale=stale) for one in every}
    forms = [{index: form[place] for index, form in said.items()} for place in range(3)]
    longest = [max(map(cell_len, form.values())) for form in forms]
    spare = room - sum(2 + one for one in cells[KEPT:] if one)
    rooms = (spare, room, room)  # all of a reason only where it displaces nothing
    place = next((place for place, one in enumerate(longest) if one + 2 <= rooms[place]), len(forms) - 1)
    states_room = min(longest[place], max(0, room - 2))
    titles: Titles = {}
    for one in every:
        gpu = one.gpu
        spans: list[Span] = [(f"GPU {gpu.index}".ljust(name), "title")]
        used = name
        if states_room:
            healthy = not is_lost(gpu) and not stale and not problems_of(gpu)
            serious = is_lost(gpu) or stale or any(not found.startswith("throttled") for found in problems_of(gpu))
            text = fit(forms[place][gpu.index], states_room, glyphs.ellipsis)
            spans.append((f"  {text}", "muted" if healthy else "bad" if serious else "warn"))
            used += 2 + states_room
        for (text, role), room_of in zip(figures[gpu.index], cells, strict=True):
            if room_of and used + 2 + room_of > width:
                break  # of every GPU
            if room_of:
                spans.append((f"  {text.rjust(room_of)}", role))
                used += 2 + room_of
        titles[gpu.index] = cut([*spans, (" " * max(0, width - used), "text")], width)
    return titles


ONE_WORD = {"power cap": "capped", "power brake": "braked", "hw_slowdown": "slowed"}
GENERAL = ("hw_slowdown", "sw_power_cap")  # say nothing beside another reason


def states(gpu: GpuSample, *, stale: bool) -> tuple[str, str, str]:
    """What is wrong with a GPU: in full, in people's words, and in one word."""
    head = ["lost: no reading"] if is_lost(gpu) else ["stale"] if stale else []
    found = [problem for problem in problems_of(gpu) if problem != "no reading"]
    reasons = slowed_by(gpu)
    reasons = [one for one in reasons if one not in GENERAL] or reasons
    slowed = f"throttled: {', '.join(dict.fromkeys(map(reason_word, reasons)))}"
    short = [slowed if problem.startswith("throttled") else problem for problem in found]
    word = next(iter([*head, *found]), "").partition(":")[0]
    if word == "throttled":
        word = ONE_WORD.get(why := reason_word(reasons[0]), why)
    if not head and not found and IDLE in (gpu.throttle_reasons or ()):
        return "idle", "idle", "idle"
    return ", ".join([*head, *found]), ", ".join([*head, *short]), word


# Of each figure below: util, power, temperature, distance from the median, memory; then those without a chart.
LEAST_CELLS = (5, 9, 5, 7, 9, 0, 8, 6, 9, 8)
KEPT = 5  # of them stay beside a problem


def gpu_figures(one: ComparedGpu, *, stale: bool) -> list[Span]:
    """The figures of a GPU, one for each of `LEAST_CELLS`; "" for one that has no chart and is not known."""
    gpu, role = one.gpu, "muted" if stale else "text"
    strong = "muted" if stale else "title"
    limit = f"/{number(gpu.power_limit_w)}" if gpu.power_limit_w else ""
    hot = gpu.temperature_c is None or (is_hot(gpu) and not stale)
    links = gpu.nvlink_rx_gb_per_s is not None and gpu.nvlink_tx_gb_per_s is not None
    count = len(gpu.processes or ())
    processes = f"{count} process{'es' if count > 1 else ''}" if count else "no process"
    processes = processes if gpu.processes is not None else ""
    clock = "" if gpu.sm_clock_mhz is None else f"{gpu.sm_clock_mhz:.0f} MHz"
    return [
        (percent(gpu.sm_util_percent), "warn" if gpu.sm_util_percent is None else strong),
        (f"{number(gpu.power_w)}{limit} W", "warn" if gpu.power_w is None else strong),
        (f"{number(gpu.temperature_c)} °C", "warn" if hot else role),
        from_median_span(one.from_median) if one.from_median is not None else ("", role),
        (f"{memory_text(gpu)} GiB", "warn" if gpu.memory_used_bytes is None else role),
        (f"NVLink {number(gpu.nvlink_rx_gb_per_s)}/{number(gpu.nvlink_tx_gb_per_s)}" if links else "", role),
        ("" if gpu.tensor_util_percent is None else f"tensor {percent(gpu.tensor_util_percent)}", role),
        ("" if gpu.dram_util_percent is None else f"DRAM {percent(gpu.dram_util_percent)}", role),
        (processes, "muted"),
        (clock, "warn" if slowed_badly(gpu) else "muted"),
    ]


def slowed_badly(gpu: GpuSample) -> bool:
    """Whether a fault lowers its clock."""
    return any(problem.startswith("throttled") for problem in faults_of(gpu))


def cut(spans: Sequence[Span], width: int) -> list[Span]:
    """The spans without what is beyond the width."""
    found: list[Span] = []
    for text, role in spans:
        room = width - sum(cell_len(part) for part, _ in found)
        if room <= 0:
            break
        found.append((text[:room], role))
    return found


def problem_rows(gpus: Sequence[ComparedGpu]) -> list[Row]:
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
