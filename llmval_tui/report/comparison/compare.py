"""Two load tests, metric by metric: the difference, its confidence interval, and a word only where that excludes 0."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from llmval_tui.actions.judges.load_test_result import LoadResult, Record, metrics_of
from llmval_tui.actions.judges.rate_search import search_metrics
from llmval_tui.actions.steps.baseline_change import METRICS, SEARCH_METRICS
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.report.comparison.bootstrap import (
    MIN_BLOCKS,
    MIN_TAIL_VALUES,
    MIN_VALUES,
    SEED,
    Interval,
    block_length,
    interval_of,
    resampled_means,
    resampled_percentiles,
    series_block_length,
)
from llmval_tui.report.comparison.sides import Side, other_differences, refusals

WORSE_PERCENT = 5.0  # a gate metric that is worse by more fails the comparison
SEARCH_METHOD = (
    "the highest rate of a search lies between the one that held twice and the lowest that did not, and the interval "
    "is of what both searches leave open; it is no confidence interval"
)
BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "no difference shown", "no interval"


_SERIES: dict[str, Callable[[Record], float | None]] = {
    "ttft_sched": lambda record: record.ttft_sched_s,
    "tpot": lambda record: record.tpot_s,
    "e2e_sched": lambda record: record.e2e_sched_s,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One metric on both sides."""

    name: str
    unit: str
    better: str  # "higher" or "lower"
    first: float
    second: float
    interval: Interval | None  # of second − first; None: too few values to say
    word: str  # "" where the sides are not comparable

    @property
    def delta(self) -> float:
        return self.second - self.first

    @property
    def percent(self) -> float | None:
        """The difference in per cent of A; None where A is 0."""
        return 100 * self.delta / abs(self.first) if self.first else None

    @property
    def fails(self) -> bool:
        """Whether it is shown to be worse, and by more than `WORSE_PERCENT`."""
        return self.word == WORSE and (self.percent is None or abs(self.percent) > WORSE_PERCENT)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole comparison."""

    first: Side
    second: Side
    refused: list[str]  # why no verdict is given; empty where the sides are comparable
    other_differences: list[tuple[str, str, str]]
    changes: list[Change]
    paired: bool  # the same requests at the same times on both sides

    @property
    def of_searches(self) -> bool:
        """Whether two searches are compared: by the rates they found, not by the windows that they kept."""
        return _searches(self.first.result, self.second.result)


def compare_sides(first: Side, second: Side, *, anyway: bool = False) -> Comparison:
    """Compare two load tests.

    Args:
        anyway: give the figures, without a word, also where they may not be compared.

    Raises:
        Refused: the sides are not comparable and `anyway` is not set; the sentence has every reason.
    """
    reasons = refusals(first, second)
    if reasons and not anyway:
        raise Refused(
            f"{first.run_id} and {second.run_id} are not comparable: {'; '.join(reasons)}. Repeat one under the "
            "other's conditions, or see the bare figures with --anyway."
        )
    one, other = first.result, second.result
    found = _found if _searches(one, other) else _changes
    same = paired(one, other) and not _searches(one, other)
    return Comparison(
        first, second, reasons, other_differences(first, second), found(one, other, judged=not reasons), same
    )


def exit_code(comparison: Comparison) -> ExitCode:
    """0: nothing is shown to be over 5 % worse; 1: something is; 3: the figures were shown and nothing was judged."""
    if comparison.refused:
        return ExitCode.UNDECIDED
    return ExitCode.FAILED if any(change.fails for change in comparison.changes) else ExitCode.PASSED


def _searches(first: LoadResult, second: LoadResult) -> bool:
    return first.search is not None and second.search is not None


def _found(first: LoadResult, second: LoadResult, *, judged: bool) -> list[Change]:
    """What two searches found. Latencies and throughput of the windows that they kept follow from the rate there.

    The highest rate of each lies between the one found and the lowest that did not hold: the interval is of what both
    leave open.
    """
    one, other = search_metrics(first.search or {}), search_metrics(second.search or {})
    low_a, high_a, low_b, high_b = (
        side[name] for side in (one, other) for name in (*SEARCH_METRICS, "lowest_not_held_qps")
    )
    if low_a is None or low_b is None:
        return []
    interval = None if high_a is None or high_b is None else Interval(low_b - high_a, high_b - low_a)
    name, better, unit = next(metric for metric in METRICS if metric[0] in SEARCH_METRICS)
    word = _word(low_b - low_a, better, interval) if judged else ""
    return [Change(name, unit, better, low_a, low_b, interval, word)]


def _changes(first: LoadResult, second: LoadResult, *, judged: bool) -> list[Change]:
    one, other = metrics_of(first), metrics_of(second)
    spread_one, spread_other = _resampled(first, second)
    changes = []
    for name, better, unit in METRICS:
        a, b = one.get(name), other.get(name)
        if a is None or b is None:
            continue
        interval = None
        if name in spread_one and name in spread_other:
            interval = interval_of(spread_one[name], spread_other[name])
        word = _word(b - a, better, interval) if judged else ""
        changes.append(Change(name, unit, better, a, b, interval, word))
    return changes


def _word(delta: float, better: str, interval: Interval | None) -> str:
    if interval is None:
        return UNKNOWN
    # The interval and the difference itself must agree: a skewed resample alone proves nothing.
    if not interval.excludes_zero or (interval.low > 0) != (delta > 0):
        return SAME
    return BETTER if (delta > 0) == (better == "higher") else WORSE


_Spread: TypeAlias = dict[str, list[float]]  # a metric's resampled values by its name


def _resampled(first: LoadResult, second: LoadResult) -> tuple[_Spread, _Spread]:
    """Each side's resampled metrics; a metric with too few values on either side is left out."""
    sides = [sorted(result.done, key=lambda record: record.intended_s) for result in (first, second)]
    pairs = paired(first, second)
    found: tuple[_Spread, _Spread] = ({}, {})
    for stem in _SERIES:
        series = [_latencies(done, stem) for done in sides]
        fewest = min(map(len, series))
        if fewest < MIN_VALUES:
            continue
        together = pairs and len(series[0]) == len(series[1])
        lengths = [series_block_length(values) for values in series]
        if together:
            lengths = [max(lengths)] * 2
        if any(len(values) < MIN_BLOCKS * length for values, length in zip(series, lengths, strict=True)):
            continue
        percents = (50, 99) if fewest >= MIN_TAIL_VALUES else (50,)
        for out, values, length, label in zip(found, series, lengths, "AB", strict=True):
            rng = _rng(stem, "both" if together else label)
            drawn = resampled_percentiles(values, percents, rng, length)
            out.update(zip((f"{stem}_p{percent}_ms" for percent in percents), drawn, strict=True))
    for out, result, done, label in zip(found, (first, second), sides, "AB", strict=True):
        for name, rates in _rates(result, done).items():
            if len(rates) >= MIN_VALUES and len(rates) >= MIN_BLOCKS * (length := block_length(rates)):
                out[name] = resampled_means(rates, _rng(name, label), length)
    return found


