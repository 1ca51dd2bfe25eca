"""Shares out the rows of a pane among its blocks, so that no row is blank while a block could use it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a pane that can have different heights.

    Attributes:
        name: how the result names it.
        least: rows below which it is left out.
        wish: rows that it gets before a less important block gets more than its least.
        rank: its importance: 0 is the last to go.
        most: rows that it can use at all; None: any number. Rows that are left over after all wishes go to the
            blocks with `grows`, by its order.
        grows: 1 takes the left-over rows first, together with all others of the same number; 0: none.
        late: it gets its least only after the others have their wishes.
    """

    name: str
    least: int
    wish: int
    rank: int
    most: int | None = None
    grows: int = 0
    late: bool = False


def share_rows(blocks: Sequence[Block], height: int) -> dict[str, int]:
    """The rows of each block by name; 0 if it is left out. Their sum is at most `height`.

    First every block gets its least height, in the order of the ranks; one that no longer fits is left out. Then, in
    the same order, each gets its wish. After that come the late blocks, likewise. What is left is shared among the
    blocks that grow.
    """
    order = sorted(blocks, key=lambda block: block.rank)
    rows = {block.name: 0 for block in blocks}
    left = max(0, height)
    shown: list[Block] = []
    for late in (False, True):
        mine = [block for block in order if block.late == late]
        for block in mine:
            if block.least <= left:
                rows[block.name] = block.least
                left -= block.least
                shown.append(block)
        for block in mine:
            if block in shown:
                more = min(left, max(0, block.wish - rows[block.name]))
                rows[block.name] += more
                left -= more
    for stage in sorted({block.grows for block in shown if block.grows}):
        growing = [block for block in shown if block.grows == stage]
        while left and growing:
            for block in list(growing):
                if block.most is not None and rows[block.name] >= block.most:
                    growing.remove(block)
                elif left:
                    rows[block.name] += 1
                    left -= 1
    return rows
