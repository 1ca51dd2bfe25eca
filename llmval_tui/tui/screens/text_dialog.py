"""A dialog that asks for one line of text, such as the note of a tick."""

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from llmval_tui.tui.screens.dialog import BoxScreen, Build, Content, DialogBody, DialogTitle, Look
from llmval_tui.tui.widgets.line_input import LineInput


class TextDialog(BoxScreen[str | None]):
    """Shows rows and an input; Enter gives the text, Esc gives None. An empty text is not accepted."""

    AUTO_FOCUS = "#entry"

    def __init__(self, title: str, build: Build, hint: str, look: Look | None = None) -> None:
        super().__init__(Content(title, build), look)
        self._hint = hint

    @classmethod
    def of(cls, content: Content, hint: str, look: Look | None = None) -> "TextDialog":
        """A dialog with this content; `look` gives its content after a change."""
        made = cls(content.title, content.build, hint, look)
        made.content = content
        return made

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield DialogTitle(self.content.title)
            body = DialogBody(self.content.build)
            body.can_focus = False  # after a click into the text, letters would not reach the input
            yield body
            yield LineInput(placeholder=self._hint, id="entry", compact=True)

    def fit_height(self, width: int) -> None:
        rows = len(self.content.build(width - 5))
        self.query_one(DialogBody).styles.height = max(1, min(rows, self.size.height - 7))

    def on_key(self, event: events.Key) -> None:
        body = self.query_one(DialogBody)
        if event.key == "escape":
            self.dismiss(None)
        elif event.key in ("down", "up"):
            body.action_move(1 if event.key == "down" else -1)
        elif event.key in ("pagedown", "pageup"):
            body.action_page(1 if event.key == "pagedown" else -1)
        else:
            return
        event.stop()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if text and not self.content.closed:
            self.dismiss(text)
            return
        title = self.query_one(DialogTitle)  # a toast would wait until the dialog closes
        title.text = self.content.title + (
            ": leave with Esc" if self.content.closed else ": write something, or leave with Esc"
        )
        title.repaint()
