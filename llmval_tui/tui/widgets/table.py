"""A table whose columns go one after the other, the least important first, if there is no room for all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llmval_tui.terminal.format import fit
from llmval_tui.tui.drawing.rows import Row, Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableColumn(Generic[T]):
    """One column.

    Attributes:
        title: above it.
        width: cells, without the blanks before it.
        cell: the text and the role of its cell in one row; or a list of spans, whose widths sum to `width`.
        rank: 0 stays longest.
        left: text begins at the left edge of the column; else it ends at the right one.
        last: takes all the room that is left.
    """

    title: str
    width: int
    cell: Callable[[T], Span | list[Span]]
    rank: int = 0
    left: bool = False
    last: bool = False


def fitting(columns: Sequence[TableColumn[T]], width: int, gap: int = 2) -> list[TableColumn[T]]:
    """The columns that fit into `width` cells with a blank before the first one."""
    shown = list(columns)
    while len(shown) > 1 and 1 + sum(column.width + gap for column in shown) - gap > width:
        shown.remove(max(shown, key=lambda column: column.rank))
    return shown


def table_rows(
    columns: Sequence[TableColumn[T]], items: Sequence[T], width: int, ellipsis: str, gap: int = 2
) -> list[Row]:
    """The titles, and a row for each item."""
    shown = fitting(columns, width, gap)
    spare = width - (1 + sum(column.width + gap for column in shown) - gap)
    widths = [column.width + (max(0, spare) if column.last else 0) for column in shown]
    between = " " * gap

    def placed(text: str, column: TableColumn[T], room: int) -> str:
        return fit(text, room, ellipsis) if column.left or len(text) > room else text.rjust(room)

    head = " " + between.join(placed(column.title, column, room) for column, room in zip(shown, widths, strict=True))
    rows = [Row(((head, "muted"),))]
    for item in items:
        spans: list[Span] = [(" ", "text")]
        for index, (column, room) in enumerate(zip(shown, widths, strict=True)):
            found = column.cell(item)
            if index:
                spans.append((between, "text"))
            if isinstance(found, list):
                spans += found
            else:
                spans.append((placed(found[0], column, room), found[1]))
        rows.append(Row(tuple(spans)))
    return rows
