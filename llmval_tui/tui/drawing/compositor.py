"""Draws through `TerminalScreen`: only cells that differ reach the terminal, and no frame waits behind another.

Textual 8 sends each changed row from the left edge of its widget, and the whole screen at the start and while a dialog
is open. On a line that is slower than the frames, it queues up to 30 of them: the screen is then a minute old.
"""

from collections.abc import Iterator

from rich.console import Console, RenderableType
from textual.geometry import Size
from textual.screen import Screen

from llmval_tui.tui.drawing.terminal_screen import Span, TerminalScreen, cells_of
from llmval_tui.tui.textual_private import ChopsUpdate, FrontCompositor, LayoutUpdate, add_whole_screen, running_app


class DiffCompositor(FrontCompositor):
    """Textual's compositor with smaller updates, and none while the line is busy or a key waits."""

    def render_update(
        self, full: bool = False, screen_stack: list[Screen[object]] | None = None, simplify: bool = False
    ) -> RenderableType | None:
        app = running_app()
        if full or simplify or app is None:  # a picture of the screen, not for the terminal
            return super().render_update(full, screen_stack, simplify)
        if app.wait_to_draw():
            return None  # the changed regions stay noted and are in the next frame
        # Without a terminal nothing is sent and nothing becomes known: each frame of a test would be the whole screen.
        if not app.is_headless and not app.terminal_screen.knows(self.size):
            add_whole_screen(self)
        update = super().render_update(full, screen_stack, simplify)
        if isinstance(update, ChopsUpdate):
            return DiffUpdate(update, self.size, app.terminal_screen)
        return FullUpdate(update, self.size, app.terminal_screen) if isinstance(update, LayoutUpdate) else update


class DiffUpdate(ChopsUpdate):
    """The changed spans of the screen only."""

    def __init__(self, update: ChopsUpdate, size: Size, terminal: TerminalScreen) -> None:
        super().__init__(update.chops, update.spans, update.chop_ends)
        self._size = size
        self._terminal = terminal

    def render_segments(self, console: Console) -> str:
        return self._terminal.draw(self._size, self._changed(console))

    def _changed(self, console: Console) -> Iterator[Span]:
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is not None and start < stop:
                    yield y, start, cells_of(strip.crop(start - x, stop - x), console)


class FullUpdate(LayoutUpdate):
    """The whole screen; still only the cells that differ are sent."""

    def __init__(self, update: LayoutUpdate, size: Size, terminal: TerminalScreen) -> None:
        super().__init__(update.strips, update.region)
        self._size = size
        self._terminal = terminal

    def render_segments(self, console: Console) -> str:
        rows = enumerate(self.strips, self.region.y)
        return self._terminal.draw(
            self._size,
            [(y, self.region.x, [cell for strip in strips for cell in cells_of(strip, console)]) for y, strips in rows],
        )
