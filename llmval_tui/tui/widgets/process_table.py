"""The processes on the GPUs: who computes there, and whether it belongs to a run; one of them can be chosen."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.sample import Process, Sample
from llmval_tui.terminal.format import NOT_AVAILABLE, duration, gib, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import TelemetryHistory
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.widgets.gpu_charts import compared, is_odd
from llmval_tui.tui.widgets.sparkline import bar
from llmval_tui.tui.widgets.stack import PaneBlock, block, fixed
from llmval_tui.tui.widgets.table import TableColumn, table_rows
from llmval_tui.tui.widgets.text_rows import heading

BAR = 10
MOST = 32  # rows
CHOOSING = 2  # while one is chosen, the table may take this part of the height from the charts
# The orders: name, title of the column, field; unknown values come last. The first is GPU and pid, with foreign on
# top; those of figures begin with the largest.
ORDERS = (
    ("GPU", "GPU", "gpu"),
    ("GPU memory", "GPU memory", "gpu_memory_bytes"),
    ("cpu", "cpu %", "cpu_percent"),
    ("host memory", "host memory", "host_memory_bytes"),
    ("age", "age", "age_s"),
    ("user", "user", "user"),
    ("pid", "pid", "pid"),
)
ASCENDING = ("GPU", "user", "pid")


class ProcessChoice:
    """The order of the processes, and the chosen one. It keeps its process if the order or the list changes."""

    def __init__(self) -> None:
        self.choosing = False  # the table has the focus within the pane
        self.order = 0
        self.reversed = False
        self.shown: list[Process] = []  # in the order in which they were drawn last
        self._chosen: tuple[int, int] | None = None  # GPU and pid
        self._index = 0  # of the chosen one, as drawn last
        self._top = 0  # the first row that was drawn

    @property
    def chosen(self) -> Process | None:
        """The process under the cursor; None if the table has not the focus."""
        return self.shown[self._index] if self.choosing and self._index < len(self.shown) else None

    def next_order(self) -> None:
        self.order = (self.order + 1) % len(ORDERS)
        self.reversed = False

    def reverse(self) -> None:
        self.reversed = not self.reversed

    def move(self, rows: int) -> None:
        self.choose(self._index + rows)

    def choose(self, index: int) -> None:
        """Put the cursor on a row of the table."""
        if self.shown:
            self._index = max(0, min(index, len(self.shown) - 1))
            self._chosen = key_of(self.shown[self._index])

    def sort(self, found: Sequence[Process], odd: Collection[int] = ()) -> list[Process]:
        """The processes in order, with the cursor on the process that it was on, or else on the same row.

        In the first order, foreign processes come first, then those on `odd` GPUs: at fault, or far from the median.
        """
        name, _, field = ORDERS[self.order]
        rows = sorted(found, key=lambda one: (not is_foreign(one), one.gpu not in odd, one.gpu, one.pid))
        if self.order == 0:
            rows = rows[::-1] if self.reversed else rows
        else:
            values = [(_comparable(getattr(one, field)), one) for one in rows]
            known = sorted(
                ((value, one) for value, one in values if value is not None),
                key=lambda pair: pair[0],
                reverse=(name not in ASCENDING) is not self.reversed,
            )
            rows = [one for _, one in known] + [one for value, one in values if value is None]
        self.shown = rows
        keys = [key_of(one) for one in rows]
        self._index = keys.index(self._chosen) if self._chosen in keys else min(self._index, max(0, len(rows) - 1))
        self._chosen = keys[self._index] if keys else None
        self.choosing = self.choosing and bool(rows)
        return rows

    def window(self, rows: int) -> int:
        """The index of the first process that `rows` rows show, so that the chosen one is among them."""
        if not self.choosing:
            self._top = 0
        else:
            self._top = max(0, min(max(self._top, self._index - rows + 1), self._index, len(self.shown) - rows))
        return self._top

    def title(self, name: str, glyphs: Glyphs) -> str:
        """The title of a column, with a sign at that of the order."""
        falls = (ORDERS[self.order][0] not in ASCENDING) is not self.reversed
        sign = ("v" if falls else "^") if glyphs.ascii else ("▾" if falls else "▴")
        return f"{name}{sign}" if name == ORDERS[self.order][1] and self.order else name


def _comparable(value: float | str | None) -> tuple[float, str] | None:
    return None if value is None else (0.0, value) if isinstance(value, str) else (value, "")


def key_of(one: Process) -> tuple[int, int]:
    return one.gpu, one.pid


def target_of(one: Process) -> str:
    """What a row of the table stands for."""
    return f"process {one.gpu} {one.pid}"


def described(one: Process) -> str:
    """A process in one line, to be pasted elsewhere; unknown parts are left out."""
    parts = [f"GPU {one.gpu}", f"pid {one.pid}"]
    parts += [f"user {one.user}"] if one.user is not None else []
    parts += [f"{gib(one.gpu_memory_bytes)} GiB of GPU memory"] if one.gpu_memory_bytes is not None else []
    parts += [f"{gib(one.host_memory_bytes)} GiB of host memory"] if one.host_memory_bytes is not None else []
    parts += [f"{number(one.cpu_percent)} % cpu"] if one.cpu_percent is not None else []
    parts += [f"{one.threads} threads"] if one.threads is not None else []
    parts += [one.state] if one.state is not None else []
    parts += [f"since {duration(one.age_s)}"] if one.age_s is not None else []
    if is_foreign(one):
        parts.append("of no run")
    elif one.run_id is not None:
        parts.append(f"rank {one.rank} of run {one.run_id}" if one.rank is not None else f"of run {one.run_id}")
    return clean_line(", ".join(parts) + (f": {one.command}" if one.command is not None else ""))


def processes_of(history: TelemetryHistory) -> list[Process] | None:
    """The processes as last read; from an older recording their pids alone; None if not even those are known."""
    last = history.last
    if last is None or (history.processes is None and not any(gpu.processes is not None for gpu in last.gpus)):
        return None
    if history.processes is None:
        return [
            Process(gpu.index, pid, foreign=None if gpu.foreign_processes is None else pid in gpu.foreign_processes)
            for gpu in last.gpus
            for pid in gpu.processes or ()
        ]
    now = {(gpu.index, pid) for gpu in last.gpus for pid in gpu.processes or ()}
    unknown = any(gpu.processes is None for gpu in last.gpus)
    # The pids are read more often than the rest: what has ended since is gone.
    return [one for one in history.processes if unknown or (one.gpu, one.pid) in now]


def is_foreign(one: Process) -> bool:
    """Whether a process is known to belong to no run."""
    return one.foreign is True


def process_block(
    history: TelemetryHistory,
    width: int,
    height: int,
    glyphs: Glyphs,
    keymap: Keymap,
    choice: ProcessChoice,
    *,
    stale: bool,
) -> PaneBlock | None:
    """The table of processes; None without GPUs. While one is chosen it takes up to half of `height`."""
    last = history.last
    if last is None or not last.gpus:
        return None
    known = processes_of(history)
    if known is None:
        choice.sort([])
        text = heading("Processes", width, glyphs, f"{NOT_AVAILABLE}: they were not recorded")[1:]
        return fixed("processes", text, rank=5, late=True)
    found = choice.sort(known, {one.gpu.index for one in compared(last.gpus) if is_odd(one)})
    others = sum(is_foreign(one) for one in found)
    own = sum(one.foreign is False or (one.foreign is None and one.run_id is not None) for one in found)
    words = [f"all {own} are of a run" if own == len(found) else f"{own} of a run"] if own else []
    words += [f"{others} of others"] if others else []
    unknown = len(found) - own - others
    words += [f"{unknown} not known whose"] if unknown else []
    note = ", ".join([*words, *key_words(keymap, choice)]) if found else "none"
    (title,) = heading("Processes", width, glyphs, note, "bad" if others else "muted")[1:]
    if choice.choosing:
        title = replace(title, background="cursor")
    if not found:
        return fixed("processes", [title], rank=5, late=True)
    columns = process_columns(last, glyphs, choice, stale=stale)

    def draw(rows: int) -> list[Row]:
        room = max(1, rows - 2)
        if len(found) > room:
            room = max(1, room - 1)  # a row for how many more there are
        first = choice.window(room)
        part = found[first : first + room]
        head, *lines = table_rows(columns, part, width, glyphs.ellipsis)
        table = [replace(line, target=target_of(one)) for line, one in zip(lines, part, strict=True)]
        after = len(found) - first - len(part)
        hidden = [f"{count} {where}" for count, where in ((first, "above"), (after, "more processes")) if count]
        return [title, head, *table, *([row((f" {', '.join(hidden)}", "muted"))] if hidden else [])]

    wish = min(len(found), MOST) + 2
    least = min(wish, max(4, height // CHOOSING)) if choice.choosing else min(4, wish)
    return block("processes", draw, rank=5, least=least, wish=wish, late=not others and not choice.choosing)


def key_words(keymap: Keymap, choice: ProcessChoice) -> list[str]:
    """What keys do with the table, for its heading."""
    if not choice.choosing:
        key = keymap.hint("switch")
        return [f"{key} to choose one"] if key else []
    words = [("order", f"by {ORDERS[choice.order][0]}"), ("reverse", "reverse"), ("copy", "copy")]
    return [f"{key} {text}" for name, text in words if (key := keymap.hint(name))]


def process_columns(last: Sample, glyphs: Glyphs, choice: ProcessChoice, *, stale: bool) -> list[TableColumn[Process]]:
    """The columns of the table. GPU, pid, user, memory and command stay longest."""
    totals = {gpu.index: gpu.memory_total_bytes for gpu in last.gpus}
    quiet = "muted" if stale else "text"

    def figure(text: str | None) -> Span:
        return (NOT_AVAILABLE, "muted") if text is None else (text, quiet)

    def whose(one: Process) -> Span:
        if is_foreign(one):
            return f"{'!' if glyphs.ascii else '✗'} other", "bad"
        if one.rank is not None:
            return f"rank {one.rank}", quiet
        return ("run", quiet) if one.foreign is False or one.run_id else (NOT_AVAILABLE, "muted")

    def memory(one: Process) -> list[Span]:
        total = totals.get(one.gpu)
        share = one.gpu_memory_bytes / total if one.gpu_memory_bytes is not None and total else None
        filled, empty = bar(share, BAR, glyphs)
        text, role = figure(None if one.gpu_memory_bytes is None else f"{gib(one.gpu_memory_bytes)} GiB")
        return [(f"{text:>10} ", role), (filled, "muted" if stale else "chart2"), (empty, "track")]

    def name(one: Process) -> Span:
        return str(one.pid), "bad" if is_foreign(one) else "title"

    def text(value: str | None) -> Span:
        return figure(None if value is None else clean_line(value))

    def host(one: Process) -> Span:
        return figure(None if one.host_memory_bytes is None else f"{gib(one.host_memory_bytes)} GiB")

    columns = [
        TableColumn("GPU", 3, lambda one: (str(one.gpu), "title")),
        TableColumn("whose", 8, whose, 2, left=True),
        TableColumn("pid", 7, name),
        TableColumn("user", 10, lambda one: text(one.user), 1, left=True),
        TableColumn("state", 10, lambda one: text(one.state), 6, left=True),
        TableColumn("GPU memory".ljust(11 + BAR), 11 + BAR, memory, 1),
        TableColumn("host memory", 12, host, 4),
        TableColumn("cpu %", 6, lambda one: figure(None if one.cpu_percent is None else number(one.cpu_percent)), 3),
        TableColumn("threads", 7, lambda one: figure(None if one.threads is None else str(one.threads)), 7),
        TableColumn("age", 12, lambda one: figure(None if one.age_s is None else duration(one.age_s)), 5),
        TableColumn("command", 12, lambda one: text(one.command), 0, left=True, last=True),
    ]
    return [replace(one, title=choice.title(one.title.rstrip(), glyphs).ljust(len(one.title))) for one in columns]
