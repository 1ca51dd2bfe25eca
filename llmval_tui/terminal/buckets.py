"""A series of any length in a fixed number of buckets: the whole run stays visible, and the memory stays flat."""

import math
from array import array
from typing import NamedTuple

NARROWEST_S = 0.5
MOST_BUCKETS = 1024


class Bucket(NamedTuple):
    """The values of a span of time."""

    lowest: float
    highest: float
    total: float  # their sum
    samples: int  # how many, at least 1

    @property
    def mean(self) -> float:
        return self.total / self.samples


class Buckets:
    """The values of one quantity since a start, in buckets of equal width.

    A bucket keeps the lowest and the highest value, the sum and the count, so nothing short is lost. If a value comes
    after the last bucket that there is room for, the buckets are merged two and two, and each is twice as wide.

    Args:
        width_s: seconds of a bucket, before it is doubled.
        most: buckets that are kept, an even number.
    """

    __slots__ = ("_counts", "_highest", "_lowest", "_most", "_totals", "width_s")

    def __init__(self, width_s: float = NARROWEST_S, most: int = MOST_BUCKETS) -> None:
        if most < 2 or most % 2 or not width_s > 0:
            raise ValueError("buckets need a width over 0 s and an even number of at least 2")
        self.width_s = width_s
        self._most = most
        self._lowest, self._highest = array("d"), array("d")  # of an empty bucket: +inf and -inf
        self._totals, self._counts = array("d"), array("L")

    def __len__(self) -> int:
        """The buckets up to the newest one with a value."""
        return len(self._counts)

    def add(self, at_s: float, value: float | None) -> None:
        """Add a value, `at_s` seconds after the start. A value that is None or not finite is not measured: it leaves
        a gap. A time before the start counts as the start."""
        if value is None or not math.isfinite(value) or not math.isfinite(at_s):
            return
        at_s = max(0.0, at_s)
        while (index := int(at_s / self.width_s)) >= self._most:
            self._halve()
        if (missing := index + 1 - len(self._counts)) > 0:
            self._lowest.extend([math.inf] * missing)
            self._highest.extend([-math.inf] * missing)
            self._totals.extend([0.0] * missing)
            self._counts.extend([0] * missing)
        self._lowest[index] = min(self._lowest[index], value)
        self._highest[index] = max(self._highest[index], value)
        self._totals[index] += value
        self._counts[index] += 1

    def _halve(self) -> None:
        """Merge the buckets two and two."""
        for values, empty in ((self._lowest, math.inf), (self._highest, -math.inf), (self._totals, 0.0)):
            if len(values) % 2:
                values.append(empty)
        if len(self._counts) % 2:
            self._counts.append(0)
        self._lowest = array("d", map(min, self._lowest[::2], self._lowest[1::2]))
        self._highest = array("d", map(max, self._highest[::2], self._highest[1::2]))
        self._totals = array("d", map(float.__add__, self._totals[::2], self._totals[1::2]))
        self._counts = array("L", map(int.__add__, self._counts[::2], self._counts[1::2]))
        self.width_s *= 2

    @property
    def end_s(self) -> float:
        """The end of the newest bucket with a value, in seconds after the start; 0 without one."""
        return len(self._counts) * self.width_s

    def between(self, start_s: float, end_s: float) -> Bucket | None:
        """All values of the buckets whose middle is in `start_s` ≤ middle < `end_s`; None if they are empty.

        So each bucket is in exactly one of several adjacent spans, whatever their width.
        """
        first = max(0, math.ceil(start_s / self.width_s - 0.5))
        last = min(len(self._counts), math.ceil(end_s / self.width_s - 0.5))
        if first >= last:
            return None
        if last - first == 1:
            count = self._counts[first]
            return Bucket(self._lowest[first], self._highest[first], self._totals[first], count) if count else None
        if not (count := sum(self._counts[first:last])):
            return None
        return Bucket(
            min(self._lowest[first:last]), max(self._highest[first:last]), sum(self._totals[first:last]), count
        )

    def copy(self) -> "Buckets":
        """The same values, for another thread."""
        other = Buckets(self.width_s, self._most)
        other._lowest, other._highest = self._lowest[:], self._highest[:]
        other._totals, other._counts = self._totals[:], self._counts[:]
        return other

    def whole(self) -> Bucket | None:
        """All values together; None without a value."""
        return self.between(0.0, self.end_s + self.width_s)
