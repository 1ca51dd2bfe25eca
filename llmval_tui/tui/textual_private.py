"""Every private name of Textual that the dashboard uses. Read this file again with each new version of Textual."""

import asyncio
import string
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from rich.console import RenderableType
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate, LayoutUpdate, ReflowResult
from textual._context import active_app
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.drivers import linux_driver
from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Region, Size
from textual.keys import _character_to_key as character_to_key
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from llmval_tui.tui.drawing.terminal_screen import TerminalScreen

__all__ = [
    "ESC_CODES",
    "ChopsUpdate",
    "Compositor",
    "FrameApp",
    "FrontCompositor",
    "LayoutUpdate",
    "LinuxDriver",
    "WriterThread",
    "XTermParser",
    "add_whole_screen",
    "bindings_of",
    "character_to_key",
    "draw_now",
    "is_idle",
    "is_laid_out",
    "parent_of",
    "run_bound_action",
    "running_app",
    "set_compositor",
    "set_writer",
    "write_to_terminal",
]

# A terminal sends Alt and a key as Esc and the key in one piece, and so does a slow line for two keys. Textual turns
# Esc with a digit or a sign into the sign of a Mac's keyboard (`™`), or drops the Esc. Here it gives a private-use
# character instead, so that `key_queue` can tell such keys: config.toml may bind them, and otherwise they are two keys.
# `[` is left out, because the terminal's own sequences begin with Esc and `[`.
ESC_CODES = {chr(0xE000 + ord(sign)): sign for sign in string.digits + string.punctuation + " " if sign != "["}
cast("dict[str, object]", ANSI_SEQUENCES_KEYS).update({f"\x1b{sign}": private for private, sign in ESC_CODES.items()})


SYNC_START, SYNC_END = "\x1b[?2026h", "\x1b[?2026l"


class FrameApp(App[int]):
    """An application that sends nothing for a frame without changes."""

    terminal_screen: "TerminalScreen"
    _cursor_sent: tuple[int, int] | None = None

    def wait_to_draw(self) -> bool:
        """Whether this is not a moment for a frame. If so, the application draws the next one later by itself."""
        return False

    def key_arrived(self) -> None:
        """A key was read, and will be delivered. Called from any thread."""

    def key_took_effect(self) -> None:
        """The next frame shows what the key has changed."""

    def after_key(self, callback: Callable[[], object]) -> None:
        """Call it now, or when the key that waits has taken effect: before its frame, so it must be quick."""
        callback()

    def line_lost(self) -> None:
        """The terminal is gone. Called from any thread."""

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        driver = self._driver
        drawn = isinstance(renderable, CompositorUpdate) and not self._batch_count and self._running
        if not drawn or self._closed or self.is_headless or driver is None:
            super()._display(screen, renderable)
            return
        assert isinstance(renderable, CompositorUpdate)
        cursor = self.screen.outer_size.clamp_offset(self.cursor_position)
        try:
            cells = renderable.render_segments(self.console)
        except Exception as error:  # noqa: BLE001  (as Textual does: it ends the application and shows the error)
            self._handle_exception(error)
            return
        if cells or cursor != self._cursor_sent:
            frame = f"{cells}\x1b[{cursor.y + 1};{cursor.x + 1}H"
            self.send_frame(f"{SYNC_START}{frame}{SYNC_END}" if self._sync_available else frame)
            self._cursor_sent = cursor
        self.post_display_hook()

    def send_frame(self, frame: str) -> None:
        """Send one frame to the terminal."""
        write_to_terminal(self, frame)

    def draw_changes(self) -> None:
        """Draw what has changed since the last frame."""
        self.screen._compositor_refresh()


