"""The Telemetry pane: a set of charts for each GPU, the host, and the processes on the GPUs; all of the height."""

from collections.abc import Sequence

from textual import events

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.sample import GpuSample, Note
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import age, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.run_follower import RunSnapshot
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.charts import RANGE_WORDS, WINDOW_WORDS, ChartView
from llmval_tui.tui.widgets.gpu_charts import ComparedGpu, GpuView, compared, worst_first
from llmval_tui.tui.widgets.gpu_sets import MANY, gpu_blocks
from llmval_tui.tui.widgets.host_rows import host_blocks
from llmval_tui.tui.widgets.process_table import ProcessChoice, described, process_block, target_of
from llmval_tui.tui.widgets.run_charts import signs
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.stack import fixed, stacked

ORDERS = ("index", "from the median")
ORDER_S = 60.0  # an order that follows the figures is made again after this time, because it moves every chart


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
    """The source of the figures and their age, and the choices for the charts."""
    if state.recorded_of is not None:
        text: Span = (f" recorded with run {state.recorded_of}", "text")
    elif state.settings.replay is not None:
        text = (f" replay of {clean_line(state.settings.replay.name)}", "warn")
    else:
        text = (" live", "text")
    spans: list[Span] = [text]
    since = state.sample_age
    if state.recorded_of is None and state.stale and since is not None:
        stale = f"  stale: the newest sample is {age(since)} old; charts and figures stand still"
        room = width - cell_len(text[0])
        spans.append((stale if cell_len(stale) <= room else f"  stale: newest sample {age(since)} old", "bad"))
        return row(*spans)
    if gpu_view is None:
        return row(*spans)

    run = state.run
    if run is not None and run.alive and state.recorded_of is None:
        said = run_words(run, glyphs)
        if sum(cell_len(text) for text, _ in (*spans, *said)) <= width:
            spans += said

    def key(name: str) -> str:
        shown = state.keymap.hint(name)
        return f" ({shown})" if shown else ""

    full, part = signs(glyphs)
    whole = "the last 10 min" if not gpu_view.of_run and view.window == "whole" else WINDOW_WORDS[view.window]
    for words in (
        f"window: {whole}{key('window')}",
        f"order: {order}{key('order')}" if order else "",
        f"range: {RANGE_WORDS[view.range]}{key('range')}",
        f"{full} to the lowest in a dot, {part} to the highest",
    ):
        if words and sum(cell_len(part) for part, _ in spans) + 2 + cell_len(words) <= width:
            spans.append((f"  {words}", "muted"))
    return row(*spans)


def run_words(run: RunSnapshot, glyphs: Glyphs) -> list[Span]:
    """Whether the run that heats these GPUs is good: its rate, and a sign for each figure with a bound."""
    from llmval_tui.tui.panes.run_blocks import live_figures
    from llmval_tui.tui.widgets.figures import bound_text, value_text

    spans: list[Span] = [(f"  {run.intent.step.number}", "title")]
    for figure in live_figures(run):
        label = figure.label.partition(",")[0]
        if figure.bound is not None and figure.holds is not None and not figure.of_baseline:
            bound, role = bound_text(figure, 0, glyphs)
            spans.append((f" {bound.partition(' ')[0]} {label}", role))
        elif len(spans) == 1:
            spans.append((f" {label} {value_text(figure)}", "text"))
    return spans if len(spans) > 1 else []


def note_rows(notes: Sequence[Note], gpu: int | None, width: int) -> list[Row]:
    """The reasons for missing values."""
    rows: list[Row] = []
    for note in notes:
        if note.gpu == gpu:
            lines = wrap(clean_line(note.message), width - 5)
            rows += [row((" n/a " if not i else "     ", "warn"), (line, "muted")) for i, line in enumerate(lines)]
    return rows
