"""Widgets that draw rows of text themselves and repaint only the columns that changed.

Textual repaints a whole widget where anything in it changes. Over SSH that is what makes a dashboard heavy, so the
widgets here compare each row with what the terminal already shows and refresh only the runs of cells that differ.
Text reaches the screen as plain segments: nothing in it is ever read as markup.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.rows import Row, exactly
from llmval_tui.tui.drawing.theme_styles import Look
from llmval_tui.tui.themed_app import StyledApp

# Two changed runs nearer than this are sent as one: moving the cursor costs as many bytes.
NEAR = 8


class Painted(Widget):
    """A widget that draws `rows()`; call `repaint()` when something that they show has changed."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shown: list[Row] = []
        self._shown_width = 0
        self._strips: list[Strip | None] = []  # of the rows that are shown, as far as they were asked for

    def rows(self, width: int, height: int) -> Sequence[Row]:
        """What is to be seen now, at most `height` rows."""
        raise NotImplementedError

    def plain_text(self) -> str:
        """The rows as they were last drawn, as text without styles."""
        return "\n".join(row.plain for row in self._shown)

    @property
    def styled(self) -> StyledApp:
        return cast(StyledApp, self.app)

    @property
    def look(self) -> Look:
        return self.styled.look

    @property
    def glyphs(self) -> Glyphs:
        return self.styled.glyphs

    def repaint(self) -> None:
        """Draw again what differs from the last drawing."""
        if not self.is_mounted or not self.size.area:
            return
        width = self.size.width
        if not self._fits():
            self._take_rows()
            self.refresh()
            return
        before, rows = self._shown, self._made_rows()
        self._shown = rows
        self._strips = [
            strip if old is new or old == new else None
            for old, new, strip in zip(before, rows, self._strips, strict=True)
        ]
        regions = [
            Region(start, y, end - start, 1)
            for y, (old, new) in enumerate(zip(before, rows, strict=True))
            if old is not new and old != new
            for start, end in changed_columns(old, new, width)
        ]
        if regions:
            self.refresh(*regions)

    def _fits(self) -> bool:
        """Whether the rows that were drawn last are for the size that the widget has now."""
        return (self._shown_width, len(self._shown)) == self.size

    def _take_rows(self) -> None:
        self._shown, self._shown_width = self._made_rows(), self.size.width
        self._strips = [None] * len(self._shown)

    def _made_rows(self) -> list[Row]:
        """The rows for the size that the widget has, as many as it is high."""
        width, height = self.size
        return exactly(self.rows(width, height), height, self.glyphs.ascii)

    def redraw(self) -> None:
        """Draw everything again: another theme, another size."""
        self._shown = []
        self.repaint()

    def on_resize(self) -> None:
        self.repaint()  # which draws everything where the size is another one

    def on_show(self) -> None:
        self.repaint()

    def render_line(self, y: int) -> Strip:
        if y >= len(self._shown):
            return to_strip(Row(), self.size.width, self.look)
        strip = self._strips[y]
        if strip is None or strip.cell_length != self.size.width:
            strip = self._strips[y] = to_strip(self._shown[y], self.size.width, self.look)
        return strip

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows of a region, made once each.

        Textual would style, filter and cache each row again for borders, paddings and opacity that these widgets do
        not have: half the cost of showing another pane.
        """
        if not self._fits():
            self._take_rows()  # Textual draws a new size before it tells of it: else that picture would be an empty one
        whole = crop.x == 0 and crop.width == self.size.width
        strips = [self.render_line(y) for y in crop.line_range]
        return strips if whole else [strip.crop(crop.x, crop.right) for strip in strips]


def to_strip(shown: Row, width: int, look: Look) -> Strip:
    """The row as Textual wants it, exactly `width` cells wide."""
    segments = [Segment(text, look.style(role, shown.ground)) for text, role in shown.spans]
    return Strip(segments).adjust_cell_length(width, look.style("text", shown.ground))


def changed_columns(old: Row, new: Row, width: int) -> Iterable[tuple[int, int]]:
    """The runs of columns, `(start, end)`, in which two rows differ; the whole row where it has wide characters."""
    if old.ground != new.ground or not (_narrow(old) and _narrow(new)):
        return [(0, width)]
    first, second = _cells(old, width), _cells(new, width)
    runs: list[tuple[int, int]] = []
    for column in range(width):
        if first[column] == second[column]:
            continue
        if runs and column - runs[-1][1] < NEAR:
            runs[-1] = (runs[-1][0], column + 1)
        else:
            runs.append((column, column + 1))
    return runs


def _narrow(shown: Row) -> bool:
    """Whether each character is one cell wide, so that columns can be counted as characters."""
    plain = shown.plain
    return plain.isascii() or (cell_len(plain) == len(plain) and "\u200d" not in plain)


def _cells(shown: Row, width: int) -> list[tuple[str, str]]:
    cells = [(character, role) for text, role in shown.spans for character in text][:width]
    return cells + [(" ", "text")] * (width - len(cells))
