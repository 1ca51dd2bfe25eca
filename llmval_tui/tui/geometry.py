"""Where the list lies on a terminal: what `app.tcss` says, in numbers, for the frame that comes before style sheets.

A test holds the two against each other.
"""

from dataclasses import dataclass

BOTH = 100  # columns from which the list and a pane stand side by side
LEAST, MOST, PERCENT = 40, 64, 36  # columns of the list beside a pane
ABOVE, BELOW = 2, 1  # rows: the header and the list's title; the keys


@dataclass(frozen=True, slots=True)
class Place:
    """The list's cells, without its title; where a pane stands beside it, a divider follows."""

    width: int
    height: int
    divided: bool

    @property
    def top(self) -> int:
        return ABOVE


def list_place(columns: int, rows: int) -> Place | None:
    """Where the list is on a terminal of this size; None where it is too small for one."""
    height = rows - ABOVE - BELOW
    if columns < LEAST or height < 1:
        return None
    if columns < BOTH:
        return Place(columns, height, False)
    return Place(max(LEAST, min(MOST, columns * PERCENT // 100)) - 1, height, True)
