"""The main screen, as far as the dialogs need it."""

from typing import Protocol, TypeVar

from textual.notifications import SeverityLevel
from textual.screen import Screen

from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import Workspace

T = TypeVar("T")


class Host(Protocol):
    """The screen that opens the dialogs."""

    state: ScreenState
    workspace: Workspace

    @property
    def asks(self) -> bool:
        """Whether a dialog is open."""
        ...

    @property
    def glyphs(self) -> Glyphs: ...

    def toast(self, text: str, severity: SeverityLevel = "information") -> None: ...

    def refresh_now(self) -> None: ...

    async def ask(self, dialog: Screen[T]) -> T | None: ...
