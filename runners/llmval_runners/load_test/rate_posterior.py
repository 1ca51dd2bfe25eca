"""What the trials of a search say together: a probability for each candidate of the highest rate that holds.

One trial is evidence and not proof: close to the highest rate its outcome varies with the seed, and on a noisy host a
stall fails a trial at any rate. So a trial at rate q holds with the probability

    LUCK + (1 − d − LUCK) · Φ(ln(r / q) / s)

for the highest rate r, which is the rate at which half of the undisturbed trials hold; the width s, over which holding
turns into failing; and the share d of the trials that a disturbance of the host fails. Neither s nor d is known, so all
three are estimated together, each from a prior, by Bayes' rule over a grid. This is the way in which thresholds with
lapses are measured elsewhere (Watson and Pelli 1983, "QUEST"; Kontsevich and Tyler 1999).

The runner and the dashboard's judge both have this module, because neither imports the other; a test compares them.
"""

import math
from collections.abc import Sequence

LUCK = 0.01
WIDTHS = ((0.005, 0.2), (0.02, 0.35), (0.06, 0.3), (0.15, 0.15))  # s, prior
DISTURBED = ((0.01, 0.4), (0.1, 0.35), (0.35, 0.25))  # d, prior
BELOW, ABOVE = 2.0, 4.0  # candidates from the first rate / BELOW to the highest tried rate · ABOVE
STOPPING = 0.5
CELLS = 4  # per relative precision
NEGLIGIBLE = 1e-9  # the share of all probability below which a candidate at either end is dropped


class Posterior:
    """The candidates' probabilities after trials of (rate in requests/s, whether it held)."""

    def __init__(self, first_qps: float, precision: float) -> None:
        """`precision`: relative; it decides how close the candidates are."""
        self._step = math.log1p(precision) / CELLS
        self._low = math.log(first_qps / BELOW)
        self._trials: list[tuple[float, bool]] = []
        self._logs: list[float] = []  # ln of the candidates
        self._weights: list[list[float]] = []  # for each candidate: one for each pair of s and d
        self._grow(math.log(first_qps * ABOVE))

    def add(self, qps: float, held: bool) -> None:
        """Add the outcome of one trial."""
        self._trials.append((qps, held))
        if (top := math.log(qps * ABOVE)) > self._top + 1e-9:
            self._grow(top)
        else:
            self._multiply(qps, held)

    def quantile(self, share: float) -> float:
        """The rate (requests/s) below which `share` of the probability lies."""
        mass = [math.fsum(weights) for weights in self._weights]
        wanted, seen = share * math.fsum(mass), 0.0
        for log, one in zip(self._logs, mass, strict=True):
            if one and seen + one >= wanted:
                return math.exp(log + self._step * ((wanted - seen) / one - 0.5))
            seen += one
        return math.exp(self._logs[-1] + self._step / 2)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The central interval for this confidence.

        A search stops because its interval is narrow, and that happens more often where chance has made it so, so the
        interval leaves out only `STOPPING` of the error. (`benchmarks/rate_search.py` measures how often it is right.)
        """
        out = STOPPING * (1 - confidence) / 2
        return self.quantile(out), self.quantile(1 - out)

    def above(self, qps: float) -> float:
        """The probability that the highest rate is above this one."""
        edge, mass = math.log(qps), [math.fsum(weights) for weights in self._weights]
        shares = [min(max((log - edge) / self._step + 0.5, 0.0), 1.0) for log in self._logs]
        return math.fsum(one * part for one, part in zip(mass, shares, strict=True)) / math.fsum(mass)

    def disturbed(self) -> float:
        """The expected share of trials that a disturbance fails."""
        shares = [share for _ in WIDTHS for share, _ in DISTURBED]
        sums = [math.fsum(weights[index] for weights in self._weights) for index in range(len(shares))]
        return math.fsum(share * one for share, one in zip(shares, sums, strict=True)) / math.fsum(sums)

    def _grow(self, top: float) -> None:
        """Begin again with candidates up to ln `top`: a prior that is equal for equal ratios of rates."""
        self._top = top
        count = max(1, math.ceil((top - self._low) / self._step))
        prior = [width * share for _, width in WIDTHS for _, share in DISTURBED]
        self._logs = [self._low + self._step * (index + 0.5) for index in range(count)]
        self._weights = [list(prior) for _ in range(count)]
        for qps, held in self._trials:
            self._multiply(qps, held)

    def _multiply(self, qps: float, held: bool) -> None:
        log = math.log(qps)
        for place, weights in zip(self._logs, self._weights, strict=True):
            index = 0
            for width, _ in WIDTHS:
                capable = _phi((place - log) / width)
                for share, _ in DISTURBED:
                    holds = LUCK + (1 - share - LUCK) * capable
                    weights[index] *= holds if held else 1 - holds
                    index += 1
        mass = [math.fsum(weights) for weights in self._weights]
        least = NEGLIGIBLE * math.fsum(mass)
        first = next(index for index, one in enumerate(mass) if one > least)
        last = next(index for index in range(len(mass) - 1, -1, -1) if mass[index] > least)
        self._logs = self._logs[first : last + 1]
        scale = 1 / max(mass)
        self._weights = [[one * scale for one in weights] for weights in self._weights[first : last + 1]]


def _phi(z: float) -> float:
    """The standard normal distribution function."""
    if z > 6:
        return 1.0
    return 0.0 if z < -6 else 0.5 * (1 + math.erf(z * math.sqrt(0.5)))


def posterior_of(first_qps: float, precision: float, trials: Sequence[tuple[float, bool]]) -> Posterior:
    """The posterior after all these trials."""
    made = Posterior(first_qps, precision)
    for qps, held in trials:
        made.add(qps, held)
    return made
