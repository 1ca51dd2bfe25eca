"""Dialogs: a title, scrollable text, and choices with a key each.

What a dialog is about may change while it is open: a run ends, another process ticks a step. A dialog with a `look`
shows that: it is asked after each change of the workspace.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from textual import events, work
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen

from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit
from llmval_tui.tui.drawing.compositor import DiffCompositor
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.textual_private import set_compositor
from llmval_tui.tui.widgets.row_widget import RowWidget
from llmval_tui.tui.widgets.scroll_pane import ScrollPane

T = TypeVar("T")
Build = Callable[[int], Sequence[Row]]  # width → rows


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers of a dialog."""

    key: str
    label: str
    value: str
    danger: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a dialog shows and offers at one moment."""

    title: str
    build: Build
    choices: tuple[Choice, ...] = ()
    chosen: int = 0  # the choice that Enter takes
    facts: object = None  # what the operator decides on; two that are equal would do the same
    closed: bool = False  # a text dialog takes no text any more


Look = Callable[[], Awaitable[Content]]


def looking_at(content: Callable[[], Content]) -> Look:
    """The look of a dialog whose content needs no thread."""

    async def look() -> Content:
        return content()

    return look


class DialogBody(ScrollPane):
    """The dialog's text."""

    def __init__(self, build: Build) -> None:
        super().__init__(id="body")
        self.build = build

    def content(self, width: int) -> Sequence[Row]:
        return self.build(width)


class DialogTitle(RowWidget):
    """The title row."""

    def __init__(self, text: str) -> None:
        super().__init__(id="title")
        self.text = text

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return [Row(((fit(f" {self.text}", width, self.glyphs.ellipsis), "title"),), "cursor")]


class Choices(RowWidget):
    """The answers in a row; a cursor sign marks the one that Enter takes."""

    class Selected(Message):
        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self, choices: Sequence[Choice], chosen: int) -> None:
        super().__init__(id="choices")
        self.choices = choices
        self.chosen = chosen
        self._columns: list[tuple[int, int, int, Choice]] = []

    def lines(self, width: int) -> int:
        """How many rows the answers take: one that is cut off could not be read."""
        return len(self._placed(width))

    def _placed(self, width: int) -> list[list[int]]:
        """The indices of the answers of each row."""
        found: list[list[int]] = [[]]
        used = 0
        for index, choice in enumerate(self.choices):
            length = cell_len(f"  {choice.key} {choice.label}  ")
            if used and used + length - 2 > width:  # the blanks at its end may be cut
                found.append([])
                used = 0
            found[-1].append(index)
            used += length
        return found

    def rows(self, width: int, height: int) -> Sequence[Row]:
        rows: list[Row] = []
        self._columns = []
        for line, indices in enumerate(self._placed(width)):
            spans: list[tuple[str, str]] = []
            column = 0
            for index in indices:
                choice = self.choices[index]
                text = f"{self.glyphs.cursor if index == self.chosen else ' '} {choice.key} "
                label = f"{choice.label}  "
                role = "bad" if choice.danger else "title" if index == self.chosen else "text"
                spans += [(text, "key"), (label, role)]
                length = cell_len(text + label)
                self._columns.append((line, column, column + length, choice))
                column += length
            rows.append(Row(tuple(spans), "bar"))
        return rows

    def on_click(self, event: events.Click) -> None:
        for line, start, end, choice in self._columns:
            if line == event.y and start <= event.x < end:
                self.post_message(self.Selected(choice))


