"""Jump mode on the main screen: letters for steps, digits for panes, one key to go there."""

from typing import TYPE_CHECKING

from textual.widget import Widget

from llmval_tui.tui.keys import PANES
from llmval_tui.tui.screens.playing import PlayingScreen
from llmval_tui.tui.widgets.bars import KeyBar
from llmval_tui.tui.widgets.step_list import StepList

if TYPE_CHECKING:
    from llmval_tui.tui.widgets.jump_bar import JumpBar


class JumpingScreen(PlayingScreen):
    """A screen with a list and panes; how one gets to them is for the main screen to know."""

    _steps: StepList
    _keys: KeyBar
    _came_from: Widget | None = None  # what had the focus before jump mode

    def _go(self, name: str) -> None:
        """Show a pane and give it the focus."""
        raise NotImplementedError

    def _focus_list(self) -> None:
        raise NotImplementedError

    def _repaint(self) -> None:
        raise NotImplementedError

    def action_jump(self) -> None:
        from llmval_tui.tui.widgets.jump_bar import JumpBar, assign_letters

        if self.state.jump is None:
            in_sight = self._steps.visible_targets() if self.query_one("#left").display else []
            self.state.jump = assign_letters(in_sight)
            self._came_from = self.focused
            self._keys.display = False
            self.mount(JumpBar(), after=self._keys)
            self._repaint()

    def on_jump_bar_chosen(self, message: "JumpBar.Chosen") -> None:
        """The key that came in jump mode."""
        chosen, self.state.jump = self.state.jump, None
        if chosen is None:
            return  # the bar lost the focus because it was answered
        self.query("#jump").remove()
        self._keys.display = True
        (self._came_from or self._steps).focus()
        key = message.key or ""
        if key in chosen:
            self._steps.choose(chosen[key])
            self._focus_list()
        elif key.isdecimal() and 1 <= int(key) <= len(PANES):
            self._go(PANES[int(key) - 1])
        self._repaint()
