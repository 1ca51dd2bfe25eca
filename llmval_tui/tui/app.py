"""The application: launch settings in, exit code out. The visible parts are in `screens/main.py`."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import ClassVar

from rich.console import RenderableType
from textual import events
from textual.binding import Binding, BindingType
from textual.errors import NoWidget
from textual.notifications import SeverityLevel
from textual.timer import Timer

from llmval_tui.foundation.errors import ExitCode
from llmval_tui.terminal.glyphs import glyphs
from llmval_tui.tui import gc_control
from llmval_tui.tui.cli_client import CliClient, CommandClient
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import InitialSnapshot, Workspace, propose
from llmval_tui.tui.drawing.terminal_screen import TerminalScreen
from llmval_tui.tui.key_queue import ClickedKey, KeyQueue
from llmval_tui.tui.key_time import SWITCH_S, YIELD_S, KeyTime
from llmval_tui.tui.screens.main import MainScreen
from llmval_tui.tui.settings import LaunchSettings
from llmval_tui.tui.terminal_driver import TerminalDriver, erases_with_colour
from llmval_tui.tui.textual_private import run_bound_action
from llmval_tui.tui.themed_app import ThemedApp
from llmval_tui.tui.widgets.scroll_pane import ScrollPane

SETTLED_S = 2.0  # after this time everything that stays in memory has been made
FRAME_S = 0.05  # between looks whether the line has become free
LINE_CHECK_S = 2.0  # between checks whether the terminal still exists


def end_if_line_is_lost() -> None:
    """End as if by SIGHUP if the terminal is gone.

    No signal arrives if nohup ignores it, or if the terminal does not control this process. Runs go on anyway.
    """
    poll = select.poll()
    poll.register(0, 0)  # a lost line is always reported
    if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
        end_by_sighup()


def end_by_sighup() -> None:
    """End at once: there is no terminal to restore, and writing to it could hang."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGHUP)


