"""Sends fewer bytes to the terminal: only changed cells, and only the differences between styles.

Textual 8 sends each changed row from the left edge of its widget, and both colours for each piece of text. Here rows
are cropped on both sides (a TODO in Textual's own code), and a style is sent as the difference from the one before.
With forty moving charts this is several times less.
"""

from functools import lru_cache

from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style

from llmval_tui.tui.textual_private import ChopsUpdate, Compositor

_ATTRIBUTES = (
    ("bold", "1"),
    ("dim", "2"),
    ("italic", "3"),
    ("underline", "4"),
    ("blink", "5"),
    ("reverse", "7"),
    ("strike", "9"),
)
# By the name that a Rich console has for its colours. Any other name: no colours and no attributes.
COLOR_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}
RESET = "\x1b[0m"


class DiffCompositor(Compositor):
    """Textual's compositor with smaller partial updates."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else DiffUpdate(update.chops, update.spans, update.chop_ends)


class DiffUpdate(ChopsUpdate):
    """The changed spans of the screen only."""

    def render_segments(self, console: Console) -> str:
        out: list[str] = []
        system = COLOR_SYSTEMS.get(console.color_system or "")
        state = ("", "", "")
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is None or start >= stop:
                    continue
                out.append(f"\x1b[{y + 1};{start + 1}H")
                for text, style, control in strip.crop(start - x, stop - x):
                    if control or not text:
                        continue
                    wanted = ("", "", "") if style is None or system is None else sgr_codes(style, system)
                    if wanted != state:
                        out.append(transition(state, wanted))
                        state = wanted
                    out.append(text)
        if state != ("", "", ""):
            out.append(RESET)
        return "".join(out)


@lru_cache(maxsize=4096)
def sgr_codes(style: Style, system: ColorSystem) -> tuple[str, str, str]:
    """A style as its SGR parameters: attributes, foreground, background (ECMA-48, 8.3.117)."""
    attributes = ";".join(code for name, code in _ATTRIBUTES if getattr(style, name))
    return attributes, _colour(style.color, system, True), _colour(style.bgcolor, system, False)


def _colour(colour: Color | None, system: ColorSystem, foreground: bool) -> str:
    if colour is None:
        return ""
    return ";".join(colour.downgrade(system).get_ansi_codes(foreground=foreground))


@lru_cache(maxsize=16384)
def transition(before: tuple[str, str, str], after: tuple[str, str, str]) -> str:
    """The shortest sequence that turns one style into another."""
    if before[0] != after[0] or any(old and not new for old, new in zip(before[1:], after[1:], strict=True)):
        # An attribute or a colour is removed: reset first.
        rest = ";".join(part for part in after if part)
        return f"\x1b[0;{rest}m" if rest else RESET
    return f"\x1b[{';'.join(new for old, new in zip(before, after, strict=True) if new != old)}m"
