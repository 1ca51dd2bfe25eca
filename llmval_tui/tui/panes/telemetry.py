"""The Telemetry pane: every GPU with its charts, then the host; denser with many GPUs or few rows."""

from collections.abc import Sequence

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.sample import GpuSample, HostSample, Note
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import NOT_AVAILABLE, age, fit, gib, number, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import Series, TelemetryHistory
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.sparkline import bar, nice_top, sparkline

LABEL = 9  # width of a chart's name with the blanks around it
IDLE = "gpu_idle"  # a harmless reason for lower clocks
FIGURE = 18  # width of a chart's figures
VALUE = 11  # of these for the newest value


class TelemetryPane(ScrollPane):
    """Live hardware, or the recording of the shown run."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="telemetry")
        self.state = state

    def content(self, width: int) -> Sequence[Row]:
        return telemetry_rows(self.state, width, self.size.height, self.glyphs)


def telemetry_rows(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The pane's rows, in the richest form in which all GPUs fit into `height`, or else in the densest form."""
    history = state.telemetry
    rows = [source_row(state, glyphs)]
    if state.recorder_problem and state.recorded_of is None:
        rows += [row((f" {line}", "bad")) for line in wrap(state.recorder_problem, width - 2)]
    last = history.last
    if last is None:
        rows.append(row((" no sample yet", "muted")))
        return rows
    stale = state.recorded_of is None and state.stale
    tail = note_rows(last.notes, None, width)
    if last.host is not None:
        tail = [*host_rows(last.host, history, width, glyphs, stale), *tail]
    room = height - len(rows) - len(tail)
    count = max(1, len(last.gpus))
    form = next((lines for lines in (4, 2, 1) if count * lines <= room), 1)
    if form == 1 and count != room:  # no heading if only without it all GPUs fit
        rows.append(dense_heading(width))
    for gpu in last.gpus:
        rows += gpu_rows(gpu, history, width, glyphs, form, stale)
        rows += note_rows(last.notes, gpu.index, width)
    if form == 1:
        rows += problem_rows(last.gpus, width)
    return [*rows, *tail]


def source_row(state: ScreenState, glyphs: Glyphs) -> Row:
    """The source of the figures and their age."""
    if state.recorded_of is not None:
        text: Span = (f" recorded with run {state.recorded_of}", "text")
    elif state.settings.replay is not None:
        text = (f" replay of {clean_line(str(state.settings.replay))}", "warn")
    else:
        text = (" live", "text")
    since = state.sample_age
    spans: list[Span] = [text]
    if state.recorded_of is None and state.stale and since is not None:
        spans.append((f"  stale: the newest sample is {age(since)} old; charts and figures stand still", "bad"))
    elif state.telemetry.step_ns:
        spans.append((f"  a cell = {2 * state.telemetry.step_ns / 1e9:.1f} s, {glyphs.peak} = peak", "muted"))
    return row(*spans)


def gpu_rows(
    gpu: GpuSample, history: TelemetryHistory, width: int, glyphs: Glyphs, form: int, stale: bool
) -> list[Row]:
    """One GPU in `form` rows: 4, 2 or 1."""
    series = history.gpus[gpu.index]
    lost = gpu.sm_util_percent is None and gpu.memory_used_bytes is None and gpu.power_w is None
    memory = used_of(gpu.memory_used_bytes, gpu.memory_total_bytes)
    used = series["memory_percent"].last
    if form == 1:
        return [one_row(gpu, series, memory, width, glyphs, stale)]
    title = title_row(gpu, width, lost, stale, more=form == 4)
    util = (series["sm_util_percent"], 100.0, f"{pct(gpu.sm_util_percent)}")
    if form == 2:
        heat = f"{number(gpu.temperature_c)} °C"
        links = f"NVLink in {number(gpu.nvlink_rx_gb_per_s)} out {number(gpu.nvlink_tx_gb_per_s)} GB/s"
        # The title row also has the values without a chart; in a narrow pane it omits clock and name.
        extra = [heat, memory, links]
        for less in ({"clock": False}, {"clock": False, "name": False}):
            if cell_len(title.plain) + cell_len(join_parts(extra)) > width:
                title = title_row(gpu, width, lost, stale, **less)
        figures = join_parts(extra, width - cell_len(title.plain))
        half, other = half_widths(width)
        return [
            row(*title.spans, (figures, "muted" if stale else "text")),
            row(
                *chart("util", util, half, glyphs, "chart", stale),
                *chart("power", power_chart(gpu, series), other, glyphs, "chart2", stale),
            ),
        ]
    half, other = half_widths(width)
    link_top = link_range(history)
    temperature = f"{number(gpu.temperature_c)} °C"
    rx, tx = series["nvlink_rx_gb_per_s"], series["nvlink_tx_gb_per_s"]
    filled, empty = bar(None if used is None else used / 100, max(4, other - LABEL - FIGURE), glyphs)
    return [
        title,
        row(
            *chart("util", util, half, glyphs, "chart", stale),
            (fit(" memory", LABEL), "muted"),
            (filled, "muted" if stale else "chart2"),
            (empty, "track"),
            (fit(f" {memory}", FIGURE), figure_role(gpu.memory_used_bytes, stale)),
        ),
        row(
            *chart("power", power_chart(gpu, series), half, glyphs, "chart", stale),
            *chart("temp", (series["temperature_c"], 100.0, temperature), other, glyphs, "chart2", stale),
        ),
        row(
            *chart("nvl in", (rx, link_top, f"{number(gpu.nvlink_rx_gb_per_s)} GB/s"), half, glyphs, "chart", stale),
            *chart("nvl out", (tx, link_top, f"{number(gpu.nvlink_tx_gb_per_s)} GB/s"), other, glyphs, "chart2", stale),
        ),
    ]


