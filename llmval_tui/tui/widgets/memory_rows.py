"""The memory of each GPU as a stacked bar: parts differ in fill and colour, and the legend has their GiB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import NOT_AVAILABLE, fit, gib
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.text_rows import heading


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the bar; `metric` is its name among a run's metrics."""

    metric: str
    label: str
    unicode: str
    ascii: str
    role: str


# From left to right. Fills become lighter to the right, and neighbours differ.
PARTS = (
    Part("memory_weights_bytes", "weights", "█", "#", "chart"),
    Part("memory_kv_bytes", "KV cache", "▓", "=", "chart2"),
    Part("memory_kv_unfilled_bytes", "KV, still empty", "▒", "-", "chart2"),
    Part("memory_activation_bytes", "activations", "▚", "+", "good"),
    Part("memory_other_bytes", "other", "▄", "~", "muted"),
    Part("memory_free_bytes", "free", "░", ".", "track"),
)
TOTAL = "memory_total_bytes"
Memory = Mapping[str, float | None]


def memory_rows(memory: Sequence[tuple[int, Memory]], width: int, glyphs: Glyphs) -> list[Row]:
    """A bar for each rank's GPU, and one legend with the range over all ranks."""
    if not memory:
        return []
    rows = heading("Memory a GPU", width, glyphs, "one bar, one rank")
    for rank, parts in memory:
        total = total_bytes(parts)
        head, tail = fit(f" rank {rank}", 9), fit(f" {gib(total)} GiB", 12)
        rows.append(row((head, "title"), *bar_spans(parts, width - len(head) - len(tail), glyphs), (tail, "text")))
    return rows + legend_rows(memory, width, glyphs)


def total_bytes(parts: Memory) -> float:
    """The GPU's memory in bytes as reported, else the sum of the known parts."""
    known = sum(value for part in PARTS if (value := parts.get(part.metric)) is not None)
    return max(parts.get(TOTAL) or 0.0, known)


def bar_spans(parts: Memory, width: int, glyphs: Glyphs) -> list[Span]:
    """The bar in `width` cells; every part has at least one cell."""
    total = total_bytes(parts)
    shown = [(part, value) for part in PARTS if (value := parts.get(part.metric))]
    if total <= 0 or width < len(shown):
        return [(" " * max(0, width), "text")]
    cells = [max(1, int(value / total * width)) for _, value in shown]
    # Cells left over by rounding go to the largest remainders; the longest parts give cells to the smallest ones.
    remainders = sorted(range(len(shown)), key=lambda i: -(shown[i][1] / total * width % 1))
    covered = sum(value for _, value in shown) / total
    wanted = min(width, round(covered * width)) if covered < 1 else width
    for index in remainders:
        if sum(cells) < wanted:
            cells[index] += 1
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    spans = [
        ((part.ascii if glyphs.ascii else part.unicode) * count, part.role)
        for (part, _), count in zip(shown, cells, strict=True)
    ]
    return [*spans, (" " * (width - sum(cells)), "text")]


def legend_rows(memory: Sequence[tuple[int, Memory]], width: int, glyphs: Glyphs) -> list[Row]:
    """Each part's fill, name and GiB, as many in a row as fit."""
    rows: list[Row] = []
    spans: list[Span] = []
    used = 0
    for part in PARTS:
        values = [parts[part.metric] for _, parts in memory if part.metric in parts]
        if not values:
            continue
        fill = (part.ascii if glyphs.ascii else part.unicode) * 2
        text = f" {part.label} {gib_range(values)}   "
        if used and used + 3 + cell_len(text) > width:
            rows.append(row(*spans))
            spans, used = [], 0
        spans += [(f" {fill}", part.role), (text, "text")]
        used += 3 + cell_len(text)
    return [*rows, row(*spans)] if spans else rows


def gib_range(values: Sequence[float | None]) -> str:
    """The GiB of one GPU, or the range over several."""
    known = [value for value in values if value is not None]
    if not known:
        return NOT_AVAILABLE
    least, most = gib(min(known)), gib(max(known))
    return f"{most} GiB" if least == most else f"{least} to {most} GiB"