def paired(first: LoadResult, second: LoadResult) -> bool:
    """Whether both sides had the same requests at the same times and completed them all: one seed, one schedule.

    Then the same places are drawn from both, and what the schedule alone makes of the latencies cancels out.
    """
    one, other = ([(r.intended_s, r.output_tokens) for r in result.records] for result in (first, second))
    return one == other and all(record.done for result in (first, second) for record in result.records)


def _latencies(done: Sequence[Record], stem: str) -> list[float]:
    values = [_SERIES[stem](record) for record in done]
    return [1e3 * value for value in values if value is not None]


def _rates(result: LoadResult, done: Sequence[Record]) -> dict[str, list[float]]:
    weights = {
        "completed_qps": [1.0] * len(done),
        "output_tokens_per_s": [float(record.output_tokens) for record in done],
        "goodput_qps": _goodput(result, done),
    }
    return {name: _per_second(done, values, result.duration_s) for name, values in weights.items()}


def _rng(name: str, label: str) -> random.Random:
    return random.Random(f"{SEED} {name} {label}")


def _goodput(result: LoadResult, done: Sequence[Record]) -> list[float]:
    """1 for each request that met every service level, else 0: a result of it alone has goodput or has none."""
    if "goodput_qps" not in metrics_of(result):
        return []
    return [1.0 if metrics_of(replace(result, records=[record]))["goodput_qps"] else 0.0 for record in done]


def _per_second(done: Sequence[Record], weights: Sequence[float], duration_s: float | None) -> list[float]:
    """What was completed in each of about as many equal spans as the duration has seconds, a second.

    Their mean is the rate over the whole duration.
    """
    if not duration_s or len(weights) != len(done):
        return []
    count = max(1, round(duration_s))
    width = duration_s / count
    rates = [0.0] * count
    for record, weight in zip(done, weights, strict=True):
        if record.last_s is not None:
            rates[min(count - 1, int(record.last_s / width))] += weight / width
    return rates
