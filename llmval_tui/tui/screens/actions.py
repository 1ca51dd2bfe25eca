"""What the keys of the main screen do besides moving about: work, options, help, copying, themes, quitting."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from textual import work
from textual.notifications import SeverityLevel
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

from llmval_tui.actions.step_state import StepState
from llmval_tui.foundation.errors import Refused
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.cli_client import CommandClient
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import Snapshot, Workspace
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.drawing.theme_files import theme_files
from llmval_tui.tui.keys import pane_names
from llmval_tui.tui.themed_app import StyledApp
from llmval_tui.tui.widgets.row_widget import RowWidget
from llmval_tui.tui.widgets.scroll_pane import ScrollPane

if TYPE_CHECKING:
    from llmval_tui.tui.screens.work import Work

FINISHED = {
    StepState.DONE: "information",
    StepState.PASSED: "information",
    StepState.FAILED: "error",
    StepState.INVALID: "warning",
    StepState.INCONCLUSIVE: "warning",
    StepState.ASKING: "warning",
}


class ActionScreen(Screen[None]):
    """A screen with deeds; where things stand on it is for the main screen to know."""

    # Textual draws the whole screen again whenever the focus moves; here each widget that shows the focus draws itself.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    def __init__(self, state: ScreenState, workspace: Workspace, commands: CommandClient) -> None:
        super().__init__()
        self.state = state
        self.workspace = workspace
        self.panes: dict[str, ScrollPane] = {}
        self._commands = commands
        self._made: Work | None = None

    @property
    def _work(self) -> "Work":
        """Made with the first deed: none is before the first paint, and the dialogs are no small import."""
        if self._made is None:
            from llmval_tui.tui.screens.work import Work

            self._made = Work(self, self._commands)
        return self._made

    @property
    def pane(self) -> str:
        """Where the operator is: `list`, or a pane's name."""
        raise NotImplementedError

    @property
    def dialog_pending(self) -> bool:
        """Whether a dialog is about to come."""
        return self._made is not None and self._made.dialog_pending

    def refresh_now(self) -> None:
        """Look at the files now."""
        raise NotImplementedError

    def changed(self) -> None:
        """The operator chose something else: ask for another picture, and repaint."""
        raise NotImplementedError

    @property
    def styled_app(self) -> StyledApp:
        return cast(StyledApp, self.app)

    @property
    def glyphs(self) -> Glyphs:
        return self.styled_app.glyphs

    def toast(self, text: str, severity: SeverityLevel = "information") -> None:
        """A message in the corner, as plain text."""
        self.notify(text, severity=severity, markup=False, timeout=12 if severity == "error" else 6)

    def alert(self, text: str) -> None:
        """Tell whoever looks elsewhere, as far as the operator asked for it."""
        settings, driver = self.state.settings, self.app._driver
        if driver is None or self.state.timeline is not None:
            return
        if settings.bell:
            driver.write("\a")
        if settings.notify:
            from llmval_tui.terminal.osc import osc9

            driver.write(osc9(f"llmval {text}", settings.environment))

    def _announce_verdicts(self, before: Snapshot) -> None:
        """Say what has been judged since that picture."""
        old = {status.step.key: status for status in before.steps}
        for status in self.state.snapshot.steps:
            was = old.get(status.step.key)
            if was is None or was.verdict is not None or was.run is None or status.verdict is None:
                continue
            severity = cast(SeverityLevel, FINISHED.get(status.state, "information"))
            text = f"{status.step.number} {status.state}: {status.verdict.summary}"
            self.toast(text, severity)
            self.alert(text)

    def _allow_change(self) -> bool:
        if self.state.settings.readonly:
            why = "plays a recording" if self.state.timeline is not None else "was started with --readonly"
            self.toast(f"Read-only: this dashboard {why} and changes nothing.", "warning")
            return False
        return True

    @work
    async def action_complete(self) -> None:
        if self._allow_change():
            await self._work.start(tick=True)

    @work
    async def action_complete_all(self) -> None:
        if self._allow_change():
            await self._work.start(tick=True, everything=True)

    @work
    async def action_run(self) -> None:
        if self._allow_change():
            await self._work.start(tick=False)

    @work
    async def action_cancel(self) -> None:
        if self._allow_change():
            await self._work.cancel()

    @work
    async def action_tick(self) -> None:
        if self._allow_change():
            await self._work.tick()

    @work
    async def action_answer(self) -> None:
        if self._allow_change():
            await self._work.answer()

    @work(exclusive=True, group="settle")
    async def _settle(self) -> None:
        await self._work.settle()

    @work
    async def action_quit(self) -> None:
        if await self._work.quit():
            self.app.exit(0)

    @work
    async def action_options(self) -> None:
        from llmval_tui.tui.screens.options import OptionsDialog

        options = OptionsDialog(self.state.preset, self.state.adapt)
        if await self.app.push_screen_wait(options) is not None:
            self.state.preset, self.state.adapt = options.preset, options.adapt
            self.changed()

    def action_help(self) -> None:
        from llmval_tui.tui.screens.dialog import Help
        from llmval_tui.tui.screens.dialog_texts import help_rows

        pane, readonly = self.pane, self.state.settings.readonly

        def build(width: int) -> Sequence[Row]:
            return help_rows(pane, width, readonly, self.glyphs, self.styled_app.keymap)

        self.app.push_screen(Help(build, self.styled_app.keymap))

    @work
    async def action_palette(self) -> None:
        from llmval_tui.tui.screens.palette import Palette, palette_entries

        pane = self.pane
        offered = palette_entries(self.styled_app.keymap.all(), self.state.settings.readonly, self.theme_names())
        chosen = await self.app.push_screen_wait(Palette(offered, pane))
        if chosen is None:
            return
        if chosen.where and pane not in chosen.where:
            self.toast(f"“{chosen.text}” works in {pane_names(chosen.where)}: go there first.", "warning")
            return
        await self.run_action(chosen.action)

    def action_redraw(self) -> None:
        """Send every cell again: another program has written over the screen."""
        self.refresh()

    def action_suspend(self) -> None:
        """To the shell, as any program; the work is of other processes."""
        self.app.action_suspend_process()

    def action_copy(self) -> None:
        """The path under the cursor in the artifacts, else the exact command of the step."""
        detail = self.state.detail
        text = self.panes["artifacts"].target if self.pane == "artifacts" else None
        if text is None and detail is not None:
            proposed = detail.proposal.commands if detail.proposal else ()
            # In a replay nothing is proposed: there the recorded command is the step's, also when the run has ended.
            done = self.state.timeline is not None and detail.proposal is None
            commands = detail.run.intent.commands if detail.run and (detail.run.alive or done) else proposed
            text = "\n".join(command.display for command in commands) or None
        if text is None:
            self.toast("This step has no command to copy.", "warning")
            return
        from llmval_tui.terminal.osc import osc52

        driver = self.app._driver  # Textual's copy_to_clipboard does not know tmux
        if driver is not None:
            driver.write(osc52(text, self.state.settings.environment))
        self.toast(f"Sent to the terminal's clipboard: {text.splitlines()[0]}")

    def theme_names(self) -> list[str]:
        return list(theme_files(self.state.settings.environment))

    def action_theme(self, name: str) -> None:
        try:
            self.styled_app.apply_theme(name)
        except Refused as refusal:
            self.toast(str(refusal), "error")
            return
        for widget in self.query(RowWidget):
            widget.repaint_all()
