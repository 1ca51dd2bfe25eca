"""What every widget may ask of the application: the theme and the signs it draws with."""

from collections.abc import Mapping

from textual.app import App

from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.theme_styles import StyledTheme, load_theme
from llmval_tui.tui.keys import Keymap


class StyledApp(App[int]):
    """An application that has a styled_theme and a set of glyphs."""

    styled_theme: StyledTheme
    glyphs: Glyphs
    keymap: Keymap
    environment: Mapping[str, str]

    def apply_theme(self, name: str | None) -> None:
        """Put on a theme.

        Raises:
            Refused: there is no such theme, or it is not valid.
        """
        self.styled_theme = load_theme(name, self.environment)
        theme = self.styled_theme.textual()
        self.register_theme(theme)
        self.theme = theme.name
