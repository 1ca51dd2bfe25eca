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

from llmval_runners.load_test.rate_posterior import STOPPING, Posterior
from llmval_runners.load_test.rate_trial import (
    BISECT,
    BRACKET,
    CONFIRM,
    FAILS,
    HOLDS,
    INVALID,
    REPEAT,
    UPPER,
    NextTrial,
    SearchConfig,
    Trial,
)

GROWTH = 2.0
CONFIRMATIONS = 4  # most attempts to end a search at the limit of its trials with one that holds
FAR = 10  # trials after which a wide interval is also tested far above the median
SIDE, NEAR = 0.15, 1.3  # quantile of the trials beside the median; an interval with a lower ratio is near the goal
UNEXPECTED = 0.3  # a trial that fails is repeated if the highest rate was above it with at least this probability
MOST_DISTURBED = 0.2  # share of trials; on a host with more, the interval was right too rarely in simulations
SAME_RATE = 0.002  # relative: closer rates are one rate

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
        return max((rate for rate, held, failed, _ in self.rates() if held > failed), default=None)

    @property
    def lowest_not_held_qps(self) -> float | None:
        """The lowest rate above the held one at which at least as many trials failed as held."""
        held = self.held_qps or 0.0
        return min((rate for rate, hold, fail, bad in self.rates() if rate > held and fail + bad >= hold), default=None)

    @property
    def disturbed(self) -> float:
        """The expected share of trials that a disturbance of the host failed."""
        return self._posterior.disturbed()

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
            quiet = self.disturbed <= MOST_DISTURBED
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
        return min((rate for rate, held, failed, bad in self.rates() if bad >= 2 and not held + failed), default=None)

    def rates(self) -> list[tuple[float, int, int, int]]:
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
