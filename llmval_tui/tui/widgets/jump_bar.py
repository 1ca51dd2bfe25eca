"""Jump mode: every visible step has a letter, every pane its digit, and the next key goes there."""

from collections.abc import Sequence

from textual import events
from textual.message import Message

from llmval_tui.terminal.format import fit
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.keys import PANES
from llmval_tui.tui.widgets.row_widget import RowWidget

# The home row first, then the keys near it.
LETTERS = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"


class JumpBar(RowWidget, can_focus=True):
    """Replaces the keys at the bottom and waits for one key."""

    class Chosen(Message):
        """A key was pressed; None: do not jump."""

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

    def on_mount(self) -> None:
        self.focus()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        text = f" a letter goes to its step, 1 to {len(PANES)} to its pane, Esc stays"
        return [Row(((" jump ", "key"), (fit(text, max(0, width - 6), self.glyphs.ellipsis), "text")), "cursor")]

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        key = event.character if event.is_printable else None
        self.post_message(self.Chosen(key))

    def on_blur(self) -> None:
        if self.is_attached:
            self.post_message(self.Chosen(None))


def assign_letters(targets: Sequence[str]) -> dict[str, str]:
    """The target of each letter; targets beyond the last letter get none."""
    return dict(zip(LETTERS, targets, strict=False))
