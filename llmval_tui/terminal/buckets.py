"""A series of any length in a fixed number of buckets: the whole run stays visible, and the memory stays flat."""

import math
from array import array
from typing import NamedTuple

NARROWEST_S = 0.5
MOST_BUCKETS = 1024
MOST_DIVISIONS = 4  # into spans that are kept: those of the charts that show a series at the same time
_Data = tuple[float, "array[float]", "array[float]", "array[float]", "array[int]"]


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
        start_s: where the first bucket begins; times before it count as it.

    One thread may add values while others read: a reader sees all arrays before or after a merge, never between.
    """

    __slots__ = ("_corrections", "_data", "_kept", "_most", "_whole", "start_s")

    def __init__(self, width_s: float = NARROWEST_S, most: int = MOST_BUCKETS, start_s: float = 0.0) -> None:
        if most < 2 or most % 2 or not width_s > 0:
            raise ValueError("buckets need a width over 0 s and an even number of at least 2")
        self._most = most
        self.start_s = start_s
        # Width, lowest and highest (+inf and -inf in an empty bucket), sums, counts. Replaced as a whole by a merge.
        self._data: _Data = (width_s, array("d"), array("d"), array("d"), array("L"))
        self._whole: Bucket | None = None
        self._corrections = 0  # values that came into a bucket before the newest one
        self._kept: dict[tuple[float, float, float, int], list[Bucket | None]] = {}  # closed spans, see `spans`

    @property
    def width_s(self) -> float:
        """Seconds of a bucket, as often doubled as was necessary."""
        return self._data[0]

    def __len__(self) -> int:
        """The buckets up to the newest one with a value."""
        return len(self._data[4])

    def add(self, at_s: float, value: float | None) -> None:
        """Add a value, `at_s` seconds after the start. A value that is None or not finite is not measured: it leaves
        a gap. A time before the start counts as the start."""
        if value is None or not math.isfinite(value) or not math.isfinite(at_s):
            return
        at_s = max(0.0, at_s - self.start_s)
        while (index := int(at_s / self.width_s)) >= self._most:
            self._halve()
        _, lowest, highest, totals, counts = self._data
        if (missing := index + 1 - len(counts)) > 0:
            lowest.extend([math.inf] * missing)
            highest.extend([-math.inf] * missing)
            totals.extend([0.0] * missing)
            counts.extend([0] * missing)  # the last one: a reader looks no further than the counts
        self._corrections += index + 1 < len(counts)
        lowest[index] = min(lowest[index], value)
        highest[index] = max(highest[index], value)
        totals[index] += value
        counts[index] += 1
        known = self._whole
        self._whole = Bucket(
            value if known is None else min(known.lowest, value),
            value if known is None else max(known.highest, value),
            value + (known.total if known is not None else 0.0),
            1 + (known.samples if known is not None else 0),
        )

    def _halve(self) -> None:
        """Merge the buckets two and two."""
        width_s, lowest, highest, totals, counts = self._data
        lowest, highest, totals, counts = lowest[:], highest[:], totals[:], counts[:]
        if len(counts) % 2:
            lowest.append(math.inf)
            highest.append(-math.inf)
            totals.append(0.0)
            counts.append(0)
        self._data = (
            width_s * 2,
            array("d", map(min, lowest[::2], lowest[1::2])),
            array("d", map(max, highest[::2], highest[1::2])),
            array("d", map(float.__add__, totals[::2], totals[1::2])),
            array("L", map(int.__add__, counts[::2], counts[1::2])),
        )

    @property
    def end_s(self) -> float:
        """The end of the newest bucket with a value; `start_s` without one."""
        data = self._data
        return self.start_s + len(data[4]) * data[0]

    def between(self, start_s: float, end_s: float) -> Bucket | None:
        """All values of the buckets whose middle is in `start_s` ≤ middle < `end_s`; None if they are empty.

        So each bucket is in exactly one of several adjacent spans, whatever their width.
        """
        width_s, lowest, highest, totals, counts = self._data
        first = max(0, math.ceil((start_s - self.start_s) / width_s - 0.5))
        last = min(len(counts), math.ceil((end_s - self.start_s) / width_s - 0.5))
        if first >= last:
            return None
        if last - first == 1:
            count = counts[first]
            return Bucket(lowest[first], highest[first], totals[first], count) if count else None
        if not (count := sum(counts[first:last])):
            return None
        return Bucket(min(lowest[first:last]), max(highest[first:last]), sum(totals[first:last]), count)

    def spans(self, start_s: float, span_s: float, count: int) -> list[Bucket | None]:
        """The values of `count` adjacent spans of `span_s` seconds from `start_s` on, as `between` gives them.

        A chart asks for the same spans each second, and only the newest ones change: the others are kept.
        """
        width_s, counts = self.width_s, len(self)
        key = start_s, span_s, width_s, self._corrections
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MOST_DIVISIONS:
                self._kept.clear()
            kept = self._kept[key] = []
        found = [self.between(start_s + i * span_s, start_s + (i + 1) * span_s) for i in range(len(kept), count)]
        # A span is closed if it ends before the newest bucket; one less, because the ends are not exact numbers.
        closed = int(((counts - 1) * width_s + self.start_s - start_s) // span_s) - 1
        shown = [*kept[:count], *found]
        kept.extend(shown[len(kept) : max(0, closed)])
        return shown

    def whole(self) -> Bucket | None:
        """All values together; None without a value."""
        return self._whole
