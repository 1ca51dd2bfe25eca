"""The bounds of a run's metrics: known before it starts, so that its live figures can be held against them."""

from dataclasses import dataclass

from llmval_tui.actions.command.argv import value_of
from llmval_tui.actions.criteria.frozen import PARAMETER
from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import unit_named
from llmval_tui.actions.tools.metric_names import metric_named
from llmval_tui.foundation.decode import decode
from llmval_tui.runs.records import Intent

# The load test's flags, and the metric that its judge compares with each: p99 over all requests.
_SLO_FLAGS = {
    "--slo-ttft-ms": "ttft_sched_p99_ms",
    "--slo-tpot-ms": "tpot_p99_ms",
    "--slo-e2e-ms": "e2e_sched_p99_ms",
}
# The names of a load generator's metrics, as words of an item mean them, in the names of a verdict's metrics.
_OWN_NAMES = {
    "request_throughput": "completed_qps",
    "output_throughput": "output_tokens_per_s",
    "total_throughput": "total_tokens_per_s",
    "goodput": "goodput_qps",
}
_COMPARISONS = ("<", "<=", ">", ">=")
BASELINE = "base"  # a bound that no gate of the run itself has: a later item compares with the baseline
_SET_BY = {StatedBy.SETTINGS: "site", StatedBy.TOOL: "tool"}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a metric must be, and who asks for it."""

    comparison: str  # `<`, `<=`, `>` or `>=`
    value: float  # in the unit of the metric
    set_by: str  # "SLO", "item", "site", "tool", `BASELINE`

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        if self.comparison.startswith("<"):
            return value < self.value or (self.comparison == "<=" and value == self.value)
        return value > self.value or (self.comparison == ">=" and value == self.value)


def bounds_of(intent: Intent) -> dict[str, Bound]:
    """The bounds of a run by the names of its metrics. The items of a list and the settings win over flags."""
    found: dict[str, Bound] = {}
    for command in intent.commands:
        for flag, metric in _SLO_FLAGS.items():
            if (value := _number(value_of(tuple(command.argv), flag))) is not None:
                found[metric] = Bound("<=", value, "SLO")
    stated = intent.params.get(PARAMETER)
    for item in stated if isinstance(stated, list) else ():
        try:
            one = decode(Criterion, item)
        except (TypeError, ValueError, AttributeError):
            continue  # a record of another version: its judge says so
        if one.comparison in _COMPARISONS and isinstance(one.bound, float | int) and (name := _metric_of(one)):
            found[name] = Bound(one.comparison, _in_unit_of(name, float(one.bound), one.unit), _set_by(one))
    return found


def _metric_of(one: Criterion) -> str | None:
    """The metric of a verdict that a criterion is about; None if it is about something else."""
    if one.source == "result":
        return one.selector
    name = metric_named(one.metric, None, one.unit) if one.metric else None
    if name is None:
        return None
    statistic = name.rpartition(".")
    if statistic[0] in ("ttft", "tpot", "itl"):
        return f"{statistic[0]}_{statistic[2]}_ms"
    return _OWN_NAMES.get(name)


def _in_unit_of(metric: str, value: float, unit: str | None) -> float:
    """The bound in the unit that the metric's name ends in."""
    known = unit_named(unit) if unit else None
    if known is not None and known.dimension == "time" and metric.endswith("_ms"):
        return value * known.factor * 1000
    if known is not None and known.dimension == "time" and metric.endswith("_s"):
        return value * known.factor
    return value


def _set_by(one: Criterion) -> str:
    return _SET_BY.get(one.stated_by, "item")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
