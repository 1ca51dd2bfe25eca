"""The Telemetry pane: a set of charts for each GPU, the host, and the processes on the GPUs; all of the height."""

from collections.abc import Sequence

from textual import events

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample
from llmval_tui.terminal.axis import axis_row, dot_width
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, chart_rows
from llmval_tui.terminal.format import age, fit, gib, number, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import Series, TelemetryHistory
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import RANGE_WORDS, WINDOW_WORDS, Chart, ChartView, beside, chart_row, shares
from llmval_tui.tui.widgets.gpu_charts import (
    ComparedGpu,
    GpuView,
    compared,
    from_median_span,
    gpu_table,
    is_lost,
    limit_words,
    memory_text,
    percent,
    problems_of,
    worst_first,
)
from llmval_tui.tui.widgets.process_table import ProcessChoice, described, process_block, target_of
from llmval_tui.tui.widgets.run_charts import signs
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.stack import PaneBlock, block, fixed, stacked
from llmval_tui.tui.widgets.text_rows import heading

ORDERS = ("index", "from the median")
MANY = 16  # GPUs from which on the furthest from the median come first
ORDER_S = 60.0  # an order that follows the figures is made again after this time, because it moves every chart
TWO_SETS = 150  # columns from which on two GPUs are side by side
NARROWEST = 24  # columns of a chart
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
    ("temperature_c", "temperature °C", 50.0),
    ("pcie_rx_gb_per_s", "PCIe in GB/s", 1.0),
)


class GpuOrder:
    """The order of the GPUs. One that follows the figures stands still for a while."""

    def __init__(self) -> None:
        self.name: str | None = None  # None: by the number of GPUs
        self._made: tuple[str, frozenset[int], float] | None = None
        self._indices: list[int] = []

    def word(self, count: int) -> str:
        return self.name or ORDERS[count >= MANY]

    def next(self, count: int) -> None:
        self.name = ORDERS[(ORDERS.index(self.word(count)) + 1) % len(ORDERS)]
        self._made = None

    def sorted(self, gpus: Sequence[GpuSample], now_s: float) -> list[ComparedGpu]:
        """The GPUs in order, each with its distance from the median."""
        every = {one.gpu.index: one for one in compared(gpus)}
        name = self.word(len(gpus))
        if name == ORDERS[0]:
            return list(every.values())
        made = self._made
        if made is None or made[:2] != (name, frozenset(every)) or not 0 <= now_s - made[2] < ORDER_S:
            self._made = (name, frozenset(every), now_s)
            self._indices = [one.gpu.index for one in worst_first(list(every.values()))]
        return [every[index] for index in self._indices]


class TelemetryPane(ScrollPane):
    """Live hardware, or the recording of the shown run."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="telemetry")
        self.state = state
        self.view = ChartView()
        self.order = GpuOrder()
        self.processes = ProcessChoice()

    def content(self, width: int) -> Sequence[Row]:
        rows = telemetry_rows(self.state, width, self.size.height, self.glyphs, self.view, self.order, self.processes)
        chosen = self.processes.chosen
        wanted = target_of(chosen) if chosen is not None else None
        self.cursor = next((index for index, one in enumerate(rows) if wanted and one.target == wanted), None)
        return rows

    def next_range(self) -> None:
        self.view.next_range()
        self.repaint()

    def next_window(self) -> None:
        self.view.next_window()
        self.repaint()

    def next_order(self) -> None:
        if self.processes.choosing:
            self.processes.next_order()
        else:
            last = self.state.telemetry.last
            self.order.next(len(last.gpus) if last else 0)
            self.top = 0
        self.repaint()

    # The processes: a block that takes the focus within the pane.

    def next_block(self) -> bool:
        if self.processes.choosing or not self.processes.shown:
            return False
        self.processes.choosing = True
        self.repaint()
        return True

    def leave_block(self) -> bool:
        if not self.processes.choosing:
            return False
        self.processes.choosing = False
        self.top = 0
        self.repaint()
        return True

    def reverse_order(self) -> None:
        if self.processes.choosing:
            self.processes.reverse()
            self.repaint()

    def copied(self) -> str | None:
        chosen = self.processes.chosen
        return described(chosen) if chosen is not None else None

    def action_move(self, rows: int) -> None:
        if self.processes.choosing:
            self.processes.move(rows)
            self.repaint()
        else:
            super().action_move(rows)

    def on_click(self, event: events.Click) -> None:
        index = self.top + event.y
        target = self.content_rows[index].target if index < len(self.content_rows) else None
        for place, one in enumerate(self.processes.shown):
            if target_of(one) == target:
                self.processes.choosing = True
                self.processes.choose(place)
                self.repaint()


def telemetry_rows(
    state: ScreenState,
    width: int,
    height: int,
    glyphs: Glyphs,
    view: ChartView | None = None,
    order: GpuOrder | None = None,
    processes: ProcessChoice | None = None,
) -> list[Row]:
    """The pane's rows: charts of every GPU if they fit, or else a table of them; of many GPUs, charts that scroll."""
    view, order = view or ChartView(), order or GpuOrder()
    history = state.telemetry
    head: list[Row] = []
    if state.recorder_problem and state.recorded_of is None:
        head += [row((f" {line}", "bad")) for line in wrap(state.recorder_problem, width - 2)]
    last = history.last
    if last is None:
        return [source_row(state, width, glyphs, None, view, ""), *head, row((" no sample yet", "muted"))]
    stale = state.recorded_of is None and state.stale
    gpu_view = GpuView(state, history, view, glyphs)
    gpus = order.sorted(last.gpus, history.newest_s)
    first = source_row(state, width, glyphs, gpu_view, view, order.word(len(gpus)) if len(gpus) > 1 else "")
    notes = [shown for note in last.notes for shown in note_rows([note], note.gpu, width)]
    blocks = [fixed("head", [first, *head], rank=0)]
    choice = processes or ProcessChoice()
    table = process_block(history, width, height, glyphs, state.keymap, choice, stale=stale)
    # The charts of the GPUs have a common height, so what is below them gets its rows first.
    below = (last.host is not None) + (table.block.least if table is not None else 0)
    room = height - 1 - len(head) - len(notes) - below
    blocks += gpu_blocks(gpus, gpu_view, width, room, glyphs, stale=stale)
    if last.host is not None:
        blocks += host_blocks(last, gpu_view, width, glyphs, stale=stale)
    blocks += [table] if table is not None else []
    blocks.append(fixed("notes", notes, rank=1))
    least = sum(one.block.least for one in blocks if not one.block.late)
    return stacked(blocks, max(height, least))


