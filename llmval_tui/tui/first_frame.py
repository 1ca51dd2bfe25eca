"""The list as text for the terminal, drawn before Textual is imported: the same rows in the same cells.

Importing Textual takes longer than all else of the start. Around the list are only the grounds of what comes there.
"""

from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, exactly, fitted, row
from llmval_tui.tui.drawing.step_rows import listing, title_row
from llmval_tui.tui.drawing.viewport import in_sight, placed, under_cursor
from llmval_tui.tui.geometry import Place
from llmval_tui.tui.ink import Ink

BAR = Row(ground="bar")


def first_frame(state: ScreenState, glyphs: Glyphs, ink: Ink, columns: int, place: Place) -> str:
    """The whole screen: header, title and list, which has the focus, and the keys' row, from above."""
    divider = row(((glyphs.border if place.divided else ""), "track"))
    right = columns - place.width - len(divider.plain)

    def beside(left: Row, other: Row) -> str:
        between = painted(divider, len(divider.plain), ink)
        return painted(left, place.width, ink) + between + painted(other, right, ink)

    bar = painted(BAR, columns, ink)
    (title,) = exactly([title_row(state, glyphs, place.width, True)], 1, glyphs.ascii)
    steps = [beside(shown, Row()) for shown in _list_rows(state, glyphs, place)]
    lines = (bar, beside(title, BAR), *steps, bar)
    return "".join(f"\x1b[{y};1H{line}" for y, line in enumerate(lines, 1)) + "\x1b[0m"


def _list_rows(state: ScreenState, glyphs: Glyphs, place: Place) -> list[Row]:
    shown = listing(state, glyphs, place.width - 1)  # the last column is the scroll bar's
    top, cursor = placed(shown.rows, 0, shown.row_of(state.key) or 0, place.height)

    def mark(index: int, given: Row) -> Row:
        return under_cursor(given, True) if index == cursor else given

    return exactly(in_sight(shown.rows, top, place.width, place.height, mark, glyphs.ascii), place.height, glyphs.ascii)


def painted(shown: Row, width: int, ink: Ink) -> str:
    """A row in exactly `width` cells."""
    return "".join(ink.style(role, shown.ground) + text for text, role in fitted(shown.spans, width) if text)
