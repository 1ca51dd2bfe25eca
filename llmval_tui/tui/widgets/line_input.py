"""A line of input."""

from textual.reactive import reactive
from textual.widgets import Input


class LineInput(Input):
    """Textual's, with a cursor that stands still: each blink is sent to the terminal."""

    cursor_blink = reactive(False, init=False)
