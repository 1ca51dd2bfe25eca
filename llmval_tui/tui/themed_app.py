"""The application as every widget sees it: its theme, its glyphs and its keys."""

from collections.abc import Mapping

from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.theme_styles import StyledTheme, load_theme
from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.textual_private import FrameApp


class ThemedApp(FrameApp):
    """An application with a theme, a set of glyphs and a keymap."""

    styled_theme: StyledTheme
    glyphs: Glyphs
    keymap: Keymap
    environment: Mapping[str, str]

    def apply_theme(self, name: str | None) -> None:
        """Change the theme; None is the default one.

        Raises:
            Refused: the theme does not exist or is not valid.
        """
        self.styled_theme = load_theme(name, self.environment)
        theme = self.styled_theme.to_textual()
        self.register_theme(theme)
        self.theme = theme.name
