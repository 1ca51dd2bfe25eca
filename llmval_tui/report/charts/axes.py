"""Axes: ticks at round numbers, and numbers and times as they are written beside them."""

import math

_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from at most `low` to at least `high`, at least two."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):  # one value, as far as an axis can tell
        high = low + max(abs(low), 1.0)
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """A tick with as many decimals as the step between ticks needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
    return f"{value:,.{decimals}f}"


def time_ticks(end_s: float, most: int = 9) -> list[float]:
    """Round times from 0 to at most `end_s`."""
    step = next((step for step in _TIME_STEPS if end_s / step <= most), 86400.0 * math.ceil(end_s / 86400 / most))
    return [number * step for number in range(math.floor(end_s / step + 1e-9) + 1)]


def clock(seconds: float, end_s: float) -> str:
    """A time on an axis that ends at `end_s`: seconds, m:ss or h:mm:ss, the same form all along the axis."""
    if end_s < 60:
        return f"{seconds:g}"
    whole = round(seconds)
    if end_s < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.2f} h"
