"""The record of one request of a load test, from any load generator, and percentiles of such records.

Definitions: s = intended arrival, d = dispatch, f = first token, e = last token, n = output tokens; all in seconds from
the start of the window. TTFT = f−d, TTFT_sched = f−s, E2E_sched = e−s; TPOT = (e−f)/(n−1) for n ≥ 2, as in vLLM.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """A request that was sent; times in seconds."""

    intended_s: float
    dispatch_s: float
    first_s: float | None
    last_s: float | None
    output_tokens: int
    error: str | None
    failed_s: float | None = None  # when it failed, if that was before the window ended
    replica: int = 0  # the replica that served it; times of different replicas are on different clocks

    @property
    def done(self) -> bool:
        return self.error is None and self.last_s is not None and self.first_s is not None

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.dispatch_s

    @property
    def ttft_sched_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.intended_s

    @property
    def e2e_sched_s(self) -> float | None:
        return None if self.last_s is None else self.last_s - self.intended_s

    @property
    def tpot_s(self) -> float | None:
        if self.first_s is None or self.last_s is None or self.output_tokens < 2 or self.last_s == self.first_s:
            return None  # all at one time: a server sent the whole answer as one chunk
        return (self.last_s - self.first_s) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Growth:
    """How the time to first token, from the intended arrival, grew over a run."""

    early_s: float  # median of the first quarter of the arrivals
    late_s: float  # median of the last quarter
    slope: float  # seconds per second of load

    @property
    def words(self) -> str:
        """The growth in the unit of its bound, and the medians behind it."""
        quarters = f"median {self.early_s * 1e3:,.0f} ms in the first quarter, {self.late_s * 1e3:,.0f} ms in the last"
        return f"TTFT {self.slope:+.2f} s per second of load: {quarters}"


def ttft_growth(sent: Sequence[Record], ended_s: float | None = None) -> Growth | None:
    """The growth over the requests; None if fewer than eight show no trend.

    A request without a first token has waited until the window ended, at `ended_s`. Without these requests, a server
    that answers only the first ones would seem to keep up. Where `ended_s` is unknown, they are left out, and so is a
    request that the server failed before: it did not wait.

    If a server takes only the share r of the load, the queue grows, and the time to first token of a request that
    arrives at time t is about t · (1 − r) / r. The slope is computed from the medians of the first and the last quarter
    of the arrivals, which are three quarters of the window apart.

    The wait of an unanswered request is shorter the later it came, so where most of the first quarter has no answer
    either, the medians fall although the queue grows. With unanswered requests the slope is therefore at least
    (1 − r) / r with the r until the last first token: (answered / that time) / offered rate.
    """

    def wait(record: Record) -> float:
        if record.ttft_sched_s is not None:
            return record.ttft_sched_s
        return max((ended_s or 0.0) - record.intended_s, 0.0)

    known = [
        record
        for record in sent
        if record.ttft_sched_s is not None or (ended_s is not None and record.failed_s is None)
    ]
    records = sorted(known, key=lambda record: record.intended_s)
    quarter = len(records) // 4
    if quarter < 2:
        return None
    first, last = records[:quarter], records[-quarter:]
    start, end = (statistics.median(record.intended_s for record in part) for part in (first, last))
    early, late = (statistics.median(map(wait, part)) for part in (first, last))
    if end <= start:
        return Growth(early, late, 0.0)
    slope = (late - early) / (end - start)
    answers = [record.first_s for record in records if record.first_s is not None]
    if answers and len(answers) < len(records):
        offered = (len(records) - 1) / (records[-1].intended_s - records[0].intended_s)
        slope = max(slope, offered * (max(answers) - records[0].intended_s) / len(answers) - 1)
    return Growth(early, late, slope)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """A percentile of ascending values, interpolated linearly between closest ranks (NumPy's default)."""
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    if position == low or ordered[low] == ordered[high]:  # also where a value is infinite: a request that failed
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def percentile_ms(seconds: Sequence[float | None], percent: float) -> float | None:
    """A percentile in ms of the values that are not None; None if there are none."""
    ordered = sorted(value for value in seconds if value is not None)
    return 1e3 * percentile(ordered, percent) if ordered else None
