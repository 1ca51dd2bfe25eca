"""A theme's styles as what the terminal is told, without Rich: for the first frame, which comes before Rich does.

It must be what Textual then sends for the same cell. What cannot be told for sure raises `Unsure`: no first frame then.
"""

from collections.abc import Mapping
from colorsys import rgb_to_hls
from typing import Literal

from llmval_tui.tui.drawing.theme_files import ThemeFile

Colours = Literal["truecolor", "256", "16"]
_ATTRIBUTES = {"bold": "1", "dim": "2", "italic": "3", "underline": "4", "reverse": "7"}
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_STANDARD = {name: number for number, name in enumerate((*_NAMES, *(f"bright_{name}" for name in _NAMES)))}


class Unsure(Exception):
    """How Textual would draw it cannot be told without Textual."""


def colours(environment: Mapping[str, str]) -> Colours:
    """How many colours Textual will send in this environment.

    Raises:
        Unsure: it would send none, or a variable for developers may change what it does.
    """
    if any(name.startswith("TEXTUAL_") for name in environment):
        raise Unsure
    term = environment.get("TERM", "").strip().lower()
    if term in ("dumb", "unknown"):
        raise Unsure
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "truecolor"
    return "256" if term.rpartition("-")[2] in ("256color", "kitty") else "16"


class Ink:
    """What switches the terminal to each style of a theme."""

    def __init__(self, theme: ThemeFile, colours: Colours) -> None:
        """Raises:
        Unsure: the theme says something that only Rich understands.
        """
        self._colours = colours
        self._roles = {name: _parsed(value) for name, value in theme.roles.items()}
        self._grounds = {name: _parsed(value) for name, value in theme.grounds.items()}
        self._made: dict[tuple[str, str], str] = {}

    def style(self, role: str, ground: str) -> str:
        """The sequence for text of this role on this ground, whatever was before."""
        made = self._made.get((role, ground))
        if made is None:
            (own, colour), (under, back) = self._roles[role], self._grounds[ground]
            under &= {"bold", "underline", "reverse"}  # all that `Look.style` takes from a ground
            if "reverse" in under:
                own, colour = own & {"bold", "underline"}, None  # the row keeps the terminal's own pair
            parts = [code for name, code in _ATTRIBUTES.items() if name in own | under]
            parts += [self._code(one, base) for one, base in ((colour, 30), (back, 40)) if one is not None]
            made = self._made[role, ground] = f"\x1b[{';'.join(('0', *parts))}m"
        return made

    def _code(self, colour: str, base: int) -> str:
        if colour == "default":
            return str(base + 9)
        number = _STANDARD.get(colour)
        if number is None:
            rgb = (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
            if self._colours == "truecolor":
                return f"{base + 8};2;{rgb[0]};{rgb[1]};{rgb[2]}"
            if self._colours == "256":
                return f"{base + 8};5;{eight_bit(rgb)}"
            number = _nearest_standard(colour)
        return str(base + number if number < 8 else base + 52 + number)


def eight_bit(rgb: tuple[int, int, int]) -> int:
    """The colour of 256 that Rich takes for one of 16 million: of the greys, or of the cube of 6 × 6 × 6."""
    _, lightness, saturation = rgb_to_hls(*(part / 255 for part in rgb))
    if saturation < 0.15:
        grey = round(lightness * 25.0)
        return {0: 16, 25: 231}.get(grey, 231 + grey)
    red, green, blue = (round(part / 95 if part < 95 else 1 + (part - 95) / 40) for part in rgb)
    return 16 + 36 * red + 6 * green + blue


def _nearest_standard(colour: str) -> int:
    # Rich measures the distance to its own table of the sixteen; few terminals still need it.
    from rich.color import Color, ColorSystem

    number = Color.parse(colour).downgrade(ColorSystem.STANDARD).number
    assert number is not None
    return number


def _parsed(value: str) -> tuple[frozenset[str], str | None]:
    """A style's attributes and its colour: the part of Rich's grammar that themes are written in."""
    attributes, colour = set(), None
    for word in value.lower().split():
        if word in _ATTRIBUTES:
            attributes.add(word)
        elif word == "default" or word in _STANDARD or _is_hex(word):
            colour = word
        else:
            raise Unsure
    return frozenset(attributes), colour


def _is_hex(word: str) -> bool:
    return len(word) == 7 and word[0] == "#" and all(digit in "0123456789abcdef" for digit in word[1:])
