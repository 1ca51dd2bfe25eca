"""The line at the bottom for a filter or a search."""

from textual import events
from textual.message import Message
from textual.widgets import Input

from llmval_tui.tui.widgets.line_input import LineInput

HINTS = {
    "list": "filter the steps",
    "log": "search the log",
    "document": "search the document",
    "fleet": "go to a node",
}


class Prompt(LineInput):
    """One line of input; posts every change, and at the end the text (Enter) or None (Esc)."""

    class Typed(Message):
        """The text has changed."""

        def __init__(self, pane: str, text: str) -> None:
            super().__init__()
            self.pane = pane
            self.text = text

    class Ended(Message):
        """Enter or Esc; `text` is None for Esc."""

        def __init__(self, pane: str, text: str | None) -> None:
            super().__init__()
            self.pane = pane
            self.text = text

    def __init__(self, pane: str, text: str) -> None:
        super().__init__(text, placeholder=HINTS[pane], compact=True, select_on_focus=False)
        self.pane = pane
        self.before = text

    def on_mount(self) -> None:
        self.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(self.pane, event.value))

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        await self._end(event.value)

    async def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            self.screen.post_message(self.Typed(self.pane, self.before))  # cancel the changes
            await self._end(None)

    async def on_blur(self) -> None:
        if self.is_attached:
            await self.remove()

    async def _end(self, text: str | None) -> None:
        # Posted to the screen, because this widget is removed before the message is handled.
        if self.parent is not None:
            self.screen.post_message(self.Ended(self.pane, text))
        await self.remove()
