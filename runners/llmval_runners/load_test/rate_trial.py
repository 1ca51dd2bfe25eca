"""One trial of the search for the highest rate: what is planned, and what its window says."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.metrics import LEAST_REQUESTS, MAX_TTFT_SLOPE, Rates, Slo
from llmval_runners.load_test.result import Measured
from llmval_runners.load_test.verdict import named

HOLDS, FAILS, INVALID = "holds", "fails", "invalid"
# Seconds per second of load: half of what a window alone may have. The limits of a service level are often so loose, or
# the trials so short, that an overload ends before it breaks them; a rate found is then at most 5 % above capacity.
MAX_SLOPE = MAX_TTFT_SLOPE / 2
BRACKET, REPEAT, BISECT, UPPER, CONFIRM = ("bracket", "repeat", "bisect", "upper", "confirm")


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The settings of a search: rates in requests/s; `precision` is relative; `min_goodput` is a share, 0 to 1.

    `widest`: the relative width of an interval that is still enough after the last trial, at least `precision`.
    `confidence`: the probability with which the reported interval is to hold the highest rate.
    """

    first_qps: float
    max_qps: float | None
    precision: float
    widest: float
    min_goodput: float
    trial_s: float
    seed: int
    max_trials: int
    confidence: float


@dataclass(frozen=True, slots=True)
class NextTrial:
    """The next trial: its rate in requests/s, its purpose (`BRACKET` …), and its seed."""

    number: int
    qps: float
    purpose: str
    seed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. Rates in requests/s, percentiles in ms over completed requests, `goodput_share` over due requests."""

    number: int
    purpose: str
    seed: int
    target_qps: float
    offered_qps: float | None
    achieved_qps: float | None
    completed_qps: float | None
    goodput_qps: float | None
    goodput_share: float
    requests: int
    completed: int
    output_tokens_per_s: float
    ttft_slope: float | None
    schedule_delay: dict[str, float | None]
    ttft_sched: dict[str, float | None]
    tpot: dict[str, float | None]
    e2e_sched: dict[str, float | None]
    ended_s: float
    verdict: str
    reason: str
    host: dict[str, float | None] | None = None  # `HostNoise.read` of the trial
    replicas: list[dict[str, Any]] = field(default_factory=list)  # figures of each replica, if there are several

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        return found if self.replicas else {key: value for key, value in found.items() if key != "replicas"}


def allowed_misses(min_goodput: float, planned: int) -> int:
    """The most of `planned` requests that may miss the service level without a failure in `judge_trial`."""
    return planned - math.ceil(min_goodput * planned - 1e-9)  # 0.55 * 100 is a little over 55


def judge_trial(
    windows: Sequence[Measured],
    slo: Slo,
    min_goodput: float,
    planned: NextTrial,
    host: dict[str, float | None] | None = None,
) -> Trial:
    """The figures of a drained window, and its verdict; of several replicas, of their windows together.

    `invalid`: the generator was late, so it did not offer the rate. `fails`: the share of due requests that kept every
    limit is below `min_goodput`, or the queue grew. `holds`: neither, on each replica. The shares and slopes of several
    are those of the worst.
    """
    parts = [_judge_window(measured, slo, min_goodput) for measured in windows]
    order = (INVALID, FAILS, HOLDS)
    worst = min(order.index(part["verdict"]) for part in parts)
    bad = [part for part in parts if order.index(part["verdict"]) == worst]
    several = len(parts) > 1
    sent = [request for measured in windows for request in measured.sent]
    done = [request for request in sent if request.done]
    rates = metrics.sum_of([part.pop("rates") for part in parts])
    slopes = [part["ttft_slope"] for part in parts]
    return Trial(
        number=planned.number,
        purpose=planned.purpose,
        seed=planned.seed,
        target_qps=planned.qps,
        offered_qps=rates.offered_qps,
        achieved_qps=rates.achieved_qps,
        completed_qps=rates.completed_qps,
        goodput_qps=rates.goodput_qps,
        goodput_share=min(part["goodput_share"] for part in parts),
        requests=sum(len(measured.arrivals) for measured in windows),
        completed=len(done),
        output_tokens_per_s=sum(part.pop("output_tokens_per_s") for part in parts),
        ttft_slope=None if None in slopes else max(slopes),
        schedule_delay=metrics.percentiles([r.dispatch_s - r.intended_s for r in sent]),
        ttft_sched=metrics.percentiles([r.token_times[0] - r.intended_s for r in done]),
        tpot=metrics.percentiles([value for r in done if (value := metrics.tpot(r)) is not None]),
        e2e_sched=metrics.percentiles([r.token_times[-1] - r.intended_s for r in done]),
        ended_s=max(measured.duration_s for measured in windows),
        verdict=order[worst],
        reason=named([(part["replica"], part["reason"]) for part in bad if part["reason"]]),
        host=host,
        replicas=parts if several else [],
    )


def _judge_window(measured: Measured, slo: Slo, min_goodput: float) -> dict[str, Any]:
    sent, planned = measured.sent, len(measured.arrivals)
    done = [request for request in sent if request.done]
    duration = max(measured.duration_s, 1e-9)
    rates = Rates.of(sent, planned, measured.arrivals[-1].intended_s, duration, slo)
    good = sum(map(slo.met, done)) / planned
    slope = metrics.ttft_slope(sent, measured.duration_s)
    verdict, reason = _verdict(metrics.generator_reasons(sent, planned, rates), good, min_goodput, slope, measured)
    return {
        "replica": measured.name,
        "verdict": verdict,
        "reason": reason,
        "goodput_share": good,
        "ttft_slope": slope,
        "schedule_delay": metrics.percentiles([r.dispatch_s - r.intended_s for r in sent]),
        "offered_qps": rates.offered_qps,
        "achieved_qps": rates.achieved_qps,
        "output_tokens_per_s": sum(request.received_tokens or 0 for request in done) / duration,
        "rates": rates,
    }


def _verdict(
    generator: list[str], good: float, min_goodput: float, slope: float | None, measured: Measured
) -> tuple[str, str]:
    if generator:
        return INVALID, "; ".join(generator)
    reasons = []
    planned = len(measured.arrivals)
    if good < min_goodput:
        unfinished = sum(not request.done for request in measured.sent)
        left = f" ({unfinished} did not finish)" if unfinished else ""
        reasons.append(f"{good:.1%} of {planned} requests kept the service level, under {min_goodput:.1%}{left}")
    if slope is not None and slope > MAX_SLOPE:
        reasons.append(f"the queue grew: TTFT rose by {slope:.2f} s a second of load, over {MAX_SLOPE:g}")
    if not reasons and slope is None:
        reasons.append(f"fewer than {LEAST_REQUESTS} requests completed, too few to see whether the queue grew")
    return (FAILS, "; ".join(reasons)) if reasons else (HOLDS, "")
