"""The keys that mean something in the pane with the focus: order, range, folding, search, the log, comparing runs."""

import asyncio
from typing import TYPE_CHECKING, cast

from textual import work

from llmval_tui.foundation.errors import Refused
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.keys import SEARCHABLE
from llmval_tui.tui.screens.actions import ActionScreen
from llmval_tui.tui.widgets.bars import KeyBar, ListTitle
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.step_list import StepList

if TYPE_CHECKING:
    from llmval_tui.tui.data.log_reader import LogGrew, LogLooked, LogRead
    from llmval_tui.tui.panes.document import DocumentPane
    from llmval_tui.tui.panes.fleet import FleetPane
    from llmval_tui.tui.panes.log import LogPane
    from llmval_tui.tui.panes.runs import RunsPane
    from llmval_tui.tui.widgets.prompt import Prompt


class PaneActions(ActionScreen):
    """Gives each key to the pane with the focus; the main screen makes the widgets and moves the focus."""

    steps: StepList
    list_title: ListTitle
    key_bar: KeyBar
    shown: str  # the name of the pane that is shown, also while the list has the focus

    def repaint_shown(self) -> None:
        """Repaint everything that is on the screen."""
        raise NotImplementedError

    def complete(self) -> None:
        """Make the panes that the first paint does not need."""
        raise NotImplementedError

    @property
    def log_pane(self) -> "LogPane":
        self.complete()
        return cast("LogPane", self.panes["log"])

    @property
    def runs_pane(self) -> "RunsPane":
        self.complete()
        return cast("RunsPane", self.panes["runs"])

    @property
    def fleet_pane(self) -> "FleetPane":
        self.complete()
        return cast("FleetPane", self.panes["fleet"])

    @property
    def document_pane(self) -> "DocumentPane":
        self.complete()
        return cast("DocumentPane", self.panes["document"])

    @property
    def focused_pane(self) -> ScrollPane:
        return self.steps if self.pane == "list" else self.panes[self.shown]

    def action_other(self, step: int) -> None:
        """`[` and `]`: another log, document, telemetry source or run, depending on the pane."""
        state = self.state
        if self.pane == "log":
            self.log_pane.other(step)
        elif self.pane == "document":
            names = state.snapshot.document.names if state.snapshot.document else ("",)
            state.document = (state.document + step) % len(names)
            self.document_pane.top = 0
        elif self.pane == "telemetry" and state.timeline is not None:
            self.toast("This is the recording that plays.")
        elif self.pane == "telemetry":
            if not state.toggle_recorded():
                self.toast("The run that is shown has no recorded telemetry: this is the live hardware.")
        elif self.pane == "fleet":
            state.fleet_back = max(0, min(state.fleet_back - step, state.snapshot.fleets - 1))
        elif state.node is not None and state.snapshot.fleet is not None and state.snapshot.fleet.run_id is not None:
            if (name := self.fleet_pane.neighbour(state.node, step)) is not None:
                state.show_node(state.snapshot.fleet.run_id, name)
        elif state.detail is not None and state.detail.runs:
            # `[` goes to older runs and `]` to newer ones, as on a time axis.
            state.back = max(0, min(state.back - step, state.detail.runs - 1))
        self.selection_changed()

    def action_mark(self) -> None:
        if self.state.timeline is not None:
            self.action_replay_pause()  # a replay starts nothing, so there is nothing to mark
        elif self.pane == "runs":
            self.runs_pane.toggle_mark()
        elif self.pane == "list" and self.state.key is not None:
            self.state.marks ^= {self.state.key}
            self.steps.action_move(1)
            self.repaint_shown()

    def action_next_state(self) -> None:
        self.focused_pane.next_state()
        self.list_title.repaint()

    def action_next_order(self) -> None:
        self.focused_pane.next_order()
        self.list_title.repaint()

    def action_reverse_order(self) -> None:
        self.focused_pane.reverse_order()

    def action_fold_all(self) -> None:
        self.focused_pane.fold_all()

    def action_next_range(self) -> None:
        self.focused_pane.next_range()

    def action_next_figure(self) -> None:
        if self.pane == "fleet":
            self.fleet_pane.next_figure()

    def action_next_window(self) -> None:
        self.focused_pane.next_window()

    # What the log reader has found.

    def on_log_read(self, message: "LogRead") -> None:
        self.log_pane.show_read(message)

    def on_log_looked(self, message: "LogLooked") -> None:
        self.log_pane.show_looked(message)

    def on_log_grew(self, message: "LogGrew") -> None:
        self.log_pane.show_growth(message)

    # Searching.

    async def action_find(self) -> None:
        if self.pane not in SEARCHABLE:
            return
        from llmval_tui.tui.widgets.prompt import Prompt

        start = self.state.filter if self.pane == "list" else ""
        await self.mount(Prompt(self.pane, start), before=self.key_bar)

    def on_prompt_typed(self, message: "Prompt.Typed") -> None:
        if message.pane == "list":
            self.state.filter = message.text
            self.steps.filter_changed()
            self.list_title.repaint()

    def on_prompt_ended(self, message: "Prompt.Ended") -> None:
        """The prompt is closed: give the focus back to its pane, and search."""
        (self.steps if message.pane == "list" else self.panes[message.pane]).focus()
        if message.text is None:
            return
        if message.pane == "log":
            self.log_pane.needle = message.text
            self.log_pane.find(-1 if self.log_pane.following else 1)
        elif message.pane == "document":
            self.document_pane.needle = message.text
            if message.text and not self.document_pane.find(1):
                self.toast(f"“{message.text}” is not in this document.", "warning")
        elif message.pane == "fleet":
            self.fleet_pane.needle = message.text
            if message.text and not self.fleet_pane.find(1):
                self.toast(f"No node is called “{message.text}”.", "warning")
        else:
            self.steps.filter_changed()

    @property
    def _searchable(self) -> "LogPane | DocumentPane | None":
        """The pane with the focus, if its text can be searched and shifted."""
        return self.log_pane if self.pane == "log" else self.document_pane if self.pane == "document" else None

    def action_find_next(self, direction: int) -> None:
        pane = self.fleet_pane if self.pane == "fleet" else self._searchable
        if pane is not None and pane.needle and not pane.find(direction):
            self.toast(f"“{pane.needle}” is not found.", "warning")

    def action_shift(self, direction: int) -> None:
        pane = self._searchable
        if pane is not None:
            pane.shift(16 * direction)

    def action_problem(self, direction: int) -> None:
        if self.pane == "log":
            self.log_pane.next_problem(direction)

    def action_toggle_wrap(self) -> None:
        if self.pane == "log":
            self.log_pane.toggle_wrap()

    def action_next_clock(self) -> None:
        if self.pane == "log":
            self.log_pane.next_clock()

    def action_follow(self) -> None:
        if self.pane == "log":
            self.log_pane.action_follow()

    def action_merged(self) -> None:
        if self.pane == "log":
            self.log_pane.toggle_merged()

    @work
    async def action_compare(self) -> None:
        """Two runs side by side: both marked ones, or the one under the cursor and another."""
        from llmval_tui.tui.panes.runs import difference_rows
        from llmval_tui.tui.screens.dialog import Choice, Dialog

        two = self.runs_pane.two() if self.pane == "runs" else None
        if two is None:
            self.toast("There are no two runs to compare.", "warning")
            return
        try:
            found = await asyncio.to_thread(self.workspace.compare, *two)
        except Refused as refusal:
            self.toast(str(refusal), "error")
            return
        names = (two[0].id, two[1].id)

        def build(width: int) -> list[Row]:
            return difference_rows(found, names, width, self.glyphs)

        await self.ask(Dialog("Two runs side by side, the older one first", build, [Choice("q", "close", "")]))