def half_widths(width: int) -> tuple[int, int]:
    """The widths of two charts side by side, each with the blank before it."""
    return (width - 1) // 2, width // 2


def join_parts(parts: Sequence[str], room: int | None = None) -> str:
    """Parts of a title row with two blanks before each. Parts that do not fit are omitted: half a figure is a wrong
    one."""
    text = ""
    for part in parts:
        if room is not None and cell_len(text) + 2 + cell_len(part) > room:
            break
        text += f"  {part}"
    return text


Chart = tuple[Series, float, str]


def chart(label: str, what: Chart, width: int, glyphs: Glyphs, role: str, stale: bool) -> list[Span]:
    """A name, a sparkline, the newest value with its unit, and the peak."""
    series, top, value = what
    peak = "" if series.peak is None else f"{glyphs.peak}{number(series.peak)}"
    room = width - LABEL - FIGURE
    if room < 4:  # too narrow for the peak
        peak, room = "", max(4, width - LABEL - VALUE - 1)
    values = list(series.values)[-2 * room - 2 :]
    drawn = sparkline(values, top, room, glyphs, series.count - len(values))
    return [
        (fit(f" {label}", LABEL), "muted"),
        (drawn, "muted" if stale else role),
        (" " + fit(value, VALUE), figure_role(series.last, stale)),
        (fit(peak, width - LABEL - room - VALUE - 1), "muted"),
    ]


def power_chart(gpu: GpuSample, series: dict[str, Series]) -> Chart:
    limit = gpu.power_limit_w
    figure = f"{number(gpu.power_w)}/{number(limit)} W" if limit else ""
    if not 0 < cell_len(figure) <= VALUE:  # from 1,000 W, both are too wide
        figure = f"{number(gpu.power_w)} W"
    return series["power_w"], limit or nice_top(series["power_w"].values, 100.0), figure


def link_range(history: TelemetryHistory) -> float:
    """One range for every NVLink chart, so that GPUs can be compared at a glance."""
    peaks = [gpu[name].peak for gpu in history.gpus.values() for name in ("nvlink_tx_gb_per_s", "nvlink_rx_gb_per_s")]
    return nice_top(peaks, 1.0)


def title_row(
    gpu: GpuSample, width: int, lost: bool, stale: bool, *, name: bool = True, clock: bool = True, more: bool = False
) -> Row:
    """The GPU and its problems; with `more` also its utilisation, as far as it fits.

    Values without a chart are shown here as figures. Unknown ones are hidden, because they change no verdict.
    """
    spans: list[Span] = [(f" GPU {gpu.index}", "title")]
    if name:
        spans.append((f"  {clean_line(gpu.name or 'name n/a')}", "text"))
    if lost:
        spans.append(("  lost: no reading", "bad"))
    elif stale:
        spans.append(("  stale", "bad"))
    if gpu.xid is not None:
        spans.append((f"  XID {gpu.xid}", "bad"))
    if slowed := slowed_by(gpu):
        spans.append((f"  throttled: {', '.join(slowed)}", "warn"))
    if gpu.foreign_processes:
        spans.append((f"  not of this run: pid {', '.join(map(str, gpu.foreign_processes))}", "bad"))
    figures = ["idle"] if IDLE in (gpu.throttle_reasons or ()) else []
    if clock and gpu.sm_clock_mhz is not None:
        figures.append(f"{gpu.sm_clock_mhz:.0f} MHz")
    if more:
        figures += used_for(gpu)
    room = width - sum(cell_len(text) for text, _ in spans)
    return row(*spans, (join_parts(figures, room), "muted"))


def slowed_by(gpu: GpuSample) -> list[str]:
    """The reasons for lower clocks, without the harmless ones."""
    return [clean_line(reason) for reason in gpu.throttle_reasons or () if reason != IDLE]


def used_for(gpu: GpuSample) -> list[str]:
    """The known values of utilisation, PCIe traffic and number of processes."""
    shares = [("tensor", gpu.tensor_util_percent), ("DRAM", gpu.dram_util_percent)]
    found = [f"{name} {pct(value)}" for name, value in shares if value is not None]
    if gpu.pcie_rx_gb_per_s is not None and gpu.pcie_tx_gb_per_s is not None:
        found.append(f"PCIe in {number(gpu.pcie_rx_gb_per_s)} out {number(gpu.pcie_tx_gb_per_s)} GB/s")
    if gpu.processes is not None:
        count = len(gpu.processes)
        found.append("no process" if not count else "1 process" if count == 1 else f"{count} processes")
    return found


