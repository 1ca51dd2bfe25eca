"""Axis ticks at round numbers, and their labels."""

import math

_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At least two round numbers (1, 2 or 5 times a power of ten) that enclose `low` to `high`."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):  # the two ends are equal for an axis
        high = low + max(abs(low), 1.0)
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """A tick with the decimals that the step between ticks needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
    return f"{value:,.{decimals}f}"


def time_ticks(end_s: float, most: int = 9) -> list[float]:
    """Round times from 0 to at most `end_s`, in seconds."""
    step = next((step for step in _TIME_STEPS if end_s / step <= most), 86400.0 * math.ceil(end_s / 86400 / most))
    return [number * step for number in range(math.floor(end_s / step + 1e-9) + 1)]


def time_label(seconds: float, end_s: float) -> str:
    """A time on an axis that ends at `end_s`: seconds, m:ss or h:mm:ss, one form for the whole axis."""
    if end_s < 60:
        return f"{seconds:g}"
    whole = round(seconds)
    if end_s < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