def source_row(
    state: ScreenState, width: int, glyphs: Glyphs, gpu_view: GpuView | None, view: ChartView, order: str
) -> Row:
    """The source of the figures and their age, what a dot is, and the choices for the charts."""
    if state.recorded_of is not None:
        text: Span = (f" recorded with run {state.recorded_of}", "text")
    elif state.settings.replay is not None:
        text = (f" replay of {clean_line(state.settings.replay.name)}", "warn")
    else:
        text = (" live", "text")
    spans: list[Span] = [text]
    since = state.sample_age
    if state.recorded_of is None and state.stale and since is not None:
        spans.append((f"  stale: the newest sample is {age(since)} old; charts and figures stand still", "bad"))
        return row(*spans)
    if gpu_view is None:
        return row(*spans)

    def key(name: str) -> str:
        shown = state.keymap.hint(name)
        return f" ({shown})" if shown else ""

    full, part = signs(glyphs)
    dot = dot_width(gpu_view.axis(max(NARROWEST, min(34, width))).dot_s)
    whole = "the last 10 min" if not gpu_view.of_run and view.window == "whole" else WINDOW_WORDS[view.window]
    for words in (
        f"a dot = {dot}",
        f"window: {whole}{key('window')}",
        f"order: {order}{key('order')}" if order else "",
        f"range: {RANGE_WORDS[view.range]}{key('range')}",
        f"{full} to the lowest in a dot, {part} to the highest",
    ):
        if words and sum(cell_len(part) for part, _ in spans) + 2 + cell_len(words) <= width:
            spans.append((f"  {words}", "muted"))
    return row(*spans)


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
        return [fixed("gpus", [*table, *problems], rank=1)]
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
    rows = [gpu_title(one, width, stale=stale)]
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
        names.append([(fit(" " * LABEL + title, room, glyphs.ellipsis), "muted")])
    return [joined(axes), joined(names)]


def gpu_title(one: ComparedGpu, width: int, *, stale: bool) -> list[Span]:
    """The GPU with its problems and its figures, as many as fit; exactly `width` cells."""
    gpu = one.gpu
    role = "muted" if stale else "text"
    spans: list[Span] = [(f"GPU {gpu.index}", "title")]
    if is_lost(gpu):
        spans.append(("  lost: no reading", "bad"))
    elif stale:
        spans.append(("  stale", "bad"))
    spans += [
        (f"  {problem}", "warn" if problem.startswith("throttled") else "bad")
        for problem in problems_of(gpu)
        if problem != "no reading"
    ]
    limit = f"/{number(gpu.power_limit_w)}" if gpu.power_limit_w else ""
    figures: list[Span] = [
        (percent(gpu.sm_util_percent), "warn" if gpu.sm_util_percent is None else "muted" if stale else "title"),
        (f"{number(gpu.power_w)}{limit} W", "warn" if gpu.power_w is None else "muted" if stale else "title"),
        (f"{number(gpu.temperature_c)} °C", "warn" if gpu.temperature_c is None else role),
        (f"{memory_text(gpu)} GiB", "warn" if gpu.memory_used_bytes is None else role),
    ]
    if one.from_median is not None:
        figures.append(from_median_span(one.from_median))
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


def host_blocks(last: Sample, view: GpuView, width: int, glyphs: Glyphs, *, stale: bool) -> list[PaneBlock]:
    """The host in one row, and its charts if there is room."""
    host = last.host
    assert host is not None
    blocks = [fixed("host", [host_row(host, view.history, width, glyphs, stale=stale)], rank=3)]
    charts = host_charts(host, view, width, stale=stale)
    widths = [min(shares(width, len(charts), gap=2))] * len(charts)
    blocks.append(chart_row("host charts", charts, widths, glyphs, rank=9, least=3, wish=4, late=True, tallest=6))
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
        (series["cpu_percent"], "cpu %", 10.0, number(host.cpu_percent)),
        (series["memory_gib"], f"memory GiB{total}", 1.0, number(used)),
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


def note_rows(notes: Sequence[Note], gpu: int | None, width: int) -> list[Row]:
    """The reasons for missing values."""
    rows: list[Row] = []
    for note in notes:
        if note.gpu == gpu:
            lines = wrap(clean_line(note.message), width - 5)
            rows += [row((" n/a " if not i else "     ", "warn"), (line, "muted")) for i, line in enumerate(lines)]
    return rows
