"""Compare a load test with the baselines of a document; verdict and proposal rest on the resulting record."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from llmval_tui.actions.documents.baseline_table import Baseline
from llmval_tui.actions.steps.baseline_change import changes, differences
from llmval_tui.actions.steps.baseline_repeats import Pooled, near_bound


def same_configuration(mine: Baseline, known: list[Baseline]) -> Baseline | None:
    """The baseline with the same configuration as `mine`, or None."""
    return next((baseline for baseline in known if baseline.compared == mine.compared), None)


def near_metrics(mine: Baseline, known: list[Baseline], percent: float, spread: Mapping[str, float]) -> list[str]:
    """The metrics so close to the bound that one run cannot decide whether they drifted."""
    same = same_configuration(mine, known)
    if same is None:
        return []
    return [change.name for change in changes(mine, same) if near_bound(change, percent, spread.get(change.name))]


def compare(
    mine: Pooled, known: list[Baseline], percent: float, spread: Mapping[str, float], single: str
) -> dict[str, Any]:
    """The record of the comparison: the baseline's name or None, all changes, a reason, and whether to propose.

    `single` is the remedy for a metric near the bound that has only one run.
    """
    same = same_configuration(mine.baseline, known)
    record = {"compared": mine.baseline.compared, "runs": mine.runs}
    if same is None:
        nearest = min((differences(mine.baseline, other) for other in known), key=len, default=[])
        reason = f"no baseline of this configuration ({'; '.join(nearest)})" if nearest else "no baseline yet"
        reason += "; this run can become one"
        return {**record, "baseline": None, "changes": [], "reason": reason, "propose": True}
    found = [
        replace(
            change,
            runs=mine.runs,
            spread_percent=mine.spread_percent.get(change.name),
            undecided=single if mine.runs == 1 and near_bound(change, percent, spread.get(change.name)) else "",
        )
        for change in changes(mine.baseline, same)
    ]
    outside = [change for change in found if abs(change.worse_percent) > percent and not change.undecided]
    undecided = [change.name for change in found if change.undecided]
    if not found:
        reason = "the baseline and the result have no metric in common"
    elif outside:
        worst = max(outside, key=lambda change: abs(change.worse_percent))
        direction = "worse" if worst.worse_percent > 0 else "better"
        reason = (
            f"{len(outside)} of {len(found)} metrics drifted by more than {percent:g} %; the most is {worst.name}, "
            f"{abs(worst.worse_percent):.1f} % {direction}"
        )
    elif undecided:
        reason = f"{', '.join(undecided)} too close to {percent:g} % to decide from one run"
    else:
        reason = f"all {len(found)} metrics are within {percent:g} % of the baseline"
    if mine.runs > 1:
        reason += f" (medians of {mine.runs} runs)"
    propose = bool(outside) or not found
    values = [asdict(change) for change in found]
    return {**record, "baseline": same.name, "changes": values, "reason": reason, "propose": propose}
