"""The contrast of a theme's texts and graphics, as WCAG 2.2 defines it."""

from rich.style import Style

from llmval_tui.tui.drawing.theme_files import BACKGROUNDS, ROLES
from llmval_tui.tui.drawing.theme_styles import StyledTheme

# Roles that are not text. Everything else must reach 4.5:1 (WCAG 2.2, success criterion 1.4.3).
_DECORATION = frozenset({"track"})
_MINIMUM_CONTRAST = 4.5
# Areas of charts are graphics: 3:1 on the screen, the only background that they have (WCAG 2.2, 1.4.11).
_GRAPHICS = frozenset({"fill", "gap"})
_GRAPHICS_CONTRAST = 3.0


def contrast_problems(theme: StyledTheme) -> list[str]:
    """A sentence for each text on a background with a contrast below 4.5:1, and for each graphic below 3:1.

    The contrast of the terminal's own colours is unknown. Such a theme may only use the terminal's own background
    or inverted rows.
    """
    if theme.kind == "ansi":
        return [
            f"{name} must be `default` or `reverse` in an ansi theme, not {value!r}"
            for name, value in theme.backgrounds.items()
            if not set(value.split()) <= {"default", "reverse", "underline", "bold"}
        ]
    found = []
    for role in (name for name in ROLES if name not in _DECORATION):
        least = _GRAPHICS_CONTRAST if role in _GRAPHICS else _MINIMUM_CONTRAST
        for background in BACKGROUNDS[:1] if role in _GRAPHICS else BACKGROUNDS:
            style = theme.style(role, background)
            ratio = contrast(_rgb(style), _rgb(style, back=True))
            if ratio < least:
                found.append(f"{role} on {background} has a contrast of {ratio:.2f}:1")
    return found


def contrast(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """Contrast ratio of two sRGB colours, 1 to 21, as WCAG 2.2 defines it (relative luminance)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(style: Style, *, back: bool = False) -> tuple[int, int, int]:
    colour = style.bgcolor if back else style.color
    assert colour is not None and colour.triplet is not None, "a dark or light theme needs its colours as #rrggbb"
    return colour.triplet.red, colour.triplet.green, colour.triplet.blue
