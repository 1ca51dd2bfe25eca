"""The main screen: the list at the left, the panes at the right, and the keys that move between them."""

import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from llmval_tui.tui.cli_client import CommandClient
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.watcher import LiveTelemetry, RecorderStatus, SamplesTaken, SnapshotTaken, Telemetry, Watcher
from llmval_tui.tui.data.workspace_view import InitialSnapshot, Workspace
from llmval_tui.tui.drawing.compositor import DiffCompositor
from llmval_tui.tui.key_queue import ClickedKey
from llmval_tui.tui.keys import PANES, Keymap, bindings
from llmval_tui.tui.panes.run import RunPane
from llmval_tui.tui.screens.pane_actions import PaneActions
from llmval_tui.tui.textual_private import bindings_of, draw_now, set_compositor
from llmval_tui.tui.widgets.bars import Bar, Header, KeyBar, ListTitle, TabBar
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.step_list import StepList

if TYPE_CHECKING:
    from llmval_tui.tui.data.log_reader import LogReader
    from llmval_tui.tui.data.replay_source import Replay
    from llmval_tui.tui.widgets.jump_bar import JumpBar

SPLIT_COLUMNS = 100  # from this width on, the list and a pane are side by side
PAINTED_S = 0.02  # after the first list has been painted: its bytes are on their way to the terminal
TICKS_UNDER_DIALOG = 5  # every which tick is drawn while a dialog is open
LATEST_S = 0.5  # everything else starts after this time, even if there is no list yet


def list_width(columns: int) -> int:
    """The columns of the list beside a pane: 40 of 100, 52 of 120, 66 of 160, 80 of 200."""
    return max(40, min(100, round(min(0.6 * columns - 20, 0.35 * columns + 10))))


