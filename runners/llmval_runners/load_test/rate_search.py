"""The search for the highest rate that holds the service level: the order of the trials, and their joint outcome.

Rates double from the first one until a trial fails or the cap is reached. A trial that fails is repeated at once with
another seed. Then each trial goes where it tells most: to the median of the candidates that the trials so far leave
(`rate_posterior.py`). The search has found the rate if the interval that holds it with `confidence` is no wider than
`precision`. Before it ends it tests both ends again, later and with other seeds: a trial at the upper end must fail and
one at the lower end must hold. If one does not, the interval widens and the search goes on. So a stall of the host can
lengthen a search, and cannot cap it for good.

The rate found is the lower end of the interval before the last trial, in which it held. With `confidence` it is at most
`precision` too low, or at most `widest` if the trials did not give more.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.metrics import LEAST_REQUESTS, Rates, Slo
from llmval_runners.load_test.rate_posterior import STOPPING, Posterior
from llmval_runners.load_test.result import Measured
from llmval_runners.load_test.verdict import named
from llmval_runners.process.events import EventLog

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
    host: dict[str, float | None] | None = None  # `HostNoise.read` of the trial
    replicas: list[dict[str, Any]] = field(default_factory=list)  # of several: the figures that decided

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
    *,
    number: int,
    purpose: str,
    seed: int,
    target_qps: float,
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
        number=number,
        purpose=purpose,
        seed=seed,
        target_qps=target_qps,
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
    if slope is not None and slope > metrics.MAX_TTFT_SLOPE:
        reasons.append(f"the queue grew: TTFT rose by {slope:.2f} s a second of load, over {metrics.MAX_TTFT_SLOPE:g}")
    if not reasons and slope is None:
        reasons.append(f"fewer than {LEAST_REQUESTS} requests completed, too few to see whether the queue grew")
    return (FAILS, "; ".join(reasons)) if reasons else (HOLDS, "")


GROWTH = 2.0
CONFIRMATIONS = 4  # most attempts to end a search at the limit of its trials with one that holds
FAR = 10  # trials after which a wide interval is also tested far above the median
SIDE, NEAR = 0.15, 1.3  # quantile of the trials beside the median; an interval with a lower ratio is near the goal
UNEXPECTED = 0.3  # a trial that fails is repeated if the highest rate was above it with at least this probability
MOST_DISTURBED = 0.2  # share of trials; on a host with more, the interval was right too rarely in simulations
SAME_RATE = 0.002  # relative: closer rates are one rate
BUSY_PERCENT = 10.0  # of the host's CPU for other processes; more is named as noise
STOLEN_PERCENT = 1.0

FOUND, IMPRECISE, CAP, GENERATOR, LOWEST_FAILS, UNCONFIRMED, INTERRUPTED = (
    "found",
    "imprecise",
    "cap_holds",
    "generator_limited",
    "lowest_fails",
    "unconfirmed",
    "interrupted",
)
_SEEDS_APART = 1000  # between the trials, so that searches with the seeds 0, 1, 2 … share no load


@dataclass(frozen=True, slots=True)
class NextTrial:
    """The next trial: its rate in requests/s, its purpose (`PURPOSES`), and its seed."""

    number: int
    qps: float
    purpose: str
    seed: int


BRACKET, REPEAT, BISECT, UPPER, CONFIRM = PURPOSES = ("bracket", "repeat", "bisect", "upper", "confirm")


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


class Search:
    """Plans the trials. The caller runs each trial from `next` and calls `record`, until `next` returns None."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.trials: list[Trial] = []
        self.outcome = INTERRUPTED  # until the search ends
        self.max_qps: float | None = None  # the rate found, which held in the last trial
        self._posterior = Posterior(config.first_qps, config.precision)
        self._upper_failed = False  # the upper end failed again since the interval became narrow
        self._unexpected = False  # the last trial was not expected to fail
        self._planned: NextTrial | None = None

    def next(self) -> NextTrial | None:
        """The next trial; None once the outcome is known."""
        if self.outcome != INTERRUPTED:
            return None
        if self._planned is None:
            qps, purpose = self._choose()
            number = len(self.trials) + 1
            seed = self.config.seed + _SEEDS_APART * (number - 1)
            self._planned = NextTrial(number, self._known(qps), purpose, seed)
        return self._planned

    def record(self, trial: Trial) -> None:
        """Record the trial that was planned last."""
        self._planned = None
        self._unexpected = trial.verdict == INVALID or self._posterior.above(trial.target_qps) >= UNEXPECTED
        self.trials.append(trial)
        if trial.verdict != INVALID:
            self._posterior.add(trial.target_qps, trial.verdict == HOLDS)
        if not self._narrow():
            self._upper_failed = False
        elif trial.purpose == UPPER and trial.verdict == FAILS:
            self._upper_failed = True
        self._decide(trial)

    @property
    def held_qps(self) -> float | None:
        """The highest rate at which more trials held than failed."""
        return max((rate for rate, held, failed, _ in self._rates() if held > failed), default=None)

    @property
    def lowest_not_held_qps(self) -> float | None:
        """The lowest rate above the held one at which at least as many trials failed as held."""
        held = self.held_qps or 0.0
        return min(
            (rate for rate, hold, fail, bad in self._rates() if rate > held and fail + bad >= hold), default=None
        )

    @property
    def interval(self) -> tuple[float, float] | None:
        """The rates between which the highest one lies with the configured confidence; None before an upper bound.

        The trial that confirms the rate found moves the lower end up, and the interval still holds that rate.
        """
        if not (self._any(FAILS) and self._any(HOLDS)):
            return None
        low, high = self._posterior.interval(self.config.confidence)
        return min(low, self.max_qps or low), high

    def _decide(self, trial: Trial) -> None:
        """Set the outcome if this trial ended the search."""
        config, held = self.config, trial.verdict == HOLDS
        if self._any(FAILS) and self._posterior.above(config.first_qps) < STOPPING * (1 - config.confidence) / 2:
            self.outcome = LOWEST_FAILS
        elif (ceiling := self._generator_ceiling()) is not None and ceiling <= config.first_qps * (1 + SAME_RATE):
            self.outcome = GENERATOR
        elif trial.purpose == CONFIRM and held:
            self._confirmed(trial.target_qps, ceiling)
        elif len(self.trials) >= config.max_trials + CONFIRMATIONS - 1:
            self.outcome = UNCONFIRMED

    def _confirmed(self, qps: float, ceiling: float | None) -> None:
        config = self.config
        above = self._posterior.above(qps) >= config.confidence
        if config.max_qps is not None and qps >= config.max_qps * (1 - SAME_RATE) and above:
            self.outcome = CAP
        elif ceiling is not None and ceiling <= qps * (1 + config.precision) and above:
            self.outcome = GENERATOR
        elif self._narrow() and self._upper_failed:
            self.outcome = FOUND
        elif len(self.trials) >= config.max_trials:
            quiet = self._posterior.disturbed() <= MOST_DISTURBED
            self.outcome = FOUND if quiet and self._narrower(config.widest) else IMPRECISE
        if self.outcome != INTERRUPTED:  # not before: the rate found widens the interval
            self.max_qps = qps

    def _choose(self) -> tuple[float, str]:
        config, last = self.config, self.trials[-1] if self.trials else None
        if last is None:
            return config.first_qps, BRACKET
        if last.verdict != HOLDS and self._unexpected and self._count(last.target_qps) == 1:
            return last.target_qps, REPEAT
        ceiling, held = self._generator_ceiling(), self.held_qps
        limit = min(ceiling or math.inf, config.max_qps or math.inf)
        if len(self.trials) >= config.max_trials - 1:
            return min(self._posterior.interval(config.confidence)[0], limit), CONFIRM
        if ceiling is not None and held is not None and ceiling <= held * (1 + config.precision):
            return held, CONFIRM
        if not self._any(FAILS):
            if held is not None and config.max_qps is not None and held >= config.max_qps * (1 - SAME_RATE):
                return config.max_qps, CONFIRM
            if ceiling is not None:
                return (math.sqrt(held * ceiling), BISECT) if held is not None else (config.first_qps, REPEAT)
            return min((held or config.first_qps / GROWTH) * GROWTH, limit), BRACKET
        low, high = self._posterior.interval(config.confidence)
        if self._narrow():
            return (low, CONFIRM) if self._upper_failed or high >= limit else (high, UPPER)
        # Far from the goal the median halves the interval. Close to it, trials at the median are tosses of a coin, and
        # those beside it, on both sides in turn, tell where the interval ends.
        side = len(self.trials) % 2
        if high <= low * NEAR:
            rate = self._posterior.quantile((SIDE, 1 - SIDE)[side])
        else:
            rate = self._posterior.quantile(0.5)
            # On a noisy host a much higher rate may hold too, as far as the trials beside the median can tell.
            if side and len(self.trials) >= FAR and (far := math.sqrt(rate * high)) < limit:
                rate = far
        if config.max_qps is not None and rate >= config.max_qps:
            return config.max_qps, CONFIRM
        if ceiling is not None and rate >= ceiling:
            return (math.sqrt(held * ceiling) if held is not None else config.first_qps), BISECT
        return max(rate, config.first_qps), BISECT

    def _narrow(self) -> bool:
        return self._narrower(self.config.precision)

    def _narrower(self, width: float) -> bool:
        interval = self.interval
        return interval is not None and interval[1] <= interval[0] * (1 + width) * (1 + 1e-9)

    def _generator_ceiling(self) -> float | None:
        """The lowest rate that the generator missed twice and never offered."""
        return min((rate for rate, held, failed, bad in self._rates() if bad >= 2 and not held + failed), default=None)

    def _rates(self) -> list[tuple[float, int, int, int]]:
        """(rate, trials that held, failed, were invalid), by rate."""
        found: dict[float, list[str]] = {}
        for trial in self.trials:
            found.setdefault(trial.target_qps, []).append(trial.verdict)
        return [(rate, v.count(HOLDS), v.count(FAILS), v.count(INVALID)) for rate, v in sorted(found.items())]

    def _any(self, verdict: str) -> bool:
        return any(trial.verdict == verdict for trial in self.trials)

    def _count(self, qps: float) -> int:
        return sum(trial.target_qps == qps for trial in self.trials)

    def _known(self, qps: float) -> float:
        """A rate that was tried before and is practically the same, or else this one."""
        near = [trial.target_qps for trial in self.trials if abs(trial.target_qps / qps - 1) <= SAME_RATE]
        return near[0] if near else qps

    def as_json(self) -> dict[str, Any]:
        """The search in the form of the result."""
        config, interval = self.config, self.interval
        return {
            "outcome": self.outcome,
            "sentence": self.sentence(),
            "max_qps": self.max_qps,
            "interval_qps": None if interval is None else list(interval),
            "confidence": config.confidence,
            "disturbed_share": self._posterior.disturbed(),
            "noise": self.noise(),
            "lowest_not_held_qps": self.lowest_not_held_qps,
            "first_qps": config.first_qps,
            "cap_qps": config.max_qps,
            "precision": config.precision,
            "widest": config.widest,
            "max_trials": config.max_trials,
            "min_goodput": config.min_goodput,
            "trial_duration_s": config.trial_s,
            "trials": [trial.as_json() for trial in self.trials],
        }

    def noise(self) -> str:
        """What disturbed the trials: outcomes that contradict the interval, and the load of the host meanwhile."""
        interval = self.interval
        low, high = interval if interval is not None else (self.held_qps or 0.0, math.inf)
        below = [trial for trial in self.trials if trial.verdict != HOLDS and trial.target_qps < low * (1 - SAME_RATE)]
        over = [trial for trial in self.trials if trial.verdict == HOLDS and trial.target_qps > high * (1 + SAME_RATE)]
        count = len(self.trials)
        parts = []
        if below:
            parts.append(f"{len(below)} of {count} trials failed at rates that hold")
        if over:
            parts.append(f"{len(over)} of {count} held above the interval")
        if mixed := [rate for rate, held, failed, _ in self._rates() if held and failed]:
            span = f"{mixed[0]:.4g}" + (f" to {mixed[-1]:.4g}" if len(mixed) > 1 else "")
            parts.append(f"at {span} requests/s some trials held and others failed")
        readings = [trial.host for trial in self.trials if trial.host is not None]
        for key, least, words in (
            ("other_cpu_percent", BUSY_PERCENT, "of its CPU served other processes"),
            ("stolen_percent", STOLEN_PERCENT, "of its CPU was taken by the hypervisor"),
        ):
            values = [value for reading in readings if (value := reading[key]) is not None]
            if values and max(values) >= least:
                parts.append(f"up to {max(values):.0f} % {words}")
        return "; ".join(parts) or "quiet: no trial contradicts the others"

    def _surely(self) -> str:
        """The highest rate below which no trial failed."""
        failed = min((rate for rate, _, failed, _ in self._rates() if failed), default=math.inf)
        best = max((rate for rate, held, _, _ in self._rates() if held and rate < failed), default=None)
        return f"; all trials up to {best:.4g} requests/s held" if best is not None else ""

    def sentence(self) -> str:
        """The outcome in one sentence."""
        bad = next(
            (t for t in reversed(self.trials) if t.verdict != HOLDS and t.target_qps > (self.max_qps or 0)), None
        )
        above = f"{bad.target_qps:.4g} requests/s does not hold: {bad.reason}" if bad else ""
        best = f"the highest rate that holds the service level is {self.max_qps or 0:.4g} requests/s"
        confidence, interval = f"{self.config.confidence:.0%}", self.interval
        between = "" if interval is None else f"between {interval[0]:.4g} and {interval[1]:.4g} requests/s"
        match self.outcome:
            case "found":
                return f"{best}; with {confidence} confidence it lies {between}; {above}"
            case "imprecise":
                return (
                    f"{self.max_qps or 0:.4g} requests/s held, and with {confidence} confidence the highest rate lies "
                    f"{between}: after {len(self.trials)} trials that is wider than the {self.config.widest:.0%} "
                    f"allowed ({self.noise()}): pass a longer --trial-duration or more --max-trials, or quieten the "
                    "host"
                )
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
                    f"no rate was confirmed in {len(self.trials)} trials{self._surely()} ({self.noise()}): pass a "
                    "longer --trial-duration or more --max-trials, or quieten the host"
                )
        best_so_far = f"{self.held_qps:.4g} requests/s held" if self.held_qps is not None else "no rate had held"
        return f"the search ended early, after {len(self.trials)} trials; {best_so_far} by then"


def report_trial(events: EventLog, search: Search, trial: Trial) -> None:
    """Tell a trial to the dashboard and the terminal."""
    events.metrics(
        {
            "trial_qps": trial.target_qps,
            "trial_goodput_percent": 100 * trial.goodput_share,
            "trial_ttft_sched_p99_ms": trial.ttft_sched["p99_ms"],
            "highest_held_qps": search.held_qps,
        }
    )
    events.say(
        f"trial {trial.number} ({trial.purpose}): {trial.target_qps:.4g} requests/s, "
        f"{trial.goodput_share:.1%} kept the service level: {trial.verdict}"
        + (f" ({trial.reason})" if trial.reason else "")
    )
