"""The figures of a run that matter: its headline and every bounded one, with bound, outcome and trend."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmval_tui.actions.bounds import Bound, bounds_of
from llmval_tui.actions.headline import Figure, headline
from llmval_tui.report.figure import figure
from llmval_tui.report.history import Trend, earlier_values, trend_of
from llmval_tui.runs.definitions import define
from llmval_tui.runs.records import Verdict
from llmval_tui.runs.store import Run

_LATENCY = re.compile(r"(?P<what>ttft|tpot|itl|e2e)(?:_sched)?_p(?P<percent>\d+)_ms")
MOST_EARLIER = 20  # earlier runs that a trend looks back at


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One figure; values are in `unit`."""

    metric: str
    label: str
    unit: str
    value: float | None
    bound: Bound | None  # its value is in the metric's own unit
    factor: float  # from the metric's own unit to `unit`
    holds: bool | None  # None: no bound, or no value
    trend: Trend

    @property
    def shown(self) -> str:
        """Value and unit."""
        return f"{figure(self.value)} {self.unit}".strip() if self.value is not None else "not available"

    @property
    def bound_shown(self) -> str:
        """`≤ 500 ms (SLO): holds`, or that there is none."""
        if self.bound is None:
            return "–"
        sign = {"<=": "≤", ">=": "≥"}.get(self.bound.comparison, self.bound.comparison)
        word = {True: "holds", False: "does not hold", None: "not known"}[self.holds]
        return f"{sign} {figure(self.bound.value * self.factor)} {self.unit} ({self.bound.set_by}): {word}"

    def as_json(self) -> dict[str, Any]:
        """By docs/schemas/report.schema.json."""
        bound = None
        if self.bound is not None:
            value = self.bound.value * self.factor
            bound = {"comparison": self.bound.comparison, "value": value, "set_by": self.bound.set_by}
        return {
            "metric": self.metric,
            "label": self.label,
            "unit": self.unit,
            "value": self.value,
            "bound": bound,
            "holds": self.holds,
            "earlier": list(self.trend.earlier),
            "change_percent": self.trend.percent,
            "trend": self.trend.word or None,
        }


def key_figures(run: Run, verdict: Verdict | None, runs: Sequence[Run]) -> list[KeyFigure]:
    """The figures of a judged run, the bounded ones first.

    Args:
        runs: of its workspace, at least all of its item, for the trend.
    """
    if verdict is None:
        return []
    bounds = bounds_of(run.intent)
    known = {one.name: one for one in headline(verdict.metrics)}
    names = [name for name in bounds if name in verdict.metrics]
    names += [name for name in known if name not in names]
    found = []
    for name in names:
        one = known.get(name) or _plain(name)
        value, bound = verdict.metrics[name], bounds.get(name)
        earlier = [one.factor * other for other in earlier_values(run, runs, name)[-MOST_EARLIER:]]
        scaled = None if value is None else value * one.factor
        holds = None if bound is None or value is None else bound.holds(value)
        better = one.better or define(name).better
        found.append(
            KeyFigure(name, one.label, one.unit, scaled, bound, one.factor, holds, trend_of(scaled, earlier, better))
        )
    return found


def _plain(name: str) -> Figure:
    """A metric that no headline names: a percentile by its usual name, another one by its own."""
    meaning = define(name)
    latency = _LATENCY.fullmatch(name)
    label = f"{latency['what'].upper()} p{latency['percent']}" if latency else name
    return Figure(name, label, meaning.unit, meaning.better)
