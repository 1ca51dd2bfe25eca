"""Confidence intervals of the difference between two runs, by resampling the requests of each run.

Requests of one run are not independent: if one waits in a queue, its neighbours wait as well. Drawing them one by one
would make the interval too narrow. Blocks of neighbours are drawn instead: the circular block bootstrap (D. N. Politis,
J. P. Romano: A circular block-resampling procedure for stationary data, in: Exploring the Limits of Bootstrap, 1992).
The block length depends on how far the ranks of the latencies are correlated: D. N. Politis, H. White: Automatic
block-length selection for the dependent bootstrap, Econometric Reviews 23, 2004, with the correction by A. Patton,
D. N. Politis and H. White, ibid. 28, 2009; at least n^(1/3). The interval is the percentile interval of the
resampled differences (B. Efron, R. Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13).
"""

import math
import operator
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T", int, float)

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 20240
MIN_VALUES = 20  # fewer values do not show their spread
MIN_TAIL_VALUES = 200  # for a 99th percentile: two values lie beyond it
MIN_BLOCKS = 10  # fewer blocks differ too little from one another
METHOD = (
    f"circular block bootstrap over the requests in the order of their arrival, {RESAMPLES} resamples of each run, "
    f"blocks by Politis and White, seed {SEED}, percentile interval at {CONFIDENCE:.0%}"
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a difference."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def block_length(values: Sequence[float]) -> int:
    """The block length for a series in the order of measurement.

    Politis and White's rule for the circular block bootstrap: b = (2 G² / D)^(1/3) n^(1/3) with G = Σ λ(k/M) |k| R(k),
    D = 4/3 g², g = Σ λ(k/M) R(k), over the lags |k| ≤ M; λ is the flat-top window and M twice the lag beyond which the
    correlation stays small. At least ⌈n^(1/3)⌉ and at most min(3 √n, n/3), as in their papers.
    """
    count = len(values)
    mean = sum(values) / count
    centred = [value - mean for value in values]
    longest = max(1, math.ceil(min(3 * math.sqrt(count), count / 3)))
    least = min(longest, math.ceil(math.pow(count, 1 / 3) - 1e-9))
    variance = _covariance(centred, 0)
    if variance <= 0:
        return least
    bound = 2 * math.sqrt(math.log10(count) / count)
    quiet = max(5, math.ceil(math.sqrt(math.log10(count))))  # this many small values in a row end the correlation
    covariances = [variance]
    silent = 0
    for lag in range(1, longest + quiet):
        covariances.append(_covariance(centred, lag))
        silent = silent + 1 if abs(covariances[-1]) < bound * variance else 0
        if silent == quiet:
            break
    reach = 2 * max(1, len(covariances) - 1 - silent)
    covariances += [_covariance(centred, lag) for lag in range(len(covariances), min(reach, count - 1) + 1)]
    weighted = [(lag, _flat_top(lag / reach) * covariances[lag]) for lag in range(1, min(reach, count - 1) + 1)]
    spread = 2 * sum(lag * value for lag, value in weighted)
    level = variance + 2 * sum(value for _, value in weighted)
    if level <= 0:
        return least
    best = math.pow(2 * spread * spread * count / (4 / 3 * level * level), 1 / 3)
    return max(least, min(longest, math.ceil(best)))


def series_block_length(values: Sequence[float]) -> int:
    """`block_length` of the ranks of the values, so that a few very long requests do not hide the correlation."""
    return block_length(_ranks(values))


def _ranks(values: Sequence[float]) -> list[int]:
    """The position of each value in the sorted series; equal values share one position."""
    rank = {value: at for at, value in enumerate(sorted(values))}
    return [rank[value] for value in values]


def _covariance(centred: Sequence[float], lag: int) -> float:
    total: float = sum(map(operator.mul, centred, centred[lag:]))
    return total / len(centred)


def _flat_top(share: float) -> float:
    return 1.0 if share <= 0.5 else max(0.0, 2 * (1 - share))


def resampled_percentiles(
    values: Sequence[float],
    percents: Sequence[float],
    rng: random.Random,
    length: int | None = None,
    resamples: int = RESAMPLES,
) -> list[list[float]]:
    """For each of `percents`, that percentile of every resample, interpolated linearly between closest ranks.

    The percentiles come from the same resamples. The same `rng` and `length` draw the same positions of another series.

    Args:
        values: in the order of measurement.
        length: of the blocks; None for `series_block_length`.
    """
    ordered = sorted(values)
    ranks = _ranks(values)  # integers sort faster than floats
    length = length or block_length(ranks)
    positions = [_position(len(values), percent) for percent in percents]
    found: list[list[float]] = [[] for _ in percents]
    for _ in range(resamples):
        drawn = sorted(_draw(ranks, length, rng))
        for out, (low, high, share) in zip(found, positions, strict=True):
            one, other = ordered[drawn[low]], ordered[drawn[high]]
            out.append(one + (other - one) * share)
    return found


def resampled_means(
    values: Sequence[float], rng: random.Random, length: int | None = None, resamples: int = RESAMPLES
) -> list[float]:
    """The mean of every resample.

    Args:
        values: in the order of measurement.
        length: of the blocks; None for `block_length`.
    """
    length = length or block_length(values)
    return [sum(_draw(values, length, rng)) / len(values) for _ in range(resamples)]


def _draw(values: Sequence[_T], length: int, rng: random.Random) -> list[_T]:
    count = len(values)
    around: list[_T] = list(values) + list(values[:length])
    drawn: list[_T] = []
    while len(drawn) < count:
        start = int(rng.random() * count)
        drawn.extend(around[start : start + length])
    del drawn[count:]
    return drawn


def _position(count: int, percent: float) -> tuple[int, int, float]:
    """The two ranks around a percentile, and the share of the upper one."""
    position = (count - 1) * percent / 100
    low = math.floor(position)
    return low, min(low + 1, count - 1), position - low


def interval_of(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of `second` − `first`; both hold one value per resample."""
    differences = sorted(b - a for a, b in zip(first, second, strict=True))
    tail = (1 - confidence) / 2
    low, _, _ = _position(len(differences), 100 * tail)
    return Interval(differences[low], differences[len(differences) - 1 - low])