class Dashboard(ThemedApp):
    """The dashboard."""

    CSS_PATH = "app.tcss"
    TITLE = "llmval"
    ALLOW_SELECT = False  # Textual's selection of text: a press on a widget that was just removed would end everything
    ENABLE_COMMAND_PALETTE = False  # Textual's own; `screens/palette.py` replaces it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("ctrl+q", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        settings: LaunchSettings,
        commands: CommandClient | None = None,
        *,
        state: ScreenState | None = None,
        workspace: Workspace | None = None,
        initial: InitialSnapshot | None = None,
        live: bool = True,
    ) -> None:
        # Textual's handling of NO_COLOR clashes with themes of the terminal's own colours (black on black). The theme
        # `mono` handles it here, so Textual's constructor must not see the variable. Commands still get it, from
        # `settings.environment`.
        os.environ.pop("NO_COLOR", None)
        super().__init__(driver_class=TerminalDriver)
        self.terminal_screen = TerminalScreen(erases_with_colour=erases_with_colour(os.environ.get("TERM", "")))
        self._next_frame: Timer | None = None
        self.key_time = KeyTime()
        self._held: list[Callable[[], object]] = []  # what waits for a key
        self._loop_of_signals: asyncio.AbstractEventLoop | None = None
        self.settings = settings
        self.environment = settings.environment
        self.glyphs = glyphs(settings.ascii, settings.charts)
        self.apply_theme(settings.theme)
        self.stylesheet.set_variables(self.get_css_variables())
        self.animation_level = "none"
        self.set_class(settings.ascii, "ascii")
        state = state or ScreenState(settings, preset=settings.preset, adapt=settings.adapt)
        self.keymap = state.keymap
        replay = None
        if settings.replay is not None:
            from llmval_tui.tui.data.replay_source import ReplayWorkspace, open_replay

            replay = open_replay(settings.replay)
            state.timeline = timeline = replay.timeline
            if replay.run is not None:
                state.now = lambda: timeline.now_s
                workspace = ReplayWorkspace(settings, replay)
        workspace = workspace or (initial.workspace if initial is not None else Workspace(settings, propose))
        self.main = MainScreen(state, workspace, commands or CliClient(settings), live, replay, initial)
        self._key_queue = KeyQueue(self, self._deliver, self.main, self._key_done)

    def on_load(self) -> None:
        if not self.is_headless:
            self.handle_signals()  # before the driver changes the terminal

    def redraw(self) -> None:
        """Send every cell again: another program has written over the screen."""
        self.terminal_screen.forget()
        self.screen.refresh()

    def wait_to_draw(self) -> bool:
        """Whether earlier frames are still on their way, or a key waits; then the next frame is drawn soon."""
        driver = self._driver
        if not self.key_time.waits and not (isinstance(driver, TerminalDriver) and driver.busy):
            return False
        if self._next_frame is None:
            self._next_frame = self.set_timer(FRAME_S, self._draw_next_frame)
        return True

    def _draw_next_frame(self) -> None:
        self._next_frame = None
        self.draw_changes()

    def key_arrived(self) -> None:
        self.key_time.arrived()

    def key_took_effect(self) -> None:
        self.key_time.took_effect()
        self._call_held()

    def after_key(self, callback: Callable[[], object]) -> None:
        if self._held:
            self._held.append(callback)  # in their order
        elif self.key_time.waits:
            self._held.append(callback)
            self.set_timer(YIELD_S, self._call_held)
        else:
            callback()

    def _call_held(self) -> None:
        held, self._held = self._held, []
        for callback in held:
            callback()

    def _key_done(self) -> None:
        """A key has taken effect: a frame that has waited for it is drawn."""
        self.key_took_effect()
        if self._next_frame is not None:
            self._next_frame.stop()
            self._draw_next_frame()

    def settle(self) -> None:
        """Everything that stays in memory has been made."""
        gc_control.freeze_gc()
        self.key_time.collects = True

    def line_lost(self) -> None:
        if self._loop_of_signals is not None:
            self._loop_of_signals.call_soon_threadsafe(end_by_sighup)

    def send_frame(self, frame: str) -> None:
        self.key_time.drawn()
        if isinstance(self._driver, TerminalDriver):
            self._driver.send_frame(frame)
        else:
            super().send_frame(frame)

    def on_mount(self) -> None:
        # After Ctrl-Z and fg the terminal shows the shell's lines.
        self.app_resume_signal.subscribe(self, lambda _: self.redraw())
        if not self.is_headless:
            self.set_interval(LINE_CHECK_S, end_if_line_is_lost)

    def get_default_screen(self) -> MainScreen:
        return self.main

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Resize):
            self.terminal_screen.forget()  # the terminal may have moved its lines
        if isinstance(event, events.InputEvent) and not self.is_running:
            return  # it closes, and its screens are gone
        if isinstance(event, events.AppBlur) or (isinstance(event, events.MouseEvent) and self._misses(event)):
            return  # Textual would take the focus away: an open prompt would go, and keys would do nothing
        if isinstance(event, events.Key) and not event.is_forwarded:
            if self.screen is self.main:
                self.main.end_notice()
            self.key_time.begin()
            await self._key_queue.put(event)
        else:
            await super().on_event(event)

    def _misses(self, event: events.MouseEvent) -> bool:
        """Whether there is no widget under the mouse: a dialog is not laid out yet, or the terminal was larger."""
        if event.is_forwarded or self.mouse_captured is not None:
            return False
        try:
            self.get_widget_at(event.x, event.y)
        except NoWidget:
            return True
        return False

    async def _deliver(self, key: events.Key) -> None:
        """Let a key take effect.

        Textual hands it from the focused widget up to the application, a message for each ancestor, and only then looks
        for its action. In between, busy threads get the interpreter. Panes take no keys themselves.
        """
        if isinstance(key, ClickedKey) and self.screen is not self.main:
            return  # a dialog has opened since: what was clicked below it is no answer
        in_pane = self.screen is self.main and isinstance(self.focused, ScrollPane)
        if not (in_pane and await run_bound_action(self, key.key)):
            await super().on_event(key)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Textual's own messages go where all others are."""
        self.main.toast(f"{title}: {message}" if title else message, severity)

    def exit(self, result: int | None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        self._key_queue.close()  # the keys behind the one that quits are for the shell
        super().exit(result, return_code, message)

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGHUP end the dashboard as a key would: the terminal gets screen, mouse and cursor back."""
        loop = asyncio.get_running_loop()
        self._loop_of_signals = loop
        loop.add_signal_handler(signal.SIGTERM, self.exit, None, ExitCode.INTERRUPTED)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _hung_up(self) -> None:
        end_if_line_is_lost()
        self.exit(None, ExitCode.INTERRUPTED)

    def action_leave(self) -> None:
        """Ctrl-C and Ctrl-Q always ask, because a hand presses them without looking; in a dialog they close it."""
        if self.screen is self.main:
            self.main.action_quit(asking=True)
        else:
            self.screen.dismiss(None)


def run(settings: LaunchSettings, initial: InitialSnapshot | None = None) -> int:
    """Open the dashboard until the operator leaves. Returns 0, 130 after a signal, or 1 after an internal error.

    Raises:
        Refused: the theme or the recording does not exist. The terminal is not changed yet.
    """
    gc_control.pause_gc()
    sys.setswitchinterval(SWITCH_S)
    app = Dashboard(settings, initial=initial)
    app.call_later(app.set_timer, SETTLED_S, app.settle)
    app.run(mouse=settings.mouse)
    if app.return_code == ExitCode.FAILED:
        # Textual has printed a traceback; the important part comes last.
        print(
            "llmval: an internal error ended the dashboard, see above; please report it. Runs go on without it: "
            "llmval attach watches them, and the dashboard finds them again.",
            file=sys.stderr,
        )
    return app.return_code or 0
