"""The styles of a theme: a TOML file names a colour for each role, and this module makes Rich styles of them.

A role is the meaning of a text (`bad`, `muted`, `key`); a background is the kind of row below it (`screen`, `bar`,
`cursor`). Widgets know only roles and backgrounds, so a theme can change every colour without changing a widget.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.errors import StyleSyntaxError
from rich.style import Style

from llmval_tui.foundation.errors import Refused
from llmval_tui.tui.drawing.theme_files import BACKGROUNDS, ThemeFile, find_theme, read_theme

if TYPE_CHECKING:
    from textual.theme import Theme


@dataclass(frozen=True)
class StyledTheme(ThemeFile):
    """A theme with Rich's styles."""

    _styles: dict[tuple[str, str], Style] = field(default_factory=dict, compare=False, repr=False)

    def style(self, role: str, background: str = "screen") -> Style:
        """The style of text of this role on this background."""
        found = self._styles.get((role, background))
        if found is None:
            own, under = Style.parse(self.roles[role]), _background_style(self.backgrounds[background])
            if under.reverse:
                # Inverted, the colour of a word would become its background, so the row keeps the default ones.
                own = Style(bold=own.bold, underline=own.underline)
            found = own + under
            self._styles[role, background] = found
        return found

    def to_textual(self) -> "Theme":
        """The same theme for Textual's own widgets, such as inputs and toasts."""
        from textual.theme import Theme

        colour = {role: _textual_colour(Style.parse(value)) for role, value in self.roles.items()}
        screen, bar, cursor = (
            _textual_colour(_background_style(self.backgrounds[name]), back=True) for name in BACKGROUNDS[:3]
        )
        cursor_text = colour["text"] if self.kind != "ansi" else "ansi_black"
        if self.kind == "ansi" and cursor == "ansi_default":
            cursor = "ansi_white"
        return Theme(
            name=f"llmval-{self.name}",
            primary=colour["accent"],
            secondary=colour["chart2"],
            accent=colour["accent"],
            warning=colour["warn"],
            error=colour["bad"],
            success=colour["good"],
            foreground=colour["text"],
            background=screen,
            surface=bar,
            panel=bar,
            dark=self.kind != "light",
            ansi=self.kind == "ansi",
            variables={
                "block-cursor-background": cursor,
                "block-cursor-foreground": cursor_text,
                "border": colour["accent"],
                "border-blurred": colour["track"],
                "scrollbar": colour["track"],
                "scrollbar-hover": colour["muted"],
                "scrollbar-active": colour["accent"],
                "scrollbar-background": screen,
                "scrollbar-background-hover": screen,
                "scrollbar-background-active": screen,
                "scrollbar-corner-color": screen,
                "input-selection-background": cursor,
                "text-muted": colour["muted"],
                # Textual's style sheets use these two in themes of the terminal's own colours.
                "ansi-background": "ansi_default",
                "ansi-foreground": "ansi_default",
            },
        )


def parse_theme(path: Path) -> StyledTheme:
    """Read one theme.

    Raises:
        Refused: as `read_theme`, or a style that Rich does not understand.
    """
    theme = read_theme(path)
    for table, given in (("roles", theme.roles), ("grounds", theme.backgrounds)):
        for name, value in given.items():
            try:
                Style.parse(value)
            except StyleSyntaxError as error:
                raise Refused(f"the theme {path} has no valid style for {table}.{name}: {error}.") from error
    return StyledTheme(theme.name, theme.kind, theme.roles, theme.backgrounds)


def load_theme(name: str | None, environment: Mapping[str, str] = os.environ) -> StyledTheme:
    """The theme of that name, as `find_theme` finds it.

    Raises:
        Refused: there is no such theme, or it is not valid.
    """
    return parse_theme(find_theme(name, environment))


def _background_style(value: str) -> Style:
    style = Style.parse(value)
    # Theme files have the plain name of the colour, without "on".
    return Style(bgcolor=style.color, reverse=style.reverse, underline=style.underline, bold=style.bold)


def _textual_colour(style: Style, *, back: bool = False) -> str:
    colour = style.bgcolor if back else style.color
    if colour is None or colour.is_default:
        return "ansi_default"
    return colour.triplet.hex if colour.triplet else f"ansi_{colour.name}"
