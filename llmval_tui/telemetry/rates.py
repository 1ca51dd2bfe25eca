"""Rates from counters."""


class CounterRate:
    """The rate of a counter that only grows, between two readings of it.

    A counter that fell was reset or has wrapped, and by how much it had grown is not known: the rate is None once, and
    right again from the next reading on. Two readings at the same instant have no rate between them either.
    """

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None

    def update(self, value: float, now_ns: int) -> float | None:
        """Units a second since the previous call; None at the first, after a reset, and where no time has passed."""
        last, self._last = self._last, (value, now_ns)
        if last is None:
            return None
        grown, elapsed_ns = value - last[0], now_ns - last[1]
        if elapsed_ns <= 0:
            self._last = last  # the earlier reading stays the base of the next rate
            return None
        return grown / elapsed_ns * 1e9 if grown >= 0 else None