class MainScreen(PaneActions):
    """Owns the widgets and the threads, gives the threads' messages to the panes, and moves the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings()]
    AUTO_FOCUS = "#steps"

    def __init__(
        self,
        state: ScreenState,
        workspace: Workspace,
        commands: CommandClient,
        live: bool = True,
        replay: "Replay | None" = None,
        initial: InitialSnapshot | None = None,
    ) -> None:
        super().__init__(state, workspace, commands)
        set_compositor(self, DiffCompositor())
        settings = state.settings
        Keymap(settings.keys).rebind(bindings_of(self))
        self._watcher = Watcher(workspace, self.post_after_key, settings.interval, initial)
        self._initial = initial
        self._log_limit = replay.log_limit if replay is not None and replay.run is not None else None
        self._reader: LogReader | None = None
        self._live: Telemetry | None = None
        if replay is not None:
            from llmval_tui.tui.data.replay_source import ReplayTelemetry

            self._live = ReplayTelemetry(replay, self.post_after_key, settings.interval)
        elif live:
            self._live = LiveTelemetry(settings, self.post_after_key)
        self.steps = StepList(state)
        self.panes = {"run": RunPane(state)}
        self.header = Header(state, id="header")
        self.list_title = ListTitle(state, id="list-title")
        self.tabs = TabBar(state, id="tabs")
        self.key_bar = KeyBar(state, id="keys")
        self._focus_before_jump: Widget | None = None
        self._last_place: Widget = self.steps
        self._drawn_focus: Widget | None = None  # the screen is arranged and drawn for it, its event is to come
        self._ticks, self._tick_s = 0, max(0.5, min(1.0, self.state.settings.interval))
        self.shown = "run"
        self.zoomed = False

    def compose(self) -> ComposeResult:
        yield self.header
        with Horizontal(id="main"):
            with Vertical(id="left"):
                yield self.list_title
                yield self.steps
            with Vertical(id="right"):
                yield self.tabs
                yield self.panes["run"]
        yield self.key_bar

    def on_mount(self) -> None:
        if self._initial is not None and self._initial.snapshot is not None:
            self._watcher.shown = self._initial.snapshot
            self.on_snapshot_taken(SnapshotTaken(self._initial.snapshot))
        self._watcher.start()
        self.set_timer(LATEST_S, self.complete)
        self.set_interval(self._tick_s, self._tick)
        self._arrange()

    def complete(self) -> None:
        """Make and start the parts that the first paint does not need: other panes, log reader, recorder, dialogs."""
        if self._reader is not None:
            return
        from llmval_tui.tui.data.log_reader import LogReader
        from llmval_tui.tui.panes.deferred import deferred_panes

        self._reader = LogReader(self.post_after_key, min(0.25, self.state.settings.interval), self._log_limit)
        self._reader.start()
        panes = deferred_panes(self.state, self._reader)
        self.panes.update(panes)
        self.query_one("#right").mount(*panes.values())
        # Textual may drop what a key changes while the new panes are laid out. Cells that are right are not sent again.
        self.call_after_refresh(self.refresh)
        self.log_pane.refresh_logs()
        self._send_selection()
        if self._live is not None:
            self._live.start()
        _ = self.dialogs  # imported now, so that the first key that needs them does not wait

    def on_unmount(self) -> None:
        self._watcher.stop()
        if self._reader is not None:
            self._reader.stop()
        if self._live is not None:
            self._live.stop()

    # Messages of the threads.

    def on_snapshot_taken(self, message: SnapshotTaken) -> None:
        before, state = self.state.snapshot, self.state
        state.update(message.snapshot)
        self.steps.repaint()
        if self._reader is None:
            # The other parts take the interpreter's time, so they wait until the list is on the screen.
            self.call_after_refresh(self.set_timer, PAINTED_S, self.complete)
        else:
            self.log_pane.refresh_logs()
            self._send_selection()
        self._announce_verdicts(before)
        if state.snapshot.judging and not state.settings.readonly:
            self._settle()
        self.after_key(partial(self.repaint_shown, steps=False))  # a key need not wait for both halves
        self.dialog_looks_again()

    def on_samples_taken(self, message: SamplesTaken) -> None:
        self.state.add_samples(message.source, message.samples, restart=message.restart)
        if self.app.screen is not self:
            return  # `_tick` draws below a dialog
        if self.shown == "telemetry":
            self.panes["telemetry"].repaint()
        self.header.repaint()

    def on_recorder_status(self, message: RecorderStatus) -> None:
        self.state.recorder_problem = message.problem
        self.repaint_shown()

    def _tick(self) -> None:
        """Update ages and the clock, and report a disk that does not answer."""
        silent = time.monotonic() - self._watcher.last_snapshot_s
        limit = 3 * self.state.settings.interval + 3
        self.state.files_problem = f"files: no answer for {silent:.0f} s" if silent > limit else None
        self._ticks += 1
        if self.app.screen is not self and self._ticks % TICKS_UNDER_DIALOG:
            return  # what changes below a dialog is drawn again with the dialog on it, which costs bytes
        self.header.repaint()
        if self.shown in ("run", "telemetry"):
            # New samples or files have mostly drawn it since the last tick: the charts are drawn once, not twice.
            self.panes[self.shown].repaint_if_older(0.9 * self._tick_s)

    def notice_changed(self) -> None:
        self.key_bar.repaint()
        if self.state.messages.shown is not None:
            self.steps.repaint()  # it lists the last messages below the steps

    def repaint_shown(self, *, steps: bool = True) -> None:
        beside = (self.header, self.list_title, self.tabs, self.key_bar, self.panes[self.shown])
        for widget in (self.steps, *beside) if steps else beside:
            widget.repaint()

    def _send_selection(self) -> None:
        self._watcher.select(self.state.selection, self.state.recorded_file())

    def selection_changed(self) -> None:
        self._send_selection()
        self.repaint_shown()

    def refresh_now(self) -> None:
        self._watcher.refresh_now()
        if self._live is not None:
            self._live.refresh_now()

    # Moving between list and panes.

    @property
    def pane(self) -> str:
        return "list" if self._place is self.steps else self.shown

    @property
    def _place(self) -> Widget:
        """The list or the pane that has the focus, or had it before a prompt or the jump bar took it.

        Not by `has_focus`, which changes only when the widget handles the event: too late for `_focus_now`.
        """
        focused = self.focused
        if focused is not None and (focused is self.steps or focused in self.panes.values()):
            self._last_place = focused
        return self._last_place

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Show list and pane side by side if there is room, else only the one with the focus."""
        both = self.size.width >= SPLIT_COLUMNS and not self.zoomed and self.pane != "fleet"
        on_list = self._place is self.steps
        left = self.query_one("#left")
        left.display = both or on_list
        self.query_one("#right").display = both or not on_list
        left.set_class(not both, "alone")
        left.styles.width = list_width(self.size.width) if both else "1fr"

    def on_descendant_focus(self) -> None:
        drawn, self._drawn_focus = self._drawn_focus, None
        if self.focused is self._place and self.focused is not drawn:  # for the prompt the layout stays
            self._show_focus()

    def _show_focus(self) -> None:
        self._arrange()
        before, self.key_bar.pane = self.key_bar.pane, self.pane
        left = (self.list_title, self.steps) if "list" in (before, self.pane) else ()
        for widget in (*left, self.tabs, self.key_bar, self.panes[self.shown]):
            widget.repaint()

    def on_scroll_pane_chosen(self, message: ScrollPane.Chosen) -> None:
        if message.pane is not self.steps:
            return
        self.panes["run"].top = 0
        if self._reader is not None:
            self.log_pane.refresh_logs()
        self.selection_changed()

    def on_scroll_pane_opened(self, message: ScrollPane.Opened) -> None:
        if message.pane is self.steps or message.pane is self.panes.get("fleet"):
            self.action_open()

    def on_bar_pressed(self, message: Bar.Pressed) -> None:
        if message.name in PANES:
            self.show_pane(message.name)
            return
        key = next((key for key in self.themed_app.keymap.all() if key.id == message.name), None)
        if key is not None:
            self.set_focus(self._place)  # a prompt ends, as after a click into the pane
            self.app.post_message(ClickedKey(key.keys.split(",")[0]))

    def show_pane(self, name: str) -> None:
        """Show a pane and give it the focus."""
        self.complete()
        self.shown = self.tabs.active = name
        self.query_one("#right").display = True
        for other, pane in self.panes.items():
            pane.display = other == name
        self._focus_now(self.panes[name])

    def _focus_now(self, widget: Widget) -> None:
        """Move the focus, arrange and draw at once: one frame, and no picture of a half-changed screen."""
        self.set_focus(widget, scroll_visible=False)  # nothing scrolls here, and looking for it lays out the screen
        self._drawn_focus = widget
        self._show_focus()
        draw_now(self)

    def action_tab(self, number: int) -> None:
        self.show_pane(PANES[number - 1])

    def action_open(self) -> None:
        if self.pane == "list":
            if not self.steps.toggle_section():
                self.show_pane(self.shown)
        elif self.pane == "log":
            self.log_pane.fold_all()
        elif self.pane == "runs" and (back := self.runs_pane.place_of(self.runs_pane.target)) is not None:
            self.state.back = back
            self.state.leave_node()
            self.selection_changed()
            self.show_pane("run")
        elif self.pane == "telemetry":
            self.panes["telemetry"].next_block()
        elif self.pane == "fleet":
            self._open_node()
        elif self.pane == "run" and self.state.run and self.state.run.verdict and self.state.run.verdict.question:
            self.action_answer()

    def _open_node(self) -> None:
        """Show the node under the cursor in the ordinary panes."""
        snapshot, node = self.state.snapshot, self.fleet_pane.node
        if snapshot.fleet is None or snapshot.fleet.run_id is None or snapshot.fleet_place is None or node is None:
            return
        if node.age_s is None and not node.metrics:
            refused = snapshot.fleet.refused
            why = f"was not started. {refused}" if refused else "has written nothing yet."
            self.toast(f"{node.name} {why}", "warning")
            return
        key, back = snapshot.fleet_place
        self.steps.go_to(key)
        self.state.back = back
        self.state.show_node(snapshot.fleet.run_id, node.name)
        self.log_pane.refresh_logs()
        self.selection_changed()
        self.show_pane("run")

    def action_side(self, side: int) -> None:
        if self.pane == "fleet" and self.fleet_pane.move_aside(1 if side else -1):
            return
        if side:
            self.show_pane(self.shown)
        else:
            self.focus_list()

    def action_switch(self) -> None:
        """From the list to the pane, to its blocks whose rows can be chosen, and back to the list."""
        pane = self.focused_pane
        if pane is self.steps:
            self.action_side(1)
        elif not pane.next_block():
            pane.leave_block()
            self.action_side(0)

    def focus_list(self) -> None:
        self.zoomed = False
        self.query_one("#left").display = True
        self._focus_now(self.steps)

    def action_zoom(self) -> None:
        self.zoomed = not self.zoomed
        self._arrange()

    def action_back(self) -> None:
        """Leave the search, the zoom, the pane, the filter or the marks: the first of them that applies."""
        state = self.state
        if self.pane == "log" and self.log_pane.needle:
            self.log_pane.forget_search()
        elif self.pane == "document" and self.document_pane.needle:
            self.document_pane.needle = ""
            self.document_pane.repaint()
        elif self.zoomed:
            self.action_zoom()
        elif self.focused_pane.leave_block():
            pass
        elif self.state.node is not None and self.pane not in ("list", "fleet"):
            self.state.leave_node()
            self.selection_changed()
            self.show_pane("fleet")
        elif self.pane != "list":
            self.focus_list()
        elif state.filter or state.shown_state is not None:
            state.filter, state.shown_state = "", None
            self.steps.filter_changed()
            self.list_title.repaint()
        elif state.marks:
            state.marks.clear()
            self.repaint_shown()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        return self.themed_app.keymap.works_in(action, self.pane)

    def action_jump(self) -> None:
        """Give each visible step a letter; the next key goes to a step or to a pane."""
        from llmval_tui.tui.widgets.jump_bar import JumpBar, assign_letters

        if self.state.jump is None:
            visible = self.steps.visible_targets() if self.query_one("#left").display else []
            self.state.jump = assign_letters(visible)
            self._focus_before_jump = self.focused
            self.key_bar.display = False
            self.mount(JumpBar(), after=self.key_bar)
            self.repaint_shown()

    def on_jump_bar_chosen(self, message: "JumpBar.Chosen") -> None:
        letters, self.state.jump = self.state.jump, None
        if letters is None:
            return  # answered already: the bar lost the focus when it was removed
        if self.focused is None or self.focused.parent is self:  # else a click has moved it away from the bar
            self.set_focus(self._focus_before_jump or self.steps)
        self.query("JumpBar").remove()
        self.key_bar.display = True
        key = message.key or ""
        if key in letters:
            self.steps.choose(letters[key])
            self.focus_list()
        elif key.isdecimal() and 1 <= int(key) <= len(PANES):
            self.show_pane(PANES[int(key) - 1])
        self.repaint_shown()
