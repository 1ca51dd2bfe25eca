"""A row of bars, one a run: ordinary runs over their own range, so that one bad run does not flatten the rest."""

from collections.abc import Sequence

from llmval_tui.actions.headline import ordinary_range
from llmval_tui.terminal.glyphs import Glyphs

NO_FIGURE = "·"
_ASCII = {"▲": "^", "▼": "v", NO_FIGURE: "."}


def trend(values: Sequence[float | None], width: int, glyphs: Glyphs) -> str:
    """The newest values, one a cell: a bar within the ordinary range, `▲` or `▼` outside it, `·` without a value."""
    return "".join(sign for sign, _ in trend_signs(values[-width:] if width > 0 else (), glyphs))


def trend_signs(values: Sequence[float | None], glyphs: Glyphs) -> list[tuple[str, bool]]:
    """One sign for each value, and whether it is outside the ordinary range."""
    span = ordinary_range(values)
    steps = glyphs.ramp[1:]  # the first one is zero
    found: list[tuple[str, bool]] = []
    for value in values:
        if value is None or span is None:
            sign, outside = NO_FIGURE, False
        elif value < span[0] or value > span[1]:
            sign, outside = ("▼" if value < span[0] else "▲"), True
        elif span[0] == span[1]:
            sign, outside = steps[len(steps) // 2], False
        else:
            share = (value - span[0]) / (span[1] - span[0])
            sign, outside = steps[round(share * (len(steps) - 1))], False
        found.append((_ASCII.get(sign, sign) if glyphs.ascii else sign, outside))
    return found
