"""How often is a slow node named, and how often a healthy one? Simulated fleets, judged and repeated by the rule."""

import random
from collections.abc import Iterator

from benchmarks.report import Row
from llmval_tui.fleet.outliers import decide_all, named_nodes, repeat_wanted, statistics
from llmval_tui.fleet.record import NodeOutcome, NodeResult

NODES = 64
METRIC = "completed_qps"
TYPICAL = 26.8


def simulate(seeds: int, *, slow: float, noise: float, nodes: int = NODES) -> tuple[float, float]:
    """The shares of fleets in which the slow node is named, and in which a healthy one is.

    Args:
        slow: by which share one node is slower; 0: all are healthy.
        noise: standard deviation of one measurement, as a share (normal).
    """
    names = [f"n{number:03}" for number in range(nodes)]
    found = wrong = 0
    for seed in range(seeds):
        draw = random.Random(seed)
        bad = draw.choice(names)

        def measure(node: str, draw: random.Random = draw, bad: str = bad) -> dict[str, float | None]:
            return {METRIC: TYPICAL * (1 - slow * (node == bad)) * draw.gauss(1, noise)}

        first = statistics({node: NodeResult(NodeOutcome.PASS, metrics=measure(node), group="H200") for node in names})
        suspects, references = repeat_wanted(first)
        named = named_nodes(decide_all(first, {node: measure(node) for node in (*suspects, *references)}))
        found += bool(slow) and bad in named
        wrong += any(node != bad or not slow for node in named)
    return found / seeds, wrong / seeds


def rule(seeds: int = 1000) -> Iterator[Row]:
    """64 nodes, one 6 % slow at 1 % noise, and healthy fleets at 1 and 2 %."""
    found, wrong = simulate(seeds, slow=0.06, noise=0.01)
    yield Row(f"{NODES} nodes, one 6 % slow, 1 % noise, {seeds} seeds: named", f"{found:.1%}", "≥ 97 %", found >= 0.97)
    yield Row("the same fleets: a healthy node is named", f"{wrong:.1%}", "≤ 1 %", wrong <= 0.01)
    for noise in (0.01, 0.02, 0.05):
        _, wrong = simulate(seeds, slow=0.0, noise=noise)
        yield Row(f"healthy fleets at {noise:.0%} noise: a node is named", f"{wrong:.1%}", "≤ 1 %", wrong <= 0.01)
