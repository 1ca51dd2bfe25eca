"""One trial of the search for the highest rate: the figures of its window, and whether it held the service level."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.metrics import Rates, Slo
from llmval_runners.load_test.options import LEAST_REQUESTS
from llmval_runners.load_test.result import Measured

HOLDS, FAILS, INVALID = "holds", "fails", "invalid"


@dataclass(frozen=True, slots=True)
class Trial:
    """Rates in requests/s, percentiles in ms of the requests that completed, `goodput_share` of those that were due."""

    number: int
    purpose: str
    seed: int
    target_qps: float
    offered_qps: float | None
    achieved_qps: float | None
    completed_qps: float
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

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def allowed_misses(min_goodput: float, planned: int) -> int:
    """How many of `planned` requests may miss the service level without the trial failing by `judge_trial`."""
    return planned - math.ceil(min_goodput * planned - 1e-9)  # 0.55 * 100 is a little over 55


def judge_trial(
    measured: Measured, slo: Slo, min_goodput: float, *, number: int, purpose: str, seed: int, target_qps: float
) -> Trial:
    """The figures of a drained window, and its verdict.

    `invalid`: the generator was late, so that the rate was not offered. `fails`: fewer than `min_goodput` of the
    requests that were due kept every limit, or the queue grew. `holds`: neither.
    """
    sent, planned = measured.sent, len(measured.arrivals)
    done = [request for request in sent if request.done]
    duration = max(measured.duration_s, 1e-9)
    rates = Rates.of(sent, planned, measured.arrivals[-1].intended_s, duration, slo)
    good = sum(map(slo.met, done)) / planned
    slope = metrics.ttft_slope(done)
    verdict, reason = _verdict(metrics.generator_reasons(sent, planned, rates), good, min_goodput, slope, measured)
    return Trial(
        number=number,
        purpose=purpose,
        seed=seed,
        target_qps=target_qps,
        offered_qps=rates.offered_qps,
        achieved_qps=rates.achieved_qps,
        completed_qps=rates.completed_qps,
        goodput_qps=rates.goodput_qps,
        goodput_share=good,
        requests=planned,
        completed=len(done),
        output_tokens_per_s=sum(len(request.token_times) for request in done) / duration,
        ttft_slope=slope,
        schedule_delay=metrics.percentiles([r.dispatch_s - r.intended_s for r in sent]),
        ttft_sched=metrics.percentiles([r.token_times[0] - r.intended_s for r in done]),
        tpot=metrics.percentiles([value for r in done if (value := metrics.tpot(r)) is not None]),
        e2e_sched=metrics.percentiles([r.token_times[-1] - r.intended_s for r in done]),
        ended_s=measured.duration_s,
        verdict=verdict,
        reason=reason,
    )


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
    if slope is not None and slope > metrics.MAX_TTFT_SLOPE:
        reasons.append(f"the queue grew: TTFT rose by {slope:.2f} s a second of load, over {metrics.MAX_TTFT_SLOPE:g}")
    if not reasons and slope is None:
        reasons.append(f"fewer than {LEAST_REQUESTS} requests completed, too few to see whether the queue grew")
    return (FAILS, "; ".join(reasons)) if reasons else (HOLDS, "")
