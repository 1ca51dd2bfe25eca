"""Names the nodes that are slower than their like. Pure functions of the figures of a fleet.

Like is compared with like: the nodes of one group have the same kind of GPU, driver and power limit. A node
is a *suspect* in a metric if both hold:

- it is more than `LEAST_SHORTFALL` worse than the group's median, so that the difference matters;
- it is more than `MOST_DEVIATIONS` robust standard deviations (1.4826 · MAD) worse, so that noise is not a cause.

Of 64 healthy nodes at 1 % noise, one is a suspect in 2.5 % of the fleets. So a suspect is only *named* after a second
measurement at the same time as two nodes at the median (`references`): it must again be more than `LEAST_SHORTFALL`
worse than their mean, and by more than `REPEAT_DEVIATIONS` standard deviations of such a difference. What slowed the
whole fleet in the meantime slows the references, too.

With fewer than `FEWEST_NODES` nodes in a group, the median and the MAD say too little, and no node is suspected:
compare each with its own baseline. `python -m benchmarks outliers` simulates the rule.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite, sqrt
from statistics import median

from llmval_tui.fleet.record import GroupStatistics, MetricStatistics, NodeOutcome, NodeResult, Repeat
from llmval_tui.runs.definitions import define

LEAST_SHORTFALL = 0.03  # of the median
MOST_DEVIATIONS = 3.5
FEWEST_NODES = 8
REFERENCES = 2  # nodes at the median that are measured beside the suspects
REPEAT_DEVIATIONS = 2.0
TO_SIGMA = 1.4826  # standard deviation / MAD of a normal distribution
HIGHER, LOWER = "higher", "lower"

# What the nodes of one group have in common; the keys of a node's configuration.
GROUP_KEYS = ("gpu", "driver", "power_limit_w")

Figures = Mapping[str, float | None]  # node → figure
Configuration = Mapping[str, str | float | int | None]


def group_of(configuration: Configuration) -> str:
    """The group of a node in words: `NVIDIA H200, driver 580.159.04, 700 W`; what is not known says so.

    The number of GPUs is not part of it: a node that lost one belongs to the others, and is slower than they are.
    """
    gpu, driver, limit = (configuration.get(key) for key in GROUP_KEYS)
    if configuration.get("gpu_count") == 0:
        return "no GPU"
    watts = "power limit unknown" if limit is None else f"{limit:g} W" if isinstance(limit, float) else f"{limit} W"
    return f"{gpu or 'GPU unknown'}, driver {driver or 'unknown'}, {watts}"


def groups_of(nodes: Mapping[str, str]) -> dict[str, list[str]]:
    """The nodes of each group, both sorted; `nodes` maps a node to its group."""
    found: dict[str, list[str]] = {}
    for node, group in sorted(nodes.items()):
        found.setdefault(group, []).append(node)
    return dict(sorted(found.items()))


def statistics(
    nodes: Mapping[str, NodeResult], better: Callable[[str], str] = lambda metric: define(metric).better
) -> dict[str, MetricStatistics]:
    """What the first measurement shows, by metric. The same figures give the same result in any order.

    `better` gives "higher", "lower" or "" for a metric; metrics without a direction are left out. A node whose run is
    invalid or that did not report has no figure that counts.
    """
    counted = {name: one for name, one in nodes.items() if one.outcome not in (NodeOutcome.LOST, NodeOutcome.INVALID)}
    names = sorted({metric for one in counted.values() for metric in one.metrics})
    groups = groups_of({name: one.group for name, one in nodes.items()})
    found = {}
    for metric in names:
        if (direction := better(metric)) in (HIGHER, LOWER):
            figures = {name: one.metrics.get(metric) for name, one in counted.items()}
            found[metric] = MetricStatistics(
                direction,
                {
                    group: judge({name: figures[name] for name in members if name in figures}, direction)
                    for group, members in groups.items()
                },
            )
    return found


def judge(figures: Figures, better: str) -> GroupStatistics:
    """The suspects of one group in one metric."""
    known = {node: value for node, value in sorted(figures.items()) if value is not None and isfinite(value)}
    if not known:
        return GroupStatistics(0, None, None, None, reason="no node has a figure")
    middle = median(known.values())
    mad = median(abs(value - middle) for value in known.values())
    if len(known) < FEWEST_NODES:
        few = f"{len(known)} node{'s' if len(known) != 1 else ''} with a figure: fewer than {FEWEST_NODES} show no "
        return GroupStatistics(len(known), middle, mad, None, reason=few + "spread, so compare with a baseline")
    if middle <= 0:
        return GroupStatistics(len(known), middle, mad, None, reason="the median is not above 0")
    least = max(LEAST_SHORTFALL, MOST_DEVIATIONS * TO_SIGMA * mad / middle)
    worse = {node: shortfall(value, middle, better) for node, value in known.items()}
    suspects = sorted((node for node in known if worse[node] > least), key=lambda node: (-worse[node], node))
    references = _nearest(known, middle, suspects) if suspects else []
    return GroupStatistics(len(known), middle, mad, least, suspects, references)


def shortfall(value: float, typical: float, better: str) -> float:
    """By which share of `typical` a figure is worse; negative if it is better."""
    return (typical - value) / typical if better == HIGHER else (value - typical) / typical


def deviation(value: float | None, typical: float | None) -> float | None:
    """By which share a figure is above (+) or below (−) the median, whatever is better."""
    return None if value is None or not typical else value / typical - 1


def _nearest(known: Mapping[str, float], middle: float, suspects: Sequence[str]) -> list[str]:
    others = [node for node in known if node not in suspects]
    return sorted(others, key=lambda node: (abs(known[node] - middle), node))[:REFERENCES]


def repeat_wanted(found: Mapping[str, MetricStatistics]) -> tuple[list[str], list[str]]:
    """The suspects and the references of all metrics and groups, each sorted: these nodes are measured again, at the
    same time. Both are empty if nothing is suspected."""
    each = [one for metric in found.values() for one in metric.groups.values()]
    suspects = {node for one in each for node in one.suspects}
    return sorted(suspects), sorted({node for one in each for node in one.references} - suspects)


def decide(first: GroupStatistics, repeated: Figures, better: str) -> GroupStatistics:
    """The statistics with the second measurement: which suspects are named.

    `repeated` has the second figure of every node that was measured again.
    """
    if not first.suspects or first.median is None or first.mad is None:
        return first
    references = {node: repeated.get(node) for node in first.references}
    figures = {node: repeated.get(node) for node in first.suspects}
    known = [value for value in references.values() if value is not None and isfinite(value) and value > 0]
    if len(known) < REFERENCES:
        return replace(first, repeat=Repeat(references, figures, None, undecided=list(first.suspects)))
    typical = sum(known) / len(known)
    spread = TO_SIGMA * first.mad / first.median * sqrt(1 + 1 / len(known))
    limit = max(LEAST_SHORTFALL, REPEAT_DEVIATIONS * spread)
    named, cleared, undecided = [], [], []
    for node, value in figures.items():
        if value is None or not isfinite(value):
            undecided.append(node)
        elif shortfall(value, typical, better) > limit:
            named.append(node)
        else:
            cleared.append(node)
    return replace(first, repeat=Repeat(references, figures, limit, cleared, undecided), named=named)


def decide_all(
    found: Mapping[str, MetricStatistics], repeated: Mapping[str, Mapping[str, float | None]]
) -> dict[str, MetricStatistics]:
    """`decide` for every metric and group; `repeated` is node → metric → second figure."""
    return {
        name: MetricStatistics(
            metric.better,
            {
                group: decide(one, {node: figures.get(name) for node, figures in repeated.items()}, metric.better)
                for group, one in metric.groups.items()
            },
        )
        for name, metric in found.items()
    }


def named_nodes(found: Mapping[str, MetricStatistics]) -> list[str]:
    """Every node that is named in some metric, sorted."""
    return sorted({node for metric in found.values() for one in metric.groups.values() for node in one.named})


def reasons(found: Mapping[str, MetricStatistics]) -> dict[str, list[str]]:
    """Node → one sentence for each metric in which it is named: `completed_qps 25.2, 6.1 % worse than 26.8`."""
    said: dict[str, list[str]] = {}
    for name, metric in found.items():
        for one in metric.groups.values():
            for node in one.named:
                if one.repeat is None or (value := one.repeat.figures[node]) is None:
                    continue
                known = [figure for figure in one.repeat.references.values() if figure is not None]
                typical = sum(known) / len(known)
                worse = shortfall(value, typical, metric.better)
                beside = " and ".join(sorted(one.repeat.references))
                said.setdefault(node, []).append(
                    f"{name} {_number(value)} when measured again, {100 * worse:.1f} % worse than {_number(typical)} "
                    f"of {beside}"
                )
    return said


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