class BoxScreen(ModalScreen[T]):
    """A modal screen with a box that fits into any terminal and is not too wide to read."""

    def __init__(self, content: Content | None = None, look: Look | None = None) -> None:
        super().__init__()
        set_compositor(self, DiffCompositor())
        self.content = content or Content("", lambda width: ())
        self._look = look
        self._has_widgets = False

    def on_mount(self) -> None:
        self._has_widgets = True
        self.fit_box()
        self.look_again()  # it may have changed while the dialog was prepared

    def dismiss(self, result: T | None = None) -> AwaitComplete:
        """Close once. Textual would close whatever is on the screen, also for a second click that was on its way."""
        return super().dismiss(result) if self.app.screen_stack[-1:] == [self] else AwaitComplete()

    def on_resize(self) -> None:
        self.fit_box()

    @property
    def _is_open(self) -> bool:
        """Whether the dialog has all its widgets: it is pushed before they are made, and closes before they go.

        An application that ends makes no more of them; nothing `is_attached` to it then.
        """
        return self._has_widgets and self.display and self.is_attached and self in self.app.screen_stack

    def look_again(self) -> None:
        """Show what the dialog is about as it is now."""
        if self._look is not None and self._is_open:
            self._show_what(self._look)

    @work(exclusive=True, group="look")
    async def _show_what(self, look: Look) -> None:
        content = await look()
        if content is not self.content and self._is_open:
            self.content = content
            self.show_content()

    def show_content(self) -> None:
        """Draw `content`, which has changed."""
        title, body = self.query_one(DialogTitle), self.query_one(DialogBody)
        title.text, body.build = self.content.title, self.content.build
        title.repaint()
        self.rebuild()

    def rebuild(self) -> None:
        """Show changed text."""
        self.fit_box()
        self.query_one(DialogBody).repaint()

    def fit_box(self) -> None:
        """Fit the box into the terminal."""
        if not self._is_open:
            return
        width = min(100, self.size.width - 2)
        self.query_one("#box").styles.width = width
        self.fit_height(width)

    def fit_height(self, width: int) -> None:
        """Set the height of the contents for this width: as high as needed, but no higher than the terminal."""
        raise NotImplementedError


class Dialog(BoxScreen[str | None]):
    """Shows rows and waits for a choice; Esc and a choice without a value give None."""

    AUTO_FOCUS = "#body"

    def __init__(
        self, title: str, build: Build, choices: Sequence[Choice], chosen: int = 0, look: Look | None = None
    ) -> None:
        super().__init__(Content(title, build, tuple(choices), chosen), look)

    @classmethod
    def of(cls, content: Content, look: Look | None = None) -> "Dialog":
        """A dialog with this content; `look` gives its content after a change."""
        made = cls(content.title, content.build, content.choices, content.chosen, look)
        made.content = content
        return made

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield DialogTitle(self.content.title)
            yield DialogBody(self.content.build)
            yield Choices(self.content.choices, self.content.chosen)

    def fit_height(self, width: int) -> None:
        rows, choices = len(self.content.build(width - 5)), self.query_one(Choices)
        lines = choices.lines(width - 2)
        choices.styles.height = lines
        self.query_one(DialogBody).styles.height = max(1, min(rows, self.size.height - 5 - lines))

    def show_content(self) -> None:
        shown, content = self.query_one(Choices), self.content
        before = shown.choices[shown.chosen].value
        kept = [index for index, choice in enumerate(content.choices) if choice.value == before]
        shown.choices, shown.chosen = content.choices, kept[0] if kept else content.chosen
        super().show_content()
        shown.repaint()

    def on_key(self, event: events.Key) -> None:
        choices = self.query_one(Choices)
        match = next((c for c in choices.choices if event.character == c.key), None)
        if match is not None:  # first, because the key of a choice may also be one that moves
            self.select(match)
        elif event.key == "escape":
            self.dismiss(None)
        elif event.key == "enter":
            self.select(choices.choices[choices.chosen])
        elif event.key in ("left", "right", "tab", "shift+tab", "h", "l"):
            step = 1 if event.key in ("right", "tab", "l") else -1
            choices.chosen = (choices.chosen + step) % len(choices.choices)
            choices.repaint()
        else:
            return
        event.stop()
        event.prevent_default()

    def on_choices_selected(self, message: Choices.Selected) -> None:
        self.select(message.choice)

    def select(self, choice: Choice) -> None:
        """Close with the value of this choice."""
        self.dismiss(choice.value or None)


class Help(Dialog):
    """The keys of a pane; the keys for help and for quitting also close it."""

    def __init__(self, build: Build, keymap: Keymap) -> None:
        closing = {key.id: key for key in keymap.all() if key.id in ("help", "quit") and key.keys}
        self._closing_keys = [name for key in closing.values() for name in key.keys.split(",")]
        shown = keymap.hint("help") or keymap.hint("quit") or "Esc"
        super().__init__("Keys", build, [Choice(shown.split()[0], "close", "")])

    def on_key(self, event: events.Key) -> None:  # other keys go to the base class
        if event.key in self._closing_keys:
            event.stop()
            event.prevent_default()
            self.dismiss(None)
