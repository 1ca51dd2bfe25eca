"""Sparklines and bars as text, with a fixed range and two samples per cell, so that a new sample changes few cells.

The newest value is at the right end. Samples are paired by their number since the start and not by their position on
the screen, so that a drawn cell does not change, and the sparkline moves only with every second sample. In blocks, a
cell shows the higher of its two samples in eighths; in braille, both side by side in quarters.
"""

from collections.abc import Sequence

from llmval_tui.terminal.glyphs import Glyphs

# Dots of a braille cell from the bottom up, left and right column (Unicode 15, block U+2800).
_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)


def level(value: float, top: float, steps: int) -> int:
    """The value as a step from 0 to `steps`; above zero it is at least 1, because zero must look different."""
    if top <= 0 or value <= 0:
        return 0
    return max(1, min(steps, round(value / top * steps)))


def sparkline(values: Sequence[float | None], top: float, width: int, glyphs: Glyphs, first: int = 0) -> str:
    """One row of chart, `width` cells.

    Args:
        values: the samples, oldest first; None is drawn as a gap.
        top: the value at the upper end of the range; the lower end is 0.
        first: the number of `values[0]` since the start of the series, which fixes the pairs.
    """
    # The last cell is half empty when the number of samples since the start is odd.
    end = first + len(values)
    cells = []
    for cell in range((end + 1) // 2 - width, (end + 1) // 2):
        start = 2 * cell - first
        pair = [values[i] if 0 <= i < len(values) else None for i in (start, start + 1)]
        cells.append(_braille(pair, top, glyphs) if glyphs.braille else _block(pair, top, glyphs))
    return "".join(cells)


def _block(pair: Sequence[float | None], top: float, glyphs: Glyphs) -> str:
    known = [value for value in pair if value is not None]
    return glyphs.ramp[level(max(known), top, len(glyphs.ramp) - 1)] if known else glyphs.gap


def _braille(pair: Sequence[float | None], top: float, glyphs: Glyphs) -> str:
    known = [value for value in pair if value is not None]
    if not known:
        return glyphs.gap
    if max(known) <= 0:
        return glyphs.ramp[0]  # a measured zero
    dots = 0
    for value, column in zip(pair, (_LEFT, _RIGHT), strict=True):
        if value is not None:
            dots |= column[max(1, level(value, top, 4))]
    return chr(0x2800 + dots)


def tall_sparkline(
    values: Sequence[float | None], top: float, width: int, height: int, glyphs: Glyphs, first: int = 0
) -> list[str]:
    """A chart of `height` rows, the top one first; each row has an equal part of the range."""
    if height <= 1:
        return [sparkline(values, top, width, glyphs, first)]
    share = top / height
    found = []
    for number in range(height - 1, -1, -1):
        floor = number * share
        # Above the lowest row, nothing is drawn if the value ends below.
        part = [None if v is None or (number and v <= floor) else min(share, max(0.0, v - floor)) for v in values]
        found.append(sparkline(part, share, width, glyphs, first))
    return found


def bar(fraction: float | None, width: int, glyphs: Glyphs) -> tuple[str, str]:
    """The filled and the empty part of a bar of `width` cells; None gives an empty bar."""
    if fraction is None or width <= 0:
        return "", glyphs.bar_empty * max(0, width)
    cells = min(1.0, max(0.0, fraction)) * width
    filled = glyphs.bar_full * int(cells)
    if glyphs.bar_parts and len(filled) < width:
        part = int((cells - int(cells)) * 8)
        filled += glyphs.bar_parts[part - 1] if part else ""
    elif not glyphs.bar_parts:
        filled = glyphs.bar_full * round(cells)
    return filled, glyphs.bar_empty * (width - len(filled))


def nice_top(values: Sequence[float | None], least: float = 1.0) -> float:
    """The upper end of a range with all values: 1, 2 or 5 times a power of ten, so that it rarely changes."""
    peak = max((v for v in values if v is not None), default=0.0)
    wanted = max(peak, least)
    power = 1.0
    while power * 10 <= wanted:
        power *= 10
    while power > wanted:
        power /= 10
    return next((power * step for step in (1, 2, 5) if power * step >= wanted), power * 10)
