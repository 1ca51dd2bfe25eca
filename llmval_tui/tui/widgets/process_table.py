"""The processes on the GPUs: who computes there, and whether it belongs to a run."""

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry.sample import Process, Sample
from llmval_tui.terminal.format import NOT_AVAILABLE, duration, gib, number
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.history import TelemetryHistory
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.sparkline import bar
from llmval_tui.tui.widgets.stack import PaneBlock, block, fixed
from llmval_tui.tui.widgets.table import TableColumn, table_rows
from llmval_tui.tui.widgets.text_rows import heading

BAR = 10
MOST = 32  # rows


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


def is_stranger(one: Process) -> bool:
    """Whether a process is known to belong to no run."""
    return one.foreign is True


def process_block(history: TelemetryHistory, width: int, glyphs: Glyphs, *, stale: bool) -> PaneBlock | None:
    """The table of processes; None without GPUs."""
    last = history.last
    if last is None or not last.gpus:
        return None
    found = processes_of(history)
    if found is None:
        text = heading("Processes", width, glyphs, f"{NOT_AVAILABLE}: they were not recorded")[1:]
        return fixed("processes", text, rank=5, late=True)
    found = sorted(found, key=lambda one: (not is_stranger(one), one.gpu, one.pid))
    others = sum(is_stranger(one) for one in found)
    own = sum(one.foreign is False or (one.foreign is None and one.run_id is not None) for one in found)
    words = [f"{own} of a run"] if own else []
    words += [f"{others} of others"] if others else []
    unknown = len(found) - own - others
    words += [f"{unknown} not known whose"] if unknown else []
    note = ", ".join(words) or "none"
    title = heading("Processes", width, glyphs, note, "bad" if others else "muted")[1:]
    if not found:
        return fixed("processes", title, rank=5, late=True)
    columns = process_columns(last, glyphs, stale=stale)

    def draw(rows: int) -> list[Row]:
        room = max(1, rows - 2)
        shown = found if len(found) <= room else found[: max(1, room - 1)]
        table = table_rows(columns, shown, width, glyphs.ellipsis)
        more = len(found) - len(shown)
        return [*title, *table, *([row((f" {more} more", "muted"))] if more else [])]

    wish = min(len(found), MOST) + 2
    return block("processes", draw, rank=5, least=min(4, wish), wish=wish, late=not others)


def process_columns(last: Sample, glyphs: Glyphs, *, stale: bool) -> list[TableColumn[Process]]:
    """The columns of the table. GPU, pid, user, memory and command stay longest."""
    totals = {gpu.index: gpu.memory_total_bytes for gpu in last.gpus}
    quiet = "muted" if stale else "text"

    def figure(text: str | None) -> Span:
        return (NOT_AVAILABLE, "muted") if text is None else (text, quiet)

    def whose(one: Process) -> Span:
        if is_stranger(one):
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
        return str(one.pid), "bad" if is_stranger(one) else "title"

    def text(value: str | None) -> Span:
        return figure(None if value is None else clean_line(value))

    def host(one: Process) -> Span:
        return figure(None if one.host_memory_bytes is None else f"{gib(one.host_memory_bytes)} GiB")

    return [
        TableColumn("GPU", 3, lambda one: (str(one.gpu), "title")),
        TableColumn("whose", 8, whose, 2, left=True),
        TableColumn("pid", 7, name),
        TableColumn("user", 10, lambda one: text(one.user), 1, left=True),
        TableColumn("state", 10, lambda one: text(one.state), 6, left=True),
        TableColumn("GPU memory".ljust(11 + BAR), 11 + BAR, memory, 1),
        TableColumn("host memory", 11, host, 4),
        TableColumn("cpu %", 6, lambda one: figure(None if one.cpu_percent is None else number(one.cpu_percent)), 3),
        TableColumn("threads", 7, lambda one: figure(None if one.threads is None else str(one.threads)), 7),
        TableColumn("age", 12, lambda one: figure(None if one.age_s is None else duration(one.age_s)), 5),
        TableColumn("command", 12, lambda one: text(one.command), 0, left=True, last=True),
    ]
