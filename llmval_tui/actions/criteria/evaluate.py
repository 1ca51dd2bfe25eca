"""The gates of a run's criteria."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion
from llmval_tui.runs.records import Gate

if TYPE_CHECKING:
    from llmval_tui.runs.store import Run


def criteria_gates(
    run: "Run", criteria: Sequence[Criterion], metrics: Mapping[str, tuple[float, str | None]] | None = None
) -> list[Gate]:
    """One gate for each criterion. `metrics` are the values of the tool's result: name → (value, unit)."""
    return []