class FrontCompositor(Compositor):
    """Textual's compositor, which renders only what is not covered.

    Textual renders each container behind the panes, as rows of blanks that nobody sees, and cuts each row of a pane
    anew, also where nothing is to be cut. That was a fifth of the time of a frame.
    """

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        result = super().reflow(parent, size)
        # Everything has its place now. Textual forgets to note that, and lays out again for the first widget's size.
        self._full_map_invalidated = False
        return result

    def _render_chops(self, crop: Region, is_rendered_line: Callable[[int], bool]) -> Sequence[Mapping[int, Strip]]:
        cuts = self.cuts
        chops: list[dict[int, Strip | None]] = [dict.fromkeys(row_cuts[:-1]) for row_cuts in cuts]
        left = [len(chop) if is_rendered_line(y) else 0 for y, chop in enumerate(chops)]  # to render in each row
        for widget, (region, clip) in self.visible_widgets.items():  # from front to back
            shown = region.intersection(clip)
            if not shown or not crop.overlaps(clip):
                continue
            first, last = shown.column_span
            rows = [y for y in shown.line_range if left[y] and _is_open(chops[y], first, last)]
            if not rows:
                continue
            strips = widget.render_lines(shown.translate((-region.x, -region.y)))
            for y in rows:
                strip, chop = strips[y - shown.y], chops[y]
                starts = [cut for cut in cuts[y] if first <= cut < last]
                if len(starts) == 1 and strip.cell_length == last - first:
                    chop[first] = strip
                    left[y] -= 1
                    continue
                parts = strip.divide([cut - first for cut in [*starts[1:], last]])
                for start, part in zip(starts, parts, strict=False):
                    if chop[start] is None:
                        chop[start] = part
                        left[y] -= 1
        return cast("Sequence[Mapping[int, Strip]]", chops)  # what no widget covers is None, as with Textual


def _is_open(chop: dict[int, Strip | None], first: int, last: int) -> bool:
    """Whether a part of a row between two columns has not been rendered."""
    return chop[first] is None or any(strip is None and first <= start < last for start, strip in chop.items())


def write_to_terminal(app: App[int], sequence: str) -> None:
    """Send a control sequence that Textual has no method for."""
    if app._driver is not None:
        app._driver.write(sequence)


def running_app() -> FrameApp | None:
    """The application of the current task; None in a test with another kind of application."""
    app = active_app.get(None)
    return app if isinstance(app, FrameApp) else None


async def run_bound_action(app: App[int], key: str) -> bool:
    """Do what a key is bound to on the present screen; False if that is nothing."""
    return await app._check_bindings(key, priority=True) or await app._check_bindings(key)


def add_whole_screen(compositor: Compositor) -> None:
    """The compositor's next update is the whole screen."""
    compositor._dirty_regions.add(compositor.size.region)


def draw_now(screen: Screen[Any]) -> None:
    """Lay out and draw in one frame what has changed.

    Textual learns of changes by messages that widgets send when they are idle, and draws a new layout before it has all
    of them: a pane would appear with its old rows, and its tab and its present rows a second frame later.
    """
    app = running_app()
    if app is not None:
        app.key_took_effect()
    if not screen.is_current or screen.app._batch_count:
        return
    for widget in screen.walk_children(Widget):
        if widget._repaint_required:
            widget._repaint_required = False
            screen._dirty_widgets.add(widget)
        if widget._layout_required:
            widget._layout_required = False
            screen._layout_required = True
            for ancestor in widget.ancestors:
                if not isinstance(ancestor, Widget):
                    break
                ancestor._clear_arrangement_cache()
                ancestor._layout_updates += 1
                if not ancestor.styles.auto_dimensions:
                    break
    screen._on_timer_update()


def set_compositor(screen: Screen[Any], compositor: Compositor) -> None:
    screen._compositor = compositor


def set_writer(writer: type[WriterThread]) -> None:
    """The class of the thread that writes to the terminal, for drivers that start from now on."""
    setattr(linux_driver, "WriterThread", writer)  # noqa: B010  (Textual has no other place to name it)


def bindings_of(node: DOMNode) -> BindingsMap:
    return node._bindings


def is_idle(pump: MessagePump) -> bool:
    """Whether a widget has handled all its messages and waits for the next one.

    To ask it by a message costs a fifth of a millisecond, and a key would ask up to fifteen times.
    """
    ready: asyncio.Event = pump._message_queue.ready_event
    waiters: Sequence[object] = getattr(ready, "_waiters")  # noqa: B009  (asyncio's own, which has no public name)
    return bool(waiters) and not ready.is_set()


def is_laid_out(widget: Widget) -> bool:
    """Whether a widget has a place on the screen. Its `size` would tell too, but lays out the whole screen for that."""
    return widget in widget.screen._compositor.visible_widgets


def parent_of(pump: MessagePump) -> MessagePump | None:
    return pump._parent
