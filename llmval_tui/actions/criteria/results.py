"""The values of results that llmval reads itself: those of known tools, and those of its own judges."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmval_tui.actions.criteria.measured import Measured, Unfound
from llmval_tui.actions.criteria.model import Criterion
from llmval_tui.actions.criteria.search import names, tokens
from llmval_tui.actions.criteria.units import unit_named
from llmval_tui.actions.tools.metric_names import metric_named
from llmval_tui.actions.tools.model import Metric, ToolResult
from llmval_tui.actions.tools.results import tool_result
from llmval_tui.runs.store import Run

# The end of a metric's name in a verdict → its unit.
_UNIT_ENDS = (("_tokens_per_s", "tokens/s"), ("_ms", "ms"), ("_gb_per_s", "GB/s"), ("_percent", "%"), ("_w", "W"),
              ("_qps", "qps"), ("_s", "s"))  # fmt: skip


@dataclass
class Results:
    """The results of one run; a tool's file is read only if a criterion asks for it."""

    run: Run
    own: Mapping[str, float | None]
    _read: dict[str, ToolResult | None] = field(default_factory=dict)

    def stated(self, one: Criterion) -> Measured:
        """The metric that `expect="result NAME …"` names.

        Raises:
            Unfound: no result has it, or its value is unknown.
        """
        name = one.selector or ""
        known: list[str] = []
        for _, metrics in self._all(one):
            if name in metrics:
                return _with_unit(one, _measured(name, metrics[name]))
            known += metrics
        there = f"its metrics are {', '.join(sorted(known)[:12])}" if known else "llmval has no reader for this command"
        raise Unfound(f"the result has no metric {name}: {there}")

    def named(self, one: Criterion) -> Measured | None:
        """The metric that the words of an item name; None if they name none for certain.

        Raises:
            Unfound: they name one, and its value is unknown.
        """
        if not one.metric and not one.unit:
            return None
        for tool, metrics in self._all(one):
            words = one.metric or ""
            name = metric_named(words, tool, one.unit)
            if name is None or name not in metrics:
                wanted = tokens(words)
                alike = [key for key in metrics if names(wanted, key)]
                exact = [key for key in alike if set(tokens(key)) <= set(wanted)]
                name = (exact or alike)[0] if len(exact or alike) == 1 else None
            if name is not None:
                return _with_unit(one, _measured(name, metrics[name]))
        return None

    def _all(self, one: Criterion) -> list[tuple[str | None, Mapping[str, Metric]]]:
        found: list[tuple[str | None, Mapping[str, Metric]]] = []
        commands = self.run.intent.commands
        if one.command is not None and one.command < len(commands):
            commands = [commands[one.command]]
        for command in commands:
            if command.label not in self._read:
                self._read[command.label] = tool_result(self.run, command)
            result = self._read[command.label]
            if result is not None:
                found.append((result.tool, result.metrics))
        if not found and self.own:
            found.append((None, {name: Metric(value, _unit(name)) for name, value in self.own.items()}))
        return found


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNIT_ENDS if name.endswith(end)), "")


def _with_unit(one: Criterion, found: Measured) -> Measured:
    """The value; a bandwidth in bytes/s has no usual unit, so that a bound without one names no value."""
    if one.unit is None and found.unit == unit_named("B/s"):
        raise Unfound(f"{found.where} is a bandwidth, and the bound has no unit: write one, such as GB/s")
    return found


def _measured(name: str, metric: Metric) -> Measured:
    if metric.value is None:
        raise Unfound(f"{name} is unknown: {metric.reason or 'the result does not have it'}")
    return Measured(metric.value, unit_named(metric.unit) if metric.unit else None, f"result {name}", "")
