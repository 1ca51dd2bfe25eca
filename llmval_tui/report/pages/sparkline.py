"""A line of a few values, as small as a word; the words beside it say the same."""

from collections.abc import Sequence

WIDTH, HEIGHT, PAD = 72, 16, 2.5


def sparkline(values: Sequence[float]) -> str:
    """The values from left to right, the newest with a dot; nothing for fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (WIDTH - 2 * PAD) / (len(values) - 1)
    points = [
        (PAD + at * step, HEIGHT - PAD - (HEIGHT - 2 * PAD) * ((value - low) / span if high > low else 0.5))
        for at, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<polyline points="{line}" fill="none" stroke="currentColor"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="currentColor"/></svg>'
    )
