"""The search for the highest rate that holds the service level: the order of the trials, and their joint outcome.

Rates double from the first one until a trial does not hold or the cap is reached. Then the search bisects: it tries the
geometric mean of the highest rate that held and the lowest that did not, until the two are within `precision`. All
these trials draw the same lengths and gaps, so they differ only in their rate. The found rate is then tried again with
another seed. If it does not hold again, it held by luck: it becomes the upper bound, and the search goes on below it.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.metrics import LEAST_REQUESTS, Rates, Slo
from llmval_runners.load_test.result import Measured

HOLDS, FAILS, INVALID = "holds", "fails", "invalid"


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

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def allowed_misses(min_goodput: float, planned: int) -> int:
    """The most of `planned` requests that may miss the service level without a failure in `judge_trial`."""
    return planned - math.ceil(min_goodput * planned - 1e-9)  # 0.55 * 100 is a little over 55


def judge_trial(
    measured: Measured, slo: Slo, min_goodput: float, *, number: int, purpose: str, seed: int, target_qps: float
) -> Trial:
    """The figures of a drained window, and its verdict.

    `invalid`: the generator was late, so it did not offer the rate. `fails`: the share of due requests that kept every
    limit is below `min_goodput`, or the queue grew. `holds`: neither.
    """
    sent, planned = measured.sent, len(measured.arrivals)
    done = [request for request in sent if request.done]
    duration = max(measured.duration_s, 1e-9)
    rates = Rates.of(sent, planned, measured.arrivals[-1].intended_s, duration, slo)
    good = sum(map(slo.met, done)) / planned
    slope = metrics.ttft_slope(sent, measured.duration_s)
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
        output_tokens_per_s=sum(request.received_tokens or 0 for request in done) / duration,
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


GROWTH = 2.0
CONFIRMATIONS = 4  # most failed confirmations; each lowers the bound by about the precision

FOUND, CAP, GENERATOR, LOWEST_FAILS, UNCONFIRMED, INTERRUPTED = (
    "found",
    "cap_holds",
    "generator_limited",
    "lowest_fails",
    "unconfirmed",
    "interrupted",
)


@dataclass(frozen=True, slots=True)
class NextTrial:
    """The next trial: its rate in requests/s, its purpose (`bracket`, `bisect`, `confirm`), and its seed."""

    number: int
    qps: float
    purpose: str
    seed: int


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The settings of a search: rates in requests/s; `precision` is relative; `min_goodput` is a share, 0 to 1."""

    first_qps: float
    max_qps: float | None
    precision: float
    min_goodput: float
    trial_s: float
    seed: int


class Search:
    """Plans the trials. The caller runs each trial from `next` and calls `record`, until `next` returns None."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.trials: list[Trial] = []
        self.lower: float | None = None  # the highest rate that held, below all rates that did not
        self.upper: float | None = None  # the lowest rate that did not hold
        self.outcome = INTERRUPTED  # until the search ends
        self._held: list[float] = []
        self._confirmations = 0

    def next(self) -> NextTrial | None:
        """The next trial; None once the outcome is known."""
        if self.outcome != INTERRUPTED:
            return None
        qps, purpose = self._choose()
        seed = self.config.seed + (1 + self._confirmations if purpose == "confirm" else 0)
        return NextTrial(len(self.trials) + 1, qps, purpose, seed)

    def record(self, trial: Trial) -> None:
        """Record the trial that was planned last."""
        self.trials.append(trial)
        held = trial.verdict == HOLDS
        if trial.purpose == "confirm":
            self._confirmations += 1
            if held:
                self.outcome = self._confirmed()
                return
        if held:
            self._held.append(trial.target_qps)
        else:
            self.upper = trial.target_qps
            self._held = [qps for qps in self._held if qps < self.upper]
        self.lower = max(self._held, default=None)
        if self.lower is None:
            self.outcome = LOWEST_FAILS if trial.verdict == FAILS else GENERATOR
        elif self._confirmations >= CONFIRMATIONS:
            self.outcome = UNCONFIRMED

    @property
    def max_qps(self) -> float | None:
        """The highest rate that held twice; None if there is none."""
        last = self.trials[-1] if self.trials else None
        return last.target_qps if last and last.purpose == "confirm" and last.verdict == HOLDS else None

    def _choose(self) -> tuple[float, str]:
        config, lower, upper = self.config, self.lower, self.upper
        if lower is None:
            return config.first_qps, "bracket"
        if upper is not None:
            return (
                (math.sqrt(lower * upper), "bisect") if upper > lower * (1 + config.precision) else (lower, "confirm")
            )
        if config.max_qps is not None and lower >= config.max_qps:
            return lower, "confirm"
        return min(lower * GROWTH, config.max_qps or math.inf), "bracket"

    def _confirmed(self) -> str:
        if self.upper is None:
            return CAP
        bound = [trial.verdict for trial in self.trials if trial.target_qps == self.upper]
        return FOUND if FAILS in bound else GENERATOR

    def as_json(self) -> dict[str, Any]:
        """The search in the form of the result."""
        config = self.config
        return {
            "outcome": self.outcome,
            "sentence": self.sentence(),
            "max_qps": self.max_qps,
            "lowest_not_held_qps": self.upper,
            "first_qps": config.first_qps,
            "cap_qps": config.max_qps,
            "precision": config.precision,
            "min_goodput": config.min_goodput,
            "trial_duration_s": config.trial_s,
            "trials": [trial.as_json() for trial in self.trials],
        }

    def sentence(self) -> str:
        """The outcome in one sentence."""
        bound = next((t for t in reversed(self.trials) if t.target_qps == self.upper and t.verdict != HOLDS), None)
        above = f"{bound.target_qps:.4g} requests/s does not hold: {bound.reason}" if bound else ""
        best = f"the highest rate that holds the service level is {self.max_qps or 0:.4g} requests/s"
        match self.outcome:
            case "found":
                return f"{best}, confirmed with another seed; {above}"
            case "cap_holds":
                cap = f"even the cap of {self.max_qps or 0:.4g} requests/s holds"
                return f"{cap}, so no upper bound was found: raise --max-qps"
            case "generator_limited" if self.max_qps is not None:
                return f"{best} that this generator can offer; above it, the generator is the limit ({above})"
            case "generator_limited":
                return f"the generator was the limit at the lowest rate ({above}), so nothing is known about the node"
            case "lowest_fails":
                return f"even the lowest rate does not hold ({above}): pass a lower --target-qps"
            case "unconfirmed":
                return (
                    f"no rate held with {CONFIRMATIONS} other seeds in turn ({above}): pass a longer --trial-duration"
                )
        best_so_far = f"{self.lower:.4g} requests/s held" if self.lower is not None else "no rate had held"
        return f"the search ended early, after {len(self.trials)} trials; {best_so_far} by then"
