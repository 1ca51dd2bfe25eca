"""The metrics. s = intended arrival, d = dispatch, f = first token, e = last token, n = output tokens.

TTFT = f−d, TTFT_sched = f−s, E2E = e−d, E2E_sched = e−s, TPOT = (E2E−TTFT)/(n−1) for n ≥ 2, ITL = all gaps between
tokens, pooled. TTFT, TPOT and ITL are as vLLM's benchmark defines them; the _sched forms start at the schedule, so that
a late generator cannot hide queueing (coordinated omission). Latency limits are checked against the _sched forms.
"""

import math
import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

from llmval_runners.load_test.sent_request import SentRequest

MIN_ACHIEVED = 0.95
MAX_DELAY_P99_MS = 500.0
MAX_TTFT_SLOPE = 0.1  # seconds per second of load; at 0.1 the engine serves 91 % of the load
LEAST_REQUESTS = 8  # for a trend: two in each quarter of the requests
LIVE_WINDOW_S = 5.0


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Linear interpolation between closest ranks (NumPy's default). None without values, which need not be sorted."""
    return _of_sorted(sorted(values), percent)


def _of_sorted(ordered: Sequence[float], percent: float) -> float | None:
    if not ordered:
        return None
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    if place == low or ordered[low] == ordered[high]:  # also where a value is infinite: a request that failed
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def ttft(request: SentRequest) -> float:
    """Seconds from dispatch to the first token."""
    return request.token_times[0] - request.dispatch_s


def tpot(request: SentRequest) -> float | None:
    """Mean seconds per token after the first; None for a single token, or if all came at one time."""
    count, times = request.received_tokens or 0, request.token_times
    return (times[-1] - times[0]) / (count - 1) if count >= 2 and len(times) >= 2 else None


def e2e(request: SentRequest) -> float:
    """Seconds from dispatch to the last token."""
    return request.token_times[-1] - request.dispatch_s


def gaps(request: SentRequest) -> list[float]:
    """Seconds between tokens."""
    times = request.token_times
    return [later - earlier for earlier, later in pairwise(times)]


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits for each request in milliseconds; None: no limit. TTFT and E2E count from the intended arrival."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None

    @property
    def stated(self) -> bool:
        return any(limit is not None for limit in (self.ttft_ms, self.tpot_ms, self.e2e_ms))

    def met(self, request: SentRequest) -> bool:
        """Whether a finished request keeps every limit. A single token has no TPOT, so it keeps that limit."""
        late = request.dispatch_s - request.intended_s
        measured = (
            (late + ttft(request), self.ttft_ms),
            (tpot(request), self.tpot_ms),
            (late + e2e(request), self.e2e_ms),
        )
        return all(limit is None or value is None or value * 1e3 <= limit for value, limit in measured)


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per second: offered by the schedule, achieved by the generator, completed by the engine."""

    offered_qps: float | None
    achieved_qps: float | None
    completed_qps: float | None
    goodput_qps: float | None

    @classmethod
    def of(
        cls,
        sent: Sequence[SentRequest],
        planned: int,
        last_intended_s: float,
        duration_s: float,
        slo: Slo,
        due: int | None = None,
    ) -> "Rates":
        """Offered = (N−1)/last scheduled time (MLPerf LoadGen). Achieved = N/send span. The send span is the time from
        the first to the last dispatch plus one mean gap of the schedule: N arrivals have N gaps, so a punctual
        generator achieves exactly the offered rate.

        Completed and goodput are per second of the window, `duration_s`: at least the N gaps of the schedule, until the
        last completion, and, if a request did not finish, until the wait for it ended. So completed is never above
        offered.

        `due`: the arrivals due until a window ended early, and all rates are then per second of that time. A window
        that never opened has no rates.
        """
        if duration_s <= 0:
            return cls(None, None, None, None)
        if due is not None:
            done = [request for request in sent if request.done]
            good = sum(map(slo.met, done)) / duration_s if slo.stated else None
            return cls(due / duration_s, len(sent) / duration_s, len(done) / duration_s, good)
        offered = (planned - 1) / last_intended_s if planned > 1 else None
        achieved = None
        if offered and len(sent) > 1:
            achieved = len(sent) / (sent[-1].dispatch_s - sent[0].dispatch_s + 1 / offered)
        done = [request for request in sent if request.done]
        good = sum(map(slo.met, done)) / duration_s if slo.stated else None
        return cls(offered, achieved, len(done) / duration_s, good)


def sum_of(parts: Sequence[Rates]) -> Rates:
    """The rates of several replicas together; None where one of them has none."""

    def add(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    rows = zip(*(astuple(part) for part in parts), strict=True)
    return Rates(*(add(list(values)) for values in rows))


def invalid_reasons(sent: Sequence[SentRequest], planned: int, rates: Rates) -> list[str]:
    """The reasons why the measurement does not count; empty if it counts."""
    reasons = generator_reasons(sent, planned, rates)
    if not any(request.done for request in sent):
        reasons.insert(int(len(sent) < planned), "no request completed")
    return reasons


def generator_reasons(sent: Sequence[SentRequest], planned: int, rates: Rates) -> list[str]:
    """The reasons why the generator missed its plan, so that the figures describe it and not the engine."""
    reasons = []
    if len(sent) < planned:
        reasons.append(f"only {len(sent)} of {planned} requests were sent")
    if rates.offered_qps and rates.achieved_qps and rates.achieved_qps < MIN_ACHIEVED * rates.offered_qps:
        reasons.append(
            f"the generator sent {rates.achieved_qps:.2f} requests/s of {rates.offered_qps:.2f} offered, "
            f"under {MIN_ACHIEVED:.0%}"
        )
    late = percentile([request.dispatch_s - request.intended_s for request in sent], 99)
    if late is not None and late * 1e3 > MAX_DELAY_P99_MS:
        reasons.append(
            f"the generator was late: p99 schedule delay {late * 1e3:.0f} ms, over {MAX_DELAY_P99_MS:.0f} ms"
        )
    return reasons


def ttft_slope(sent: Sequence[SentRequest], ended_s: float = 0.0) -> float | None:
    """The growth of TTFT_sched in seconds per second of load; None for fewer than 8 requests.

    If an engine serves only the share r of the load, its queue grows. A request that arrives at t then has a time to
    first token of about t · (1 − r) / r, so a slope of 0.1 means that the engine serves 91 % of the load. The slope is
    computed from the medians of the first and the last quarter of the arrivals.

    A request without a first token has waited at least until the end of the window, `ended_s`: that is its wait here.
    Such a wait is shorter the later a request came, so where most of the first quarter has no answer either, the
    medians fall although the queue grows. With unanswered requests the slope is therefore at least (1 − r) / r with
    the r until the last first token: (answered / that time) / offered rate. A request that a server failed before the
    window ended did not wait, and is left out.
    """
    waited = [request for request in sent if request.token_times or request.failed_s is None]
    ordered = sorted(waited, key=lambda request: request.intended_s)
    quarter = len(ordered) // 4
    if quarter < 2:
        return None
    first, last = ordered[:quarter], ordered[-quarter:]
    early, late = (statistics.median(request.intended_s for request in part) for part in (first, last))
    if late <= early:
        return 0.0
    waits = [
        statistics.median(
            (request.token_times[0] if request.token_times else max(ended_s, request.intended_s)) - request.intended_s
            for request in part
        )
        for part in (first, last)
    ]
    slope = (waits[1] - waits[0]) / (late - early)
    answers = [request.token_times[0] for request in ordered if request.token_times]
    if not answers or len(answers) == len(ordered):
        return slope
    offered = (len(ordered) - 1) / (ordered[-1].intended_s - ordered[0].intended_s)
    return max(slope, offered * (max(answers) - ordered[0].intended_s) / len(answers) - 1)


def summary(values: Sequence[float], name: str) -> dict[str, float | None]:
    """vLLM's statistics in ms from values in seconds: mean, median, std and percentiles. Without values all are None.

    A load test has millions of gaps, and an operator who ends it early waits for its record. So the values are sorted
    once, and `statistics.pstdev` is avoided: it computes with fractions.
    """
    ms = sorted(value * 1e3 for value in values)
    mean = statistics.fmean(ms) if ms else None
    out = {
        f"mean_{name}_ms": mean,
        f"median_{name}_ms": _of_sorted(ms, 50),
        f"std_{name}_ms": math.sqrt(math.fsum((value - mean) ** 2 for value in ms) / len(ms))
        if mean is not None
        else None,
    }
    return out | {f"p{percent}_{name}_ms": _of_sorted(ms, percent) for percent in (50, 90, 95, 99)}


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p90, p95, p99 and max in ms, from values in seconds. None without values."""
    ms = sorted(value * 1e3 for value in values)
    return {f"p{percent}_ms": _of_sorted(ms, percent) for percent in (50, 90, 95, 99)} | {
        "max_ms": ms[-1] if ms else None
    }


def peaks(sent: Sequence[SentRequest]) -> tuple[int | None, int]:
    """(most output tokens within one whole second, most requests in flight at once).

    The first is None if tokens came in chunks, because a chunk does not say how many tokens it had.
    """
    buckets: Counter[int] = Counter()
    changes: list[tuple[float, int]] = []
    for request in sent:
        buckets.update(map(int, request.token_times))
        changes.append((request.dispatch_s, 1))
        if request.done:
            changes.append((request.token_times[-1], -1))
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    in_chunks = any(request.received_tokens not in (None, len(request.token_times)) for request in sent)
    return None if in_chunks else max(buckets.values(), default=0), most


class LiveMetrics:
    """Metrics of the last five seconds, for the display. The result's figures are computed from the records instead."""

    def __init__(self, schedule: list[float]) -> None:
        self._schedule = schedule
        self._due = 0
        self._sent = 0
        self._tokens: deque[tuple[float, int]] = deque()
        self._first: deque[tuple[float, float, float]] = deque()
        self._ended: deque[tuple[float, float | None]] = deque()

    def tokens(self, now: float, count: int) -> None:
        self._tokens.append((now, count))

    def first_token(self, now: float, request: SentRequest) -> None:
        self._first.append((now, now - request.dispatch_s, now - request.intended_s))

    def ended(self, now: float, request: SentRequest) -> None:
        self._ended.append((now, tpot(request)))

    def snapshot(self, now: float, sent: Sequence[SentRequest]) -> dict[str, float | None]:
        """Rates and percentiles of the last five seconds, or since the start if that is less."""
        span = min(now, LIVE_WINDOW_S)
        since = now - span
        for entries in (self._tokens, self._first, self._ended):
            while entries and entries[0][0] < since:
                entries.popleft()
        while self._due < len(self._schedule) and self._schedule[self._due] < since:
            self._due += 1
        while self._sent < len(sent) and sent[self._sent].dispatch_s < since:
            self._sent += 1
        due = sum(1 for time in self._schedule[self._due :] if time <= now) if span else 0
        first = [wait * 1e3 for _, wait, _ in self._first]
        each = [value * 1e3 for _, value in self._ended if value is not None]
        return {
            "offered_qps": due / span if span else None,
            "achieved_qps": (len(sent) - self._sent) / span if span else None,
            "completed_qps": len(self._ended) / span if span else None,
            "output_tokens_per_s": sum(count for _, count in self._tokens) / span if span else None,
            "ttft_p50_ms": percentile(first, 50),
            "ttft_p99_ms": percentile(first, 99),
            "ttft_sched_p99_ms": percentile([wait * 1e3 for _, _, wait in self._first], 99),
            "tpot_p50_ms": percentile(each, 50),
            "tpot_p99_ms": percentile(each, 99),
        }
