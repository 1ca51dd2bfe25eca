"""Names the pairs and the GPUs that are slower than the others, from a matrix of bandwidths. No torch.

Like is compared with like: the cells of one group have the same method, direction and path. A cell is slow if both
hold:

- it is more than `LEAST_SHORTFALL` below the group's median, so that the difference matters;
- it is more than `MOST_DEVIATIONS` robust standard deviations (1.4826 · MAD) below it, so that noise is not a cause.

The MAD is at least `LEAST_SPREAD` of the median: cells that agree to a per mille would otherwise name each other.
One GPU with a lost link slows all its pairs by the same small share, less than a pair must be slow to be named. So the
medians of the rows (what a GPU sends) and of the columns (what it receives) are compared as well, with a smaller
threshold, because a median is less noisy. The pairs of a named GPU are not named again.

The caller measures every suspect once more, and names it only if it is slow both times.
tests/runners/collective/test_outliers.py simulates false alarms and detections; docs/collectives.md has the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

LEAST_SHORTFALL, LEAST_GPU_SHORTFALL = 0.05, 0.03
MOST_DEVIATIONS = 3.5
LEAST_SPREAD = 0.002
FEWEST_CELLS, FEWEST_GPUS = 6, 4  # fewer have no meaningful spread
FEWEST_OF_GPU = 3  # with fewer cells, one slow pair would move the median of its GPU
_TO_SIGMA = 1.4826  # standard deviation / MAD of a normal distribution

Pair = tuple[int, int]  # from, to: ranks


@dataclass(frozen=True, slots=True)
class Suspect:
    """What is slower than its group: a pair, or all that a GPU sends or receives."""

    what: str  # pair, sends, receives
    ranks: tuple[int, ...]  # from and to; or the one GPU
    value: float  # GB/s; of a GPU the median of its cells
    typical: float  # GB/s, the group's median

    @property
    def shortfall(self) -> float:
        """The share by which it is slower than the median."""
        return 1 - self.value / self.typical


def threshold(values: Sequence[float], least: float) -> float | None:
    """The value below which one of these is slow; None if there are too few, or no bandwidth at all."""
    middle = median(values)
    if middle <= 0:
        return None
    spread = _TO_SIGMA * max(median(abs(value - middle) for value in values), LEAST_SPREAD * middle)
    return middle - max(least * middle, MOST_DEVIATIONS * spread)


def smallest_findable(values: Sequence[float]) -> float | None:
    """The smallest slowness of one cell that could have been seen in this noise, as a share; None with few cells."""
    if len(values) < FEWEST_CELLS or (limit := threshold(values, LEAST_SHORTFALL)) is None:
        return None
    return 1 - limit / median(values)


def suspects(cells: Mapping[Pair, float]) -> list[Suspect]:
    """The slow GPUs and pairs of one group."""
    values = list(cells.values())
    if len(values) < FEWEST_CELLS or (limit := threshold(values, LEAST_SHORTFALL)) is None:
        return []
    middle = median(values)
    gpus = _slow_gpus(cells, "sends", 0) + _slow_gpus(cells, "receives", 1)
    named = {(one.what, one.ranks[0]) for one in gpus}
    pairs = [
        Suspect("pair", pair, value, middle)
        for pair, value in cells.items()
        if value < limit and ("sends", pair[0]) not in named and ("receives", pair[1]) not in named
    ]
    return gpus + sorted(pairs, key=lambda one: one.value)


def _slow_gpus(cells: Mapping[Pair, float], what: str, side: int) -> list[Suspect]:
    groups: dict[int, list[float]] = {}
    for pair, value in cells.items():
        groups.setdefault(pair[side], []).append(value)
    medians = {rank: median(values) for rank, values in groups.items() if len(values) >= FEWEST_OF_GPU}
    if len(medians) < FEWEST_GPUS:
        return []
    limit = threshold(list(medians.values()), LEAST_GPU_SHORTFALL)
    if limit is None:
        return []
    middle = median(medians.values())
    found = [Suspect(what, (rank,), value, middle) for rank, value in medians.items() if value < limit]
    return sorted(found, key=lambda one: one.value)


def cells_of(suspect: Suspect, cells: Mapping[Pair, float]) -> list[Pair]:
    """The cells to measure again: the pair, or all pairs of the GPU on its side."""
    if suspect.what == "pair":
        return [(suspect.ranks[0], suspect.ranks[1])]
    side = 0 if suspect.what == "sends" else 1
    return [pair for pair in cells if pair[side] == suspect.ranks[0]]


def confirmed(
    cells: Mapping[Pair, float], measure_again: Callable[[list[Pair]], Mapping[Pair, float]]
) -> list[Suspect]:
    """The suspects that are slow in a second measurement too; of both measurements the faster one counts.

    `measure_again` is called once, with the cells of all suspects, and not at all without a suspect.
    """
    first = suspects(cells)
    if not first:
        return []
    wanted = sorted({pair for one in first for pair in cells_of(one, cells)})
    second = measure_again(wanted)
    both = {pair: max(value, second.get(pair, value)) for pair, value in cells.items()}
    suspected = {(one.what, one.ranks) for one in first}
    return [one for one in suspects(both) if (one.what, one.ranks) in suspected]
