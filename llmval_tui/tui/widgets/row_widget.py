"""Widgets that draw rows of text themselves and repaint only the rows that changed.

Textual repaints a whole widget if anything in it changes. These widgets compare each row with the last drawing and
refresh only those that differ; of these, the compositor sends only the cells that differ. Whole rows are refreshed,
because Textual keeps thousands of regions in its caches. Text is drawn as plain segments, never as markup.
"""

import time
from collections.abc import Sequence
from typing import cast

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from llmval_tui.terminal.cell_width import cell_len, is_narrow
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.rows import Row, fit_rows
from llmval_tui.tui.drawing.theme_styles import StyledTheme
from llmval_tui.tui.textual_private import is_laid_out
from llmval_tui.tui.themed_app import ThemedApp


class RowWidget(Widget):
    """A widget that draws `rows()`; call `repaint()` when their contents may have changed."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.drawn_rows: list[Row] = []  # as last drawn, as many as the widget is high
        self.built_s = -float("inf")  # when `rows` was asked last, on the monotonic clock
        self._shown_width = 0
        self._strips: list[Strip | None] = []  # of `drawn_rows`, as far as they have been rendered

    def rows(self, width: int, height: int) -> Sequence[Row]:
        """The current rows, at most `height`."""
        raise NotImplementedError

    def plain_text(self) -> str:
        """The text of the rows that were last drawn, one line each."""
        return "\n".join(row.plain for row in self.drawn_rows)

    @property
    def themed_app(self) -> ThemedApp:
        return cast(ThemedApp, self.app)

    @property
    def styled_theme(self) -> StyledTheme:
        return self.themed_app.styled_theme

    @property
    def glyphs(self) -> Glyphs:
        return self.themed_app.glyphs

    def repaint(self) -> None:
        """Draw the rows that differ from the last drawing."""
        if not self.is_mounted or not is_laid_out(self):
            self.drawn_rows = []  # it is not on the screen: when it comes there, its rows are built
            return
        if not self._is_current():
            self._rebuild()
            self.refresh()
            return
        before, rows = self.drawn_rows, self._build_rows()
        self.drawn_rows = rows
        self._strips = [
            strip if old is new or old == new else None
            for old, new, strip in zip(before, rows, self._strips, strict=True)
        ]
        regions = [
            Region(0, y, self._shown_width, 1)
            for y, (old, new) in enumerate(zip(before, rows, strict=True))
            if old is not new and old != new
        ]
        if regions:
            self.refresh(*regions)

    def repaint_if_older(self, seconds: float) -> None:
        """Draw what the clock changes, unless the rows were built within the last `seconds`."""
        if time.monotonic() - self.built_s >= seconds:
            self.repaint()

    def _is_current(self) -> bool:
        """Whether the last drawing has the widget's current size."""
        return (self._shown_width, len(self.drawn_rows)) == self.size

    def _rebuild(self) -> None:
        self.drawn_rows, self._shown_width = self._build_rows(), self.size.width
        self._strips = [None] * len(self.drawn_rows)

    def _build_rows(self) -> list[Row]:
        """The rows for the widget's current size, exactly as many as it is high."""
        width, height = self.size
        self.built_s = time.monotonic()
        return fit_rows(self.rows(width, height), height, self.glyphs.ascii)

    def repaint_all(self) -> None:
        """Draw everything again, for example in another theme."""
        self.drawn_rows = []
        self.repaint()

    def on_resize(self) -> None:
        """Its size has changed, or it has come on the screen; mostly `render_lines` has built its rows by now."""
        if not self._is_current():
            self.repaint()

    def render_line(self, y: int) -> Strip:
        return self._strip(y, self.size.width)

    def _strip(self, y: int, width: int) -> Strip:
        if y >= len(self.drawn_rows):
            return to_strip(Row(), width, self.styled_theme)
        strip = self._strips[y]
        if strip is None or strip.cell_length != width:
            strip = self._strips[y] = to_strip(self.drawn_rows[y], width, self.styled_theme)
        return strip

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows of a region, each rendered once.

        Textual would style, filter and cache each row again for borders, padding and opacity, which these widgets do
        not have. That is half the cost of showing another pane.
        """
        if not self._is_current():
            self._rebuild()  # Textual draws a new size before `on_resize`, which would give an empty picture
        width = self.size.width  # Textual looks it up in the layout each time
        whole = crop.x == 0 and crop.width == width
        strips = [self._strip(y, width) for y in crop.line_range]
        return strips if whole else [strip.crop(crop.x, crop.right) for strip in strips]


def to_strip(shown: Row, width: int, styled_theme: StyledTheme) -> Strip:
    """The row as a strip of exactly `width` cells."""
    segments = [Segment(text, styled_theme.style(role, shown.background)) for text, role in shown.spans]
    text = shown.plain
    room = width - (len(text) if is_narrow(text) else sum(cell_len(span) for span, _ in shown.spans))
    if room < 0:
        return Strip(segments).adjust_cell_length(width)
    if room:
        segments.append(Segment(" " * room, styled_theme.style("text", shown.background)))
    return Strip(segments, width)
