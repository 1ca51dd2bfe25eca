"""The actions of the main screen besides moving: work, replay, options, help, copying, themes, quitting."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from textual import work
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.reactive import Reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from llmval_tui.actions.step_state import StepState
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.cli_client import CommandClient
from llmval_tui.tui.data.messages import Notice
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.snapshot import Snapshot
from llmval_tui.tui.data.workspace_view import Workspace
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.drawing.theme_files import theme_files
from llmval_tui.tui.keys import pane_names
from llmval_tui.tui.textual_private import write_to_terminal
from llmval_tui.tui.themed_app import ThemedApp
from llmval_tui.tui.widgets.row_widget import RowWidget
from llmval_tui.tui.widgets.scroll_pane import ScrollPane

if TYPE_CHECKING:
    from llmval_tui.tui.data.replay_timeline import Timeline
    from llmval_tui.tui.screens.command_dialogs import CommandDialogs

T = TypeVar("T")
NOTICE_S = 6.0  # how long a message stands in the row of the keys; an error stands twice as long
SEVERITIES = {
    StepState.MEASURED: "information",
    StepState.EXIT_CODE: "information",
    StepState.BY_HAND: "information",
    StepState.STALE: "warning",
    StepState.CONTRADICTED: "error",
    StepState.PASSED: "information",
    StepState.FAILED: "error",
    StepState.INVALID: "warning",
    StepState.INCONCLUSIVE: "warning",
    StepState.REFUSED: "warning",
    StepState.ASKING: "warning",
}


class ActionScreen(Screen[None]):
    """A screen with the actions of the keys; the main screen adds widgets, threads and moving."""

    # Textual repaints the whole screen when the focus moves; here each widget that shows the focus repaints itself.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    def __init__(self, state: ScreenState, workspace: Workspace, commands: CommandClient) -> None:
        super().__init__()
        self.state = state
        self.workspace = workspace
        self.panes: dict[str, ScrollPane] = {}
        self._commands = commands
        self._made_dialogs: CommandDialogs | None = None
        self._notice_timer: Timer | None = None

    @property
    def dialogs(self) -> "CommandDialogs":
        """Made late: the dialogs take time to import, and the first paint does not need them."""
        if self._made_dialogs is None:
            from llmval_tui.tui.screens.command_dialogs import CommandDialogs

            self._made_dialogs = CommandDialogs(self, self._commands)
        return self._made_dialogs

    @property
    def pane(self) -> str:
        """The place of the focus: `list`, or the name of a pane."""
        raise NotImplementedError

    @property
    def dialog_pending(self) -> bool:
        """Whether a dialog is about to open."""
        return self._made_dialogs is not None and self._made_dialogs.dialog_pending

    def dialog_is_slow(self) -> None:
        """Say why keys do nothing yet."""
        self.toast("The dialog is not ready: it reads files. Keys wait for it; Esc gives it up.", "warning")

    def give_up_dialog(self) -> None:
        """Open the dialog that is being prepared no more."""
        if self.dialog_pending:
            self.dialogs.give_up_dialog()
            self.toast("The dialog is given up, with the keys that were typed for it.")

    def refresh_now(self) -> None:
        """Take a snapshot of the files at once."""
        raise NotImplementedError

    def selection_changed(self) -> None:
        """The operator has chosen something else: request a matching snapshot, and repaint."""
        raise NotImplementedError

    @property
    def themed_app(self) -> ThemedApp:
        return cast(ThemedApp, self.app)

    @property
    def glyphs(self) -> Glyphs:
        return self.themed_app.glyphs

    def after_key(self, callback: Callable[[], object]) -> None:
        """Call it as a message of its own, after the key that waits."""
        self._after_waiting_key(partial(self.call_later, callback))

    def post_after_key(self, message: Message) -> None:
        """Post what a thread has found, after the key that waits. Called from any thread."""
        self._after_waiting_key(partial(self.post_message, message))

    def _after_waiting_key(self, callback: Callable[[], object]) -> None:
        # A thread may call after the screen has closed: only the message, which is then dropped, asks for the app.
        self.call_later(lambda: self.themed_app.after_key(callback))

    @property
    def asks(self) -> bool:
        """Whether a dialog is open."""
        return self.app.screen is not self

    async def ask(self, dialog: Screen[T]) -> T | None:
        """Open a dialog and wait for its result."""
        return await self.app.push_screen_wait(dialog)

    def toast(self, text: str, severity: SeverityLevel = "information") -> None:
        """A message in the row of the keys, for some seconds or to the next key; under a dialog, after it."""
        line = clean_line(text.replace("\n", " "))
        self.state.messages.add(Notice(self.state.now(), line, severity))
        if self.app.screen is self:
            self._start_notice()
        else:
            self.dialog_looks_again()

    def dialog_looks_again(self) -> None:
        """Something has changed: the dialog that is open must agree with it."""
        if self.app.screen is self:
            return
        from llmval_tui.tui.screens.dialog import BoxScreen

        if isinstance(self.app.screen, BoxScreen):
            self.app.screen.look_again()

    def _start_notice(self) -> None:
        shown = self.state.messages.shown
        if self._notice_timer is not None:
            self._notice_timer.stop()
        if shown is not None:
            self._notice_timer = self.set_timer(NOTICE_S * (2 if shown.severity == "error" else 1), self.end_notice)
        self.notice_changed()

    def end_notice(self) -> None:
        """Show the keys again."""
        if self.state.messages.shown is None:
            return
        self.state.messages.shown = None
        self.notice_changed()

    def notice_changed(self) -> None:
        """The message in the row of the keys is another one, or none."""
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        if self.state.messages.shown is not None:  # it came while a dialog was open
            self._start_notice()

    def action_messages(self) -> None:
        """List all messages since the start."""
        from llmval_tui.tui.screens.dialog import Choice, Content, Dialog, looking_at
        from llmval_tui.tui.screens.dialog_texts import message_rows

        def build(width: int) -> Sequence[Row]:
            return message_rows(self.state.messages, width, self.glyphs)

        def content() -> Content:
            return Content("Messages since the start, the newest first", build, (Choice("q", "close", ""),))

        self.app.push_screen(Dialog.of(content(), looking_at(content)))

    def alert(self, text: str) -> None:
        """Ring the bell and send a desktop notification, if the operator has configured them."""
        settings = self.state.settings
        if self.state.timeline is not None:
            return
        if settings.bell:
            write_to_terminal(self.app, "\a")
        if settings.notify:
            from llmval_tui.terminal.osc import osc9

            write_to_terminal(self.app, osc9(f"llmval {text}", settings.environment))

    def _announce_verdicts(self, before: Snapshot) -> None:
        """Announce each verdict that the snapshot `before` did not have."""
        old = {status.step.key: status for status in before.steps}
        for status in self.state.snapshot.steps:
            previous = old.get(status.step.key)
            if previous is None or previous.verdict is not None or previous.run is None or status.verdict is None:
                continue
            severity = cast(SeverityLevel, SEVERITIES.get(status.state, "information"))
            text = f"{status.step.number} {status.state}: {status.verdict.summary}"
            self.toast(text, severity)
            self.alert(text)

    def _allow_change(self) -> bool:
        """Whether the dashboard may change something; if not, say why."""
        if self.state.settings.readonly:
            reason = "plays a recording" if self.state.timeline is not None else "was started with --readonly"
            self.toast(f"Read-only: this dashboard {reason} and changes nothing.", "warning")
            return False
        return True

    @work
    async def action_complete(self) -> None:
        if self._allow_change():
            await self.dialogs.start(tick=True)

    @work
    async def action_complete_all(self) -> None:
        if self._allow_change():
            await self.dialogs.start(tick=True, everything=True)

    @work
    async def action_run(self) -> None:
        if self._allow_change():
            await self.dialogs.start(tick=False)

    @work
    async def action_cancel(self) -> None:
        if self._allow_change():
            await self.dialogs.cancel()

    @work
    async def action_tick(self) -> None:
        if self._allow_change():
            await self.dialogs.tick()

    @work
    async def action_answer(self) -> None:
        if self._allow_change():
            await self.dialogs.answer()

    @work
    async def action_review(self) -> None:
        if self._allow_change():
            await self.dialogs.review()

    @work(exclusive=True, group="settle")
    async def _settle(self) -> None:
        await self.dialogs.settle()

    @work
    async def action_quit(self, asking: bool = False) -> None:
        if await self.dialogs.quit(asking=asking):
            self.app.exit(0)

    @work
    async def action_options(self) -> None:
        from llmval_tui.tui.screens.options import OptionsDialog

        options = OptionsDialog(self.state.preset, self.state.adapt)
        if await self.ask(options) is not None:
            self.state.preset, self.state.adapt = options.preset, options.adapt
            self.selection_changed()

    def action_help(self) -> None:
        from llmval_tui.tui.screens.dialog import Help
        from llmval_tui.tui.screens.dialog_texts import help_rows

        pane = self.pane

        def build(width: int) -> Sequence[Row]:
            return help_rows(pane, width, self.glyphs, self.themed_app.keymap)

        self.app.push_screen(Help(build, self.themed_app.keymap))

    @work
    async def action_palette(self) -> None:
        from llmval_tui.tui.screens.palette import Palette, palette_entries

        pane = self.pane
        entries = palette_entries(self.themed_app.keymap.shown(), self.theme_names())
        chosen = await self.ask(Palette(entries, pane))
        if chosen is None:
            return
        if chosen.panes and pane not in chosen.panes:
            self.toast(f"“{chosen.text}” works in {pane_names(chosen.panes)}: go there first.", "warning")
            return
        await self.run_action(chosen.action)

    def action_redraw(self) -> None:
        """Send every cell again: another program has written over the screen."""
        self.themed_app.terminal_screen.forget()
        self.refresh()

    def action_suspend(self) -> None:
        """Suspend to the shell. Runs go on, because other processes own them."""
        self.app.action_suspend_process()

    def action_copy(self) -> None:
        """Copy the path or the process under the cursor, else the exact command of the step."""
        detail = self.state.detail
        text = self.panes[self.pane].copied() if self.pane in self.panes else None
        if text is None and detail is not None:
            proposed = detail.proposal.commands if detail.proposal else ()
            # A replay proposes nothing: the step's command is the recorded one, also after the run's end.
            replayed = self.state.timeline is not None and detail.proposal is None
            commands = detail.run.intent.commands if detail.run and (detail.run.alive or replayed) else proposed
            text = "\n".join(command.display for command in commands) or None
        if text is None:
            self.toast("This step has no command to copy.", "warning")
            return
        from llmval_tui.terminal.osc import osc52

        # Textual's copy_to_clipboard does not support tmux.
        write_to_terminal(self.app, osc52(text, self.state.settings.environment))
        self.toast(f"Sent to the terminal's clipboard: {text.splitlines()[0]}")

    def theme_names(self) -> list[str]:
        return list(theme_files(self.state.settings.environment))

    def action_theme(self, name: str) -> None:
        try:
            self.themed_app.apply_theme(name)
        except Refused as refusal:
            self.toast(str(refusal), "error")
            return
        for widget in self.query(RowWidget):
            widget.repaint_all()

    # Replay. These keys do nothing without a recording.

    def action_replay_pause(self) -> None:
        self._change_replay(lambda timeline: timeline.toggle_pause())

    def action_replay_seek(self, seconds: int) -> None:
        self._change_replay(lambda timeline: timeline.seek(seconds))

    def action_replay_part(self, tenths: int) -> None:
        self._change_replay(lambda timeline: timeline.seek_tenths(tenths))

    def action_replay_speed(self, steps: int) -> None:
        self._change_replay(lambda timeline: timeline.change_speed(steps))

    def _change_replay(self, change: "Callable[[Timeline], None]") -> None:
        if self.state.timeline is not None:
            change(self.state.timeline)
            self.refresh_now()
            self.selection_changed()
