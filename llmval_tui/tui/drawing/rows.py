"""Rows of text as the panes build them: spans, each with a role, on a background. Plain data, no Rich or Textual."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from llmval_tui.terminal.cell_width import cell_len, set_cell_size

Span = tuple[str, str]  # text, role


@dataclass(frozen=True, slots=True)
class Row:
    """One row: spans from left to right on a background, which also fills the rest of the width."""

    spans: tuple[Span, ...] = ()
    background: str = "screen"
    target: str | None = field(default=None)  # the widget's name for the row, for clicks and the cursor

    @property
    def plain(self) -> str:
        return "".join(text for text, _ in self.spans)


def row(*spans: Span, background: str = "screen", target: str | None = None) -> Row:
    return Row(tuple(span for span in spans if span[0]), background, target)


def fit_spans(spans: Sequence[Span], width: int) -> list[Span]:
    """The spans cut or filled to exactly `width` cells; the last span is the filling, which may be empty."""
    found: list[Span] = []
    room = width
    for text, role in spans:
        length = cell_len(text)
        if length > room:
            text, length = set_cell_size(text, room), room
        found.append((text, role))
        room -= length
        if room <= 0:
            break
    return [*found, (" " * room, "text")]


def whole_spans(spans: Sequence[Span], width: int) -> list[Span]:
    """The first spans, as many as fit in `width` cells without a cut."""
    found: list[Span] = []
    room = width
    for text, role in spans:
        room -= cell_len(text)
        if room < 0:
            break
        found.append((text, role))
    return found


def fit_rows(rows: Sequence[Row], height: int, ascii_only: bool) -> list[Row]:
    """Exactly `height` rows, cut or filled with empty ones; in ASCII with `ascii_only`."""
    shown = list(rows)[:height]
    if ascii_only:
        shown = [Row(tuple((to_ascii(t), role) for t, role in r.spans), r.background, r.target) for r in shown]
    return shown + [Row()] * (height - len(shown))


_PLAIN = str.maketrans("×°…“”‘’–—·→≤≥−", "x ~\"\"''--|><>-")


@lru_cache(maxsize=4096)
def to_ascii(text: str) -> str:
    """The text in ASCII with the same width: similar signs where they exist, else question marks."""
    if text.isascii():
        return text
    replaced = text.translate(_PLAIN)
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in replaced)
