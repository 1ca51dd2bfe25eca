"""A figure of a report as text."""


def figure(value: float | None) -> str:
    """A number with four significant digits and grouped thousands; "not available" for None."""
    if value is None:
        return "not available"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