LINKS = 15  # width of both NVLink figures in a dense row


def dense(width: int, figures: str, links: str) -> tuple[int, str]:
    """The width of a dense row's chart, and its figures, with the links if there is room."""
    room = width - 8 - cell_len(figures)
    return (room - LINKS, f"{figures} {links:>{LINKS - 1}}") if room - LINKS >= 4 else (max(4, room), figures)


def dense_heading(width: int) -> Row:
    """The heading of the columns of dense rows."""
    room, names = dense(width, f" {'':>6} {'memory':>17} {'power':>7} {'temp':>7}", "NVLink in/out")
    chart = next((name for name in ("util 0 to 100 %", "util %") if len(name) <= room + 7), "")
    return row((fit(" GPU", 8) + fit(chart, room + 7) + names[7:], "muted"))


def one_row(gpu: GpuSample, series: dict[str, Series], memory: str, width: int, glyphs: Glyphs, stale: bool) -> Row:
    role = "muted" if stale else "text"
    links = f"{number(gpu.nvlink_rx_gb_per_s)}/{number(gpu.nvlink_tx_gb_per_s)} GB/s"
    heat = f"{number(gpu.power_w):>5} W {number(gpu.temperature_c):>4} °C"
    room, figures = dense(width, f" {pct(gpu.sm_util_percent):>6} {memory:>17} {heat}", links)
    util = series["sm_util_percent"]
    values = list(util.values)[-2 * room - 2 :]
    drawn = sparkline(values, 100.0, room, glyphs, util.count - len(values))
    flag: Span = ("!", "bad") if gpu_problems(gpu) else (" ", "text")
    return row((f" GPU {gpu.index:<2}", "title"), flag, (drawn, "muted" if stale else "chart"), (figures, role))


def gpu_problems(gpu: GpuSample) -> list[str]:
    """The problems of a GPU, for which a dense row has only a sign."""
    found = [] if gpu.xid is None else [f"XID {gpu.xid}"]
    found += [f"throttled: {reason}" for reason in slowed_by(gpu)]
    found += ["processes that are not of this run"] if gpu.foreign_processes else []
    return found if gpu.sm_util_percent is not None else [*found, "no reading of its utilisation"]


def problem_rows(gpus: Sequence[GpuSample], width: int) -> list[Row]:
    """The meaning of the signs in dense rows: one row for each problem, with its GPUs."""
    having: dict[str, list[int]] = {}
    for gpu in gpus:
        for problem in gpu_problems(gpu):
            having.setdefault(problem, []).append(gpu.index)
    return [
        row(
            (" ! ", "bad"),
            (f"{problem}: ", "warn"),
            (fit(f"GPU {ranges(which)}", width - 5 - len(problem), ""), "text"),
        )
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


def host_rows(host: HostSample, history: TelemetryHistory, width: int, glyphs: Glyphs, stale: bool) -> list[Row]:
    """Processor, memory, network and disk of the host."""
    half, other = half_widths(width)
    series = history.host
    cores = f" of {host.cpu_count} cores" if host.cpu_count else ""
    title: list[Span] = [(" Host", "title"), (f"  load {number(host.load_1m)}{cores}", "text")]
    inward, outward = number(host.network_rx_mb_per_s), number(host.network_tx_mb_per_s)
    more = [f"network in {inward} out {outward} MB/s", f"disk free {gib(host.disk_free_bytes)} GiB"]
    title.append((join_parts(more, width - sum(cell_len(text) for text, _ in title)), "muted"))
    used, total = series["memory_gib"], host.memory_total_bytes
    top = total / 2**30 if total else nice_top(used.values, 1.0)
    memory = used, top, whole_gib(host.memory_used_bytes, total)
    return [
        row(*title),
        row(
            *chart("cpu", (series["cpu_percent"], 100.0, pct(host.cpu_percent)), half, glyphs, "chart", stale),
            *chart("memory", memory, other, glyphs, "chart2", stale),
        ),
    ]


def note_rows(notes: Sequence[Note], gpu: int | None, width: int) -> list[Row]:
    """The reasons for missing values."""
    rows: list[Row] = []
    for note in notes:
        if note.gpu == gpu:
            lines = wrap(clean_line(note.message), width - 5)
            rows += [row((" n/a " if not i else "     ", "warn"), (line, "muted")) for i, line in enumerate(lines)]
    return rows


def used_of(used: float | None, total: float | None) -> str:
    if used is None:
        return NOT_AVAILABLE
    return f"{gib(used)}/{gib(total)} GiB" if total else f"{gib(used)} GiB"


def whole_gib(used: float | None, total: float | None) -> str:
    """A host's memory, without decimals, because a host may have thousands of GiB."""
    if used is None or not total:
        return NOT_AVAILABLE if used is None else f"{used / 2**30:.0f} GiB"
    return f"{used / 2**30:.0f}/{total / 2**30:.0f}G"


def pct(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.0f} %"


def figure_role(value: float | None, stale: bool) -> str:
    return "warn" if value is None else "muted" if stale else "text"
