"""A series of any length in bounded memory: neighbouring samples are merged, their minimum and maximum kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_BUCKETS = 600  # buckets a series ends with at most; the plots are about 800 px wide


@dataclass(slots=True)
class Bucket:
    """Samples next to one another: when, how low, how high, and whether the series is broken at one of its ends."""

    start_s: float
    end_s: float
    low: float
    high: float
    total: float
    count: int = 1
    broken_before: bool = False
    broken_after: bool = False  # something is missing inside the bucket: the line stops behind it

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2

    def absorb(self, later: "Bucket") -> None:
        self.broken_after = self.broken_after or later.broken_before or later.broken_after
        self.end_s = later.end_s
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)
        self.total += later.total
        self.count += later.count


@dataclass(slots=True)
class Summary:
    """Least, mean and greatest of the samples that have a value; None of nothing."""

    count: int = 0
    missing: int = 0  # samples whose value could not be had
    low: float | None = None
    high: float | None = None
    total: float = 0.0

    def add(self, value: float | None) -> None:
        if value is None:
            self.missing += 1
            return
        self.count += 1
        self.total += value
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass(slots=True)
class DownsampledSeries:
    """A series as buckets. Add samples in the order of their times; a value of None breaks the line.

    Args:
        gap_s: two samples farther apart than this are not joined.
        most: buckets are merged in pairs of time whenever there are twice as many.
    """

    gap_s: float = 5.0
    most: int = MAX_BUCKETS
    buckets: list[Bucket] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    width_s: float = 0.0  # of a bucket; 0: every sample stands for itself
    _break: bool = False

    def add(self, time_s: float, value: float | None) -> None:
        self.summary.add(value)
        if value is None:
            self._break = True
            return
        gap = bool(self.buckets) and time_s - self.buckets[-1].end_s > self.gap_s
        self._append(Bucket(time_s, time_s, value, value, value, broken_before=self._break or gap))
        self._break = False
        if len(self.buckets) >= 2 * self.most:
            self._coarsen()

    def _append(self, bucket: Bucket) -> None:
        last = self.buckets[-1] if self.buckets else None
        if last is not None and self.width_s and self._slot(last) == self._slot(bucket):
            last.absorb(bucket)
        else:
            self.buckets.append(bucket)

    def _slot(self, bucket: Bucket) -> int:
        return int(bucket.start_s // self.width_s)

    def _coarsen(self) -> None:
        span = self.buckets[-1].end_s - self.buckets[0].start_s
        old, self.buckets = self.buckets, []
        self.width_s = max(2 * self.width_s, span / self.most)
        for bucket in old:
            self._append(bucket)

    def segments(self) -> Iterator[list[Bucket]]:
        """The buckets that may be joined by a line, run by run."""
        current: list[Bucket] = []
        for bucket in self.buckets:
            if current and (bucket.broken_before or current[-1].broken_after):
                yield current
                current = []
            current.append(bucket)
        if current:
            yield current
