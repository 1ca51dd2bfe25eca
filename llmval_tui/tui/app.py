"""The application: settings in, exit code out. Everything to be seen is in `screens/main.py`."""

import asyncio
import os
import select
import signal
import sys
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel
from textual.screen import ModalScreen

from llmval_tui.foundation.errors import ExitCode
from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.format import fit, wrap
from llmval_tui.terminal.glyphs import glyphs
from llmval_tui.tui import gc_control
from llmval_tui.tui.cli_client import CliClient, CommandClient
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import InitialSnapshot, Workspace, propose
from llmval_tui.tui.key_queue import KeyQueue
from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.screens.main import MainScreen
from llmval_tui.tui.settings import LaunchSettings
from llmval_tui.tui.themed_app import StyledApp

SETTLED_S = 2.0  # after the first paint everything that stays is there
LINE_S = 2.0  # between looks whether the terminal is still there
TOAST_LINES, TOAST_WIDTH = 3, 57  # cells of a message's text; `app.tcss` has the rest


def end_with_the_line() -> None:
    """End as by SIGHUP where the terminal is gone and no signal told: nohup has it ignored, or the terminal does not
    control this process. Textual would go on reading its end, as fast as it can; runs go on anyway.
    """
    look = select.poll()
    look.register(0, 0)  # a lost line is told unasked
    if any(event & (select.POLLHUP | select.POLLERR) for _, event in look.poll(0)):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGHUP)


class Dashboard(StyledApp):
    """The dashboard."""

    CSS_PATH = "app.tcss"
    TITLE = "llmval"
    ENABLE_COMMAND_PALETTE = False  # Textual's own; `screens/palette.py` is ours
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
        first: InitialSnapshot | None = None,
        live: bool = True,
    ) -> None:
        # What Textual does for NO_COLOR clashes with themes of the terminal's own colours (black on black); here the
        # theme `mono` does it, and the variable must not be seen by the constructor. Children still get it, from
        # `settings.environment`.
        os.environ.pop("NO_COLOR", None)
        super().__init__()
        self.settings = settings
        self.environment = settings.environment
        self.glyphs = glyphs(settings.ascii, settings.charts)
        replaying = settings.replay is not None
        self.keymap = Keymap(settings.keys, replaying, quiet=replaying and settings.readonly)
        self.apply_theme(settings.theme)
        self.stylesheet.set_variables(self.get_css_variables())
        self.animation_level = "none"
        self.set_class(settings.ascii, "ascii")
        state = state or ScreenState(settings, preset=settings.preset, adapt=settings.adapt)
        replay = None
        if settings.replay is not None:
            from llmval_tui.tui.data.replay_source import ReplayWorkspace, open_replay

            replay = open_replay(settings.replay)
            state.timeline = timeline = replay.timeline
            if replay.run is not None:
                state.now = lambda: timeline.now_s
                workspace = ReplayWorkspace(settings, replay)
        workspace = workspace or (first.workspace if first is not None else Workspace(settings, propose))
        self.main = MainScreen(state, workspace, commands or CliClient(settings), live, replay, first)
        self._held: dict[str, tuple[SeverityLevel, float | None]] = {}  # messages that wait for a dialog's end
        self._typing = KeyQueue(self, super().on_event, lambda: self.main.dialog_pending)

    def on_load(self) -> None:
        if not self.is_headless:
            self.handle_signals()  # before the driver changes the terminal

    def on_mount(self) -> None:
        """After Ctrl-Z and fg the terminal shows the shell's lines, and only what changes would be drawn over them."""
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh())
        if not self.is_headless:
            self.set_interval(LINE_S, end_with_the_line)

    def get_default_screen(self) -> MainScreen:
        return self.main

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded:
            await self._typing.take(event)
        else:
            await super().on_event(event)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Three lines at most, as plain text; over a dialog it would hide what is asked, so it waits for its end."""
        if isinstance(self.screen, ModalScreen):
            self._held[message] = severity, timeout
            return
        room = max(8, min(TOAST_WIDTH, self.size.width - 3))
        lines = wrap(clean_line(message), room)
        if len(lines) > TOAST_LINES:
            rest = " ".join(lines[TOAST_LINES - 1 :])
            lines[TOAST_LINES - 1 :] = [fit(rest, room, self.glyphs.ellipsis)]
        super().notify("\n".join(lines), title=title, severity=severity, timeout=timeout, markup=False)

    def _refresh_notifications(self) -> None:
        """Textual shows them on whatever screen comes up: here on no dialog, and of the same message one."""
        if not self._screen_stack or isinstance(self.screen, ModalScreen):
            return
        held, self._held = self._held, {}
        for message, (severity, timeout) in held.items():
            self.notify(message, severity=severity, timeout=timeout)
        newest = {shown.message: shown for shown in self._notifications}
        for shown in list(self._notifications):
            if newest[shown.message] is not shown:
                self._unnotify(shown, refresh=False)
        super()._refresh_notifications()

    def handle_signals(self) -> None:
        """SIGTERM and SIGHUP end the dashboard as a key would: the terminal gets its screen, mouse and cursor back."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.exit, None, ExitCode.INTERRUPTED)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it unheard
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _hung_up(self) -> None:
        """Where the line is lost there is nothing to give back, and writing to it could hang."""
        end_with_the_line()
        self.exit(None, ExitCode.INTERRUPTED)

    def action_leave(self) -> None:
        """Ctrl-C and Ctrl-Q ask as `q` does; in a dialog they close it."""
        if self.screen is self.main:
            self.main.action_quit()
        else:
            self.screen.dismiss(None)


def run(settings: LaunchSettings, first: InitialSnapshot | None = None) -> int:
    """Open the dashboard and stay until the operator leaves: 0, 130 after a signal, 1 after a defect of its own.

    Raises:
        Refused: the theme or the recording does not exist. The terminal is not changed yet.
    """
    gc_control.pause_gc()
    app = Dashboard(settings, first=first)
    app.call_later(app.set_timer, SETTLED_S, gc_control.freeze_gc)
    app.run(mouse=settings.mouse)
    if app.return_code == ExitCode.FAILED:  # Textual has written where; what matters now comes last, where it is seen
        print(
            "llmval: a defect ended the dashboard, as written above; please report it. Work goes on without it: "
            "llmval attach watches it, and the dashboard finds it again.",
            file=sys.stderr,
        )
    return app.return_code or 0
