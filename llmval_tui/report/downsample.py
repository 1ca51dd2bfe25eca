"""A series of any length in bounded memory: merges neighbouring samples and keeps their minimum and maximum."""

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_BUCKETS = 600  # per series; the plots are about 800 px wide


@dataclass(slots=True)
class Bucket:
    """Merged neighbouring samples. The line of a plot does not join buckets across a break."""

    start_s: float
    end_s: float
    low: float
    high: float
    total: float
    count: int = 1
    broken_before: bool = False
    broken_after: bool = False  # a value is missing inside the bucket, so the line stops after it

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
    """Minimum, mean and maximum of the samples with a value; None if there are none."""

    count: int = 0
    missing: int = 0  # samples without a value
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
    """A series as buckets. Samples must be added in the order of time; a value of None breaks the line.

    Args:
        gap_s: a longer time between two samples breaks the line, in seconds.
        max_buckets: neighbouring buckets are merged as soon as there are twice as many.
    """

    gap_s: float = 5.0
    max_buckets: int = MAX_BUCKETS
    buckets: list[Bucket] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    width_s: float = 0.0  # seconds per bucket; 0 while every sample has its own
    _break: bool = False

    def add(self, time_s: float, value: float | None) -> None:
        self.summary.add(value)
        if value is None:
            self._break = True
            return
        gap = bool(self.buckets) and time_s - self.buckets[-1].end_s > self.gap_s
        self._append(Bucket(time_s, time_s, value, value, value, broken_before=self._break or gap))
        self._break = False
        if len(self.buckets) >= 2 * self.max_buckets:
            self._coarsen()

    def _append(self, bucket: Bucket) -> None:
        last = self.buckets[-1] if self.buckets else None
        if last is not None and self.width_s and self._slot(last) == self._slot(bucket):
            last.absorb(bucket)
        else:
            self.buckets.append(bucket)

    def _slot(self, bucket: Bucket) -> int:
        return int(bucket.start_s // self.width_s)

    def limit(self, max_buckets: int) -> None:
        """Merge neighbouring buckets until there are at most about this many; minimum and maximum are kept."""
        self.max_buckets = max_buckets
        while len(self.buckets) > max_buckets:
            before = len(self.buckets)
            self._coarsen()
            if len(self.buckets) >= before:
                return  # all samples are at one time

    def _coarsen(self) -> None:
        span = self.buckets[-1].end_s - self.buckets[0].start_s
        old, self.buckets = self.buckets, []
        self.width_s = max(2 * self.width_s, span / self.max_buckets)
        for bucket in old:
            self._append(bucket)

    def segments(self) -> Iterator[list[Bucket]]:
        """Groups of buckets between breaks; each group is one line."""
        current: list[Bucket] = []
        for bucket in self.buckets:
            if current and (bucket.broken_before or current[-1].broken_after):
                yield current
                current = []
            current.append(bucket)
        if current:
            yield current
