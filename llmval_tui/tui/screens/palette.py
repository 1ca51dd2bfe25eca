"""The palette: every action and theme by name, one row each with its key.

Textual's own palette is not used. It collects its rows in the background, so Enter after quickly typed words may choose
from the rows of an earlier text. It also begins with an emoji, whose width differs between terminals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from llmval_tui.terminal.format import fit
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.keys import Key, pane_names
from llmval_tui.tui.screens.dialog import BoxScreen, DialogTitle
from llmval_tui.tui.widgets.line_input import LineInput
from llmval_tui.tui.widgets.scroll_pane import ScrollPane


@dataclass(frozen=True, slots=True)
class PaletteEntry:
    """One row: text, key, action, and the panes where the action works (none: everywhere)."""

    text: str
    display: str
    action: str
    panes: tuple[str, ...] = ()


def palette_entries(keys: Iterable[Key], themes: Iterable[str]) -> list[PaletteEntry]:
    """All entries: the actions of the keys, then the themes."""
    found = [
        PaletteEntry(key.help, key.display if key.keys else "", key.action, key.panes)
        for key in keys
        if key.id not in ("palette", "back")
    ]
    return found + [PaletteEntry(f"Theme: {name}", "", f"theme({name!r})") for name in themes]


def matching_entries(offered: Sequence[PaletteEntry], typed: str) -> list[PaletteEntry]:
    """The entries with every typed word; entries with a word that begins with the first one come first."""
    words = typed.casefold().split()
    found = [entry for entry in offered if all(word in entry.text.casefold() for word in words)]
    if not words:
        return found
    return sorted(found, key=lambda entry: f" {words[0]}" not in f" {entry.text.casefold()}")


class EntryList(ScrollPane):
    """The matching entries, with a cursor."""

    def __init__(self, offered: Sequence[PaletteEntry], pane: str) -> None:
        super().__init__(id="offered")
        self.can_focus = False  # keys go to the input
        self.offered = offered
        self.pane = pane
        self.found = list(offered)
        self.cursor = 0

    def show(self, typed: str) -> None:
        self.found = matching_entries(self.offered, typed)
        self.cursor = self.top = 0
        self.repaint()

    @property
    def chosen(self) -> PaletteEntry | None:
        return self.found[self.cursor] if self.cursor is not None and self.cursor < len(self.found) else None

    def content(self, width: int) -> Sequence[Row]:
        if not self.found:
            return [row((" no action has these words", "warn"))]
        rows = []
        for index, entry in enumerate(self.found):
            works = not entry.panes or self.pane in entry.panes
            elsewhere = "" if works else f" in {pane_names(entry.panes)}"
            sign = self.glyphs.cursor if index == self.cursor else " "
            shown = fit(self.glyphs.key(entry.display), 10, self.glyphs.ellipsis)
            text = fit(self.glyphs.key(entry.text), max(8, width - 12 - len(elsewhere)), self.glyphs.ellipsis)
            role = "text" if works else "muted"
            rows.append(row((sign, "accent"), (shown, "key"), (text, role), (elsewhere, "muted"), target=entry.action))
        return rows

    def _highlighted(self, index: int, shown: Row) -> Row:
        return Row(shown.spans, "cursor" if index == self.cursor else "screen", shown.target)


class Palette(BoxScreen[PaletteEntry | None]):
    """Typed words filter the actions, Enter gives the one under the cursor, Esc none."""

    AUTO_FOCUS = "#entry"

    def __init__(self, offered: Sequence[PaletteEntry], pane: str) -> None:
        super().__init__()
        self._offered = EntryList(offered, pane)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield DialogTitle("Every action: type words to find it, Enter runs it")
            yield LineInput(placeholder="part of its name", id="entry", compact=True)
            yield self._offered

    def fit_height(self, width: int) -> None:
        # High enough for all entries, so that the box does not move while words are typed.
        self._offered.styles.height = max(1, min(len(self._offered.offered), self.size.height - 6))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._offered.show(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        # The text of the input decides, because the list may not have received the last change yet.
        event.stop()
        found = matching_entries(self._offered.offered, event.value)
        if found == self._offered.found:
            self.dismiss(self._offered.chosen) if found else None
        elif found:
            self.dismiss(found[0])

    def on_scroll_pane_chosen(self, message: ScrollPane.Chosen) -> None:
        message.stop()

    def on_scroll_pane_opened(self, message: ScrollPane.Opened) -> None:
        message.stop()
        self.dismiss(self._offered.chosen)

    def on_key(self, event: events.Key) -> None:
        moves = {"down": 1, "up": -1, "ctrl+n": 1, "ctrl+p": -1}
        if event.key == "escape":
            self.dismiss(None)
        elif event.key in moves:
            self._offered.action_move(moves[event.key])
        elif event.key in ("pagedown", "pageup"):
            self._offered.action_page(1 if event.key == "pagedown" else -1)
        else:
            return
        event.stop()
        event.prevent_default()
