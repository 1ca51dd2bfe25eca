"""A pane as a stack of blocks that share its height."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmval_tui.terminal.share_rows import Block, share_rows
from llmval_tui.tui.drawing.rows import Row, row


@dataclass(frozen=True, slots=True)
class PaneBlock:
    """A block of a pane: how many rows it needs and wants, and how it is drawn in the rows that it gets.

    Attributes:
        block: its heights and its rank, see `Block`.
        draw: makes its rows for a height from `least` on.
    """

    block: Block
    draw: Callable[[int], Sequence[Row]]


def block(
    name: str,
    draw: Callable[[int], Sequence[Row]],
    *,
    rank: int,
    least: int,
    wish: int | None = None,
    most: int | None = None,
    grows: int = 0,
    late: bool = False,
) -> PaneBlock:
    """A block; without `wish` it always has `least` rows."""
    wish = least if wish is None else wish
    return PaneBlock(Block(name, least, wish, rank, most if grows else wish, grows, late), draw)


def fixed(name: str, rows: Sequence[Row], *, rank: int, late: bool = False) -> PaneBlock:
    """A block of rows that do not depend on its height."""
    return block(name, lambda _: rows, rank=rank, least=len(rows), late=late)


def blank(name: str, *, rank: int) -> PaneBlock:
    """A blank row, if every other block has what it wishes."""
    return block(name, lambda height: [row()] * height, rank=rank, least=0, wish=1, late=True)


def stacked(blocks: Sequence[PaneBlock], height: int) -> list[Row]:
    """The rows of all blocks in their order, at most `height`."""
    heights = share_rows([one.block for one in blocks], height)
    return [shown for one in blocks if (rows := heights[one.block.name]) for shown in list(one.draw(rows))[:rows]]
