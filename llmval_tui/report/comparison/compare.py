"""Compares two load tests metric by metric. A metric is better or worse only if its interval excludes 0."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from llmval_tui.actions.judges.load_test_result import LoadResult, metrics_of
from llmval_tui.actions.judges.rate_search import search_metrics
from llmval_tui.actions.request_records import Record
from llmval_tui.actions.steps.baseline_change import METRICS, SEARCH_METRICS
from llmval_tui.actions.yardstick.evidence import published
from llmval_tui.actions.yardstick.parts import Attribution, attribute
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
from llmval_tui.report.comparison.sides import (
    Side,
    machine_unknown,
    other_differences,
    refusals,
    unknown_in_both,
    yardstick,
)

WORSE_PERCENT = 5.0  # a gate metric that is worse by more than this fails the comparison
SEARCH_METHOD = (
    "the highest rate of a search lies between the rate that held twice and the lowest rate that did not hold. The "
    "interval combines these ranges of both searches; it is not a confidence interval"
)
BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "no difference shown", "no interval"


_SERIES: dict[str, Callable[[Record], float | None]] = {
    "ttft_sched": lambda record: record.ttft_sched_s,
    "tpot": lambda record: record.tpot_s,
    "e2e_sched": lambda record: record.e2e_sched_s,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of both sides."""

    name: str
    unit: str
    better: str  # "higher" or "lower"
    first: float
    second: float
    interval: Interval | None  # interval of second − first; None if there are too few values
    verdict: str  # BETTER, WORSE, SAME or UNKNOWN; "" if the sides are not comparable

    @property
    def delta(self) -> float:
        return self.second - self.first

    @property
    def percent(self) -> float | None:
        """The difference in per cent of A; None if A is 0."""
        return 100 * self.delta / abs(self.first) if self.first else None

    @property
    def fails(self) -> bool:
        """Whether it is significantly worse, and by more than `WORSE_PERCENT`."""
        return self.verdict == WORSE and (self.percent is None or abs(self.percent) > WORSE_PERCENT)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of two load tests."""

    first: Side
    second: Side
    refused: list[str]  # why the sides are not comparable, so that no verdict is given
    unknown: list[str]  # conditions that neither side states, so that nothing was checked
    machine_unknown: str | None  # why no verdict is given although nothing is known to differ
    other_differences: list[tuple[str, str, str]]
    changes: list[Change]
    paired: bool  # both sides had the same requests at the same times
    attribution: Attribution | None = None  # where a yardstick's difference comes from
    is_yardstick: bool = False

    @property
    def of_searches(self) -> bool:
        """Whether two rate searches are compared: by their highest rates, not by their last windows."""
        return _searches(self.first.result, self.second.result)

    @property
    def judged(self) -> bool:
        """Whether a verdict is given."""
        return not self.refused and self.machine_unknown is None


def compare_sides(first: Side, second: Side, *, anyway: bool = False) -> Comparison:
    """Compare two load tests. If driver or power limit are known of neither, the figures get no verdict.

    Args:
        anyway: if the sides are not comparable, return the figures without a verdict.

    Raises:
        Refused: the sides are not comparable and `anyway` is not set. The message has every reason.
    """
    reasons = refusals(first, second)
    if reasons and not anyway:
        raise Refused(
            f"{first.run_id} and {second.run_id} are not comparable: {'; '.join(reasons)}. "
            "Repeat one under the other's conditions, or show the figures with --anyway."
        )
    unknown = unknown_in_both(first, second)
    no_machine = machine_unknown(first, second, unknown)
    one, other = first.result, second.result
    changes_of = _search_changes if _searches(one, other) else _changes
    same = paired(one, other) and not _searches(one, other)
    pair = yardstick(first, second)
    return Comparison(
        first,
        second,
        reasons,
        unknown,
        no_machine,
        other_differences(first, second),
        changes_of(one, other, judged=not reasons and no_machine is None),
        same,
        None if pair is None or _searches(one, other) else _attribution(*pair),
        pair is not None,
    )


def _attribution(server: Side, ours: Side) -> Attribution | None:
    return attribute(server.result, published(server.run) if server.run is not None else None, ours.result)


def exit_code(comparison: Comparison) -> ExitCode:
    """0: nothing is more than 5 % worse, or it is a yardstick; 1: something is; 3: the figures were not judged."""
    if not comparison.judged:
        return ExitCode.UNDECIDED
    if comparison.is_yardstick:  # it measures; a slower engine is not a fault of the node
        return ExitCode.PASSED
    return ExitCode.FAILED if any(change.fails for change in comparison.changes) else ExitCode.PASSED


def _searches(first: LoadResult, second: LoadResult) -> bool:
    return first.search is not None and second.search is not None


def _search_changes(first: LoadResult, second: LoadResult, *, judged: bool) -> list[Change]:
    """The difference of two highest rates. Latencies are not compared: they depend on the rate of the last window.

    The true highest rate lies between the rate that held and the lowest that did not; the interval combines both sides.
    """
    one, other = search_metrics(first.search or {}), search_metrics(second.search or {})
    low_a, high_a, low_b, high_b = (
        side[name] for side in (one, other) for name in (*SEARCH_METRICS, "lowest_not_held_qps")
    )
    if low_a is None or low_b is None:
        return []
    interval = None if high_a is None or high_b is None else Interval(low_b - high_a, high_b - low_a)
    name, better, unit = next(metric for metric in METRICS if metric[0] in SEARCH_METRICS)
    verdict = _verdict(low_b - low_a, better, interval) if judged else ""
    return [Change(name, unit, better, low_a, low_b, interval, verdict)]


def _changes(first: LoadResult, second: LoadResult, *, judged: bool) -> list[Change]:
    one, other = metrics_of(first), metrics_of(second)
    resamples_one, resamples_other = _resampled(first, second)
    changes = []
    for name, better, unit in METRICS:
        a, b = one.get(name), other.get(name)
        if a is None or b is None:
            continue
        interval = None
        if name in resamples_one and name in resamples_other:
            interval = interval_of(resamples_one[name], resamples_other[name])
        verdict = _verdict(b - a, better, interval) if judged else ""
        changes.append(Change(name, unit, better, a, b, interval, verdict))
    return changes


def _verdict(delta: float, better: str, interval: Interval | None) -> str:
    if interval is None:
        return UNKNOWN
    # The interval and the difference must agree: a skewed resample alone proves nothing.
    if not interval.excludes_zero or (interval.low > 0) != (delta > 0):
        return SAME
    return BETTER if (delta > 0) == (better == "higher") else WORSE


_Resamples: TypeAlias = dict[str, list[float]]  # metric → one value per resample


def _resampled(first: LoadResult, second: LoadResult) -> tuple[_Resamples, _Resamples]:
    """The resampled metrics of each side, without metrics that have too few values on either side."""
    sides = [sorted(result.done, key=lambda record: record.intended_s) for result in (first, second)]
    pairs = paired(first, second)
    found: tuple[_Resamples, _Resamples] = ({}, {})
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
    """Whether both sides had the same requests at the same times (one seed, one schedule) and completed them all.

    Then the same positions are drawn from both, and the influence of the schedule on the latencies cancels out.
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
    """1 for each request that met every SLO, else 0; empty if the load test had no SLO."""
    if "goodput_qps" not in metrics_of(result):
        return []
    return [1.0 if metrics_of(replace(result, records=[record]))["goodput_qps"] else 0.0 for record in done]


def _per_second(done: Sequence[Record], weights: Sequence[float], duration_s: float | None) -> list[float]:
    """The sum of weights per second in equal spans of about a second; their mean is the rate of the whole test."""
    if not duration_s or len(weights) != len(done):
        return []
    count = max(1, round(duration_s))
    width = duration_s / count
    rates = [0.0] * count
    for record, weight in zip(done, weights, strict=True):
        if record.last_s is not None:
            rates[min(count - 1, int(record.last_s / width))] += weight / width
    return rates
