"""What every widget may ask of the application: the theme and the signs it draws with."""

from collections.abc import Mapping

from textual.app import App

from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.theme_styles import Look, choose_look
from llmval_tui.tui.keys import Keymap


class StyledApp(App[int]):
    """An application that has a look and a set of glyphs."""

    look: Look
    glyphs: Glyphs
    keymap: Keymap
    environment: Mapping[str, str]

    def wear(self, name: str | None) -> None:
        """Put on a theme.

        Raises:
            Refused: there is no such theme, or it is not valid.
        """
        self.look = choose_look(name, self.environment)
        theme = self.look.textual()
        self.register_theme(theme)
        self.theme = theme.name
