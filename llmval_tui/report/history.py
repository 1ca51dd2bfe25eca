"""A figure over runs: the values of one metric, by host and item, and how the newest compares with those before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from llmval_tui.actions.bounds import Bound, bounds_of
from llmval_tui.actions.headline import ORDINARY, headline
from llmval_tui.foundation.errors import Refused
from llmval_tui.report.run_list import RunLine, line_of
from llmval_tui.runs.definitions import define
from llmval_tui.runs.records import Intent
from llmval_tui.runs.store import Run

KIND = "llmval_history"
MEASURED = ("pass", "fail")  # the outcomes of runs whose figures were measured well


@dataclass(frozen=True, slots=True)
class Point:
    """The metric of one run."""

    line: RunLine
    value: float | None  # None: the run judged the metric, and did not know it
    bound: Bound | None

    @property
    def counts(self) -> bool:
        """Whether the value was measured well: not that of an invalid or inconclusive run."""
        return self.value is not None and self.line.outcome in MEASURED


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one host, item and preset, oldest first."""

    host: str | None
    item: str
    text: str
    preset: str | None
    points: tuple[Point, ...]

    @property
    def median(self) -> float | None:
        """The median of the values that count."""
        values = [point.value for point in self.points if point.counts and point.value is not None]
        return median(values) if values else None


def series_of(runs: Sequence[tuple[Run, str]], metric: str) -> list[Series]:
    """The history of a metric.

    Args:
        runs: runs, and where each is from.
    """
    found: dict[tuple[str, str, str, str], list[Point]] = {}
    for run, source in sorted(runs, key=lambda pair: pair[0].order):
        line = line_of(run, source)
        if metric in line.metrics:
            key = (line.host or "", line.section, line.text, line.preset or "")
            bound = bound_of(run.intent, metric)
            found.setdefault(key, []).append(Point(line, line.metrics[metric], bound))
    series = []
    for _, points in sorted(found.items(), key=lambda pair: pair[0]):
        last = points[-1].line
        series.append(Series(last.host, last.item, last.text, last.preset, tuple(points)))
    return series


def bound_of(intent: Intent, metric: str) -> Bound | None:
    return bounds_of(intent).get(metric)


def metric_named(name: str, runs: Sequence[Run]) -> str:
    """The metric with this name, or with a part of it, or that a headline calls so.

    Raises:
        Refused: none or several fit.
    """
    counts = metrics_of(runs)
    if name in counts:
        return name
    word = name.casefold()
    found = [metric for metric in counts if word.replace(" ", "_") in metric.casefold()]
    if not found:
        found = [metric for metric in counts if any(word in one.label.casefold() for one in headline({metric: None}))]
    if len(found) == 1:
        return found[0]
    if not counts:
        raise Refused("no run here was judged with a figure: start one with llmval run.")
    shown = ", ".join((found or list(counts))[:8])
    reason = f"{name!r} fits {len(found)} metrics" if found else f"no run has a metric {name!r}"
    raise Refused(f"{reason}: name one of {shown}{' …' if len(found or counts) > 8 else ''}")


def metrics_of(runs: Sequence[Run]) -> dict[str, int]:
    """The metrics of all verdicts, and how many runs have each; those of most runs first."""
    counts: dict[str, int] = {}
    for run in runs:
        try:
            verdict = run.verdict()
        except Refused:
            continue
        for name in verdict.metrics if verdict is not None else ():
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


@dataclass(frozen=True, slots=True)
class Trend:
    """The newest value against the median of the earlier ones."""

    earlier: tuple[float, ...]  # oldest first; values that count
    percent: float | None  # newest − median of the earlier, in per cent of that median; None if unknown or that is 0
    word: str  # "better", "worse", "the same" (within 5 %), "higher", "lower", or "no earlier run"

    @property
    def sentence(self) -> str:
        """`3.1 % better than the median of 4 earlier runs`."""
        if not self.earlier:
            return "no earlier run"
        runs = f"{len(self.earlier)} earlier runs" if len(self.earlier) > 1 else "1 earlier run"
        what = "the median of " if len(self.earlier) > 1 else ""
        if self.percent is None:
            return f"{runs}, no comparison"
        if self.word == "the same":
            return f"within 5 % of {what}{runs}"
        return f"{abs(self.percent):.1f} % {self.word} than {what}{runs}"


def trend_of(value: float | None, earlier: Sequence[float], better: str) -> Trend:
    """How a value compares with earlier ones.

    Args:
        better: "higher", "lower" or "" if neither is.
    """
    if not earlier:
        return Trend((), None, "no earlier run")
    middle = median(earlier)
    if value is None or middle == 0:
        return Trend(tuple(earlier), None, "")
    percent = 100 * (value - middle) / abs(middle)
    if abs(percent) <= 100 * ORDINARY:
        word = "the same"
    elif not better:
        word = "higher" if percent > 0 else "lower"
    else:
        word = "better" if (percent > 0) == (better == "higher") else "worse"
    return Trend(tuple(earlier), percent, word)


def earlier_values(run: Run, runs: Sequence[Run], metric: str) -> list[float]:
    """The values of a metric in earlier runs of the same item, host and preset, oldest first; only those that count."""
    ref, host = run.intent.step, run.intent.host.get("name")
    values = []
    for other in sorted(runs, key=lambda one: one.order):
        intent = other.intent
        same = (intent.step.section, intent.step.text, intent.step.occurrence, intent.preset, intent.host.get("name"))
        if other.order >= run.order or same != (ref.section, ref.text, ref.occurrence, run.intent.preset, host):
            continue
        try:
            verdict = other.verdict()
        except Refused:
            continue
        value = verdict.metrics.get(metric) if verdict is not None and verdict.outcome.value in MEASURED else None
        if value is not None:
            values.append(value)
    return values


def as_json(metric: str, series: Sequence[Series]) -> dict[str, Any]:
    """The history by docs/schemas/history.schema.json."""
    meaning = define(metric)
    return {
        "kind": KIND,
        "v": 1,
        "metric": metric,
        "unit": meaning.unit or None,
        "better": meaning.better or None,
        "definition": meaning.text,
        "series": [
            {
                "host": one.host,
                "item": one.item,
                "text": one.text,
                "preset": one.preset,
                "median": one.median,
                "points": [
                    {
                        "run_id": point.line.run_id,
                        "source": point.line.source,
                        "utc": point.line.started_utc or point.line.created_utc,
                        "outcome": point.line.outcome,
                        "value": point.value,
                        "counts": point.counts,
                        "bound": None
                        if point.bound is None
                        else {
                            "comparison": point.bound.comparison,
                            "value": point.bound.value,
                            "set_by": point.bound.set_by,
                        },
                    }
                    for point in one.points
                ],
            }
            for one in series
        ],
    }
