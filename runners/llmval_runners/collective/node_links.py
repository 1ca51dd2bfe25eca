"""Which node, adapter or link is slow, from the bandwidths of every pair of nodes. No torch.

A node is slow if its links to all its partners are slow, so the median of its links is
compared with those of the other nodes; on a slow node, the places (GPU and adapter) that are slow on their own are
named. A link is slow if it is slower than the links between other nodes while both of its nodes are as fast as others:
then it is the path between them. The rule is that of `outliers.py`: further than `LEAST_…` and than 3.5 robust standard
deviations below the median. With fewer than `FEWEST_NODES` nodes no node is named.

The suspects are measured again, in some of the rounds that they were in, and named if that says the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from llmval_runners.collective.outliers import LEAST_GPU_SHORTFALL, LEAST_SHORTFALL, threshold

FEWEST_NODES = 8
MOST_AGAIN = 7  # rounds that are measured again

Link = tuple[int, int]  # numbers of two nodes, the smaller one first


def tournament(nodes: int) -> list[list[Link]]:
    """Rounds in which every two nodes meet once, and no node twice in a round (the circle method).

    With an odd number of nodes, one rests in each round.
    """
    ring: list[int | None] = list(range(nodes))
    if nodes % 2:
        ring.append(None)
    count, rounds = len(ring), []
    for _ in range(count - 1):
        pairs = [(ring[at], ring[count - 1 - at]) for at in range(count // 2)]
        rounds.append(sorted((min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return rounds


def rounds_with(plan: Sequence[Sequence[Link]], wanted: Sequence[Link]) -> list[Sequence[Link]]:
    """The first rounds that have one of these links, at most `MOST_AGAIN`."""
    return [pairs for pairs in plan if set(pairs) & set(wanted)][:MOST_AGAIN]


@dataclass(frozen=True, slots=True)
class Rates:
    """One link: GB/s each way of all GPUs together, and of each place."""

    gb_per_s: float
    by_place: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SlowPart:
    """What is slow: a node (with the places that are), or the link between two nodes."""

    what: str  # node, link
    nodes: tuple[int, ...]
    places: tuple[int, ...]
    gb_per_s: float  # a node has the median of its links
    typical: float
    limit: float  # the bandwidth below which it is slow

    @property
    def shortfall(self) -> float:
        return 1 - self.gb_per_s / self.typical

    def confirmed(self, again: Mapping[Link, float]) -> bool:
        """Whether the second measurement says the same; `again` has its links, in GB/s each way."""
        found = [rate for link, rate in again.items() if self.nodes in (link, link[:1], link[1:])]
        return bool(found) and median(found) < self.limit


@dataclass(frozen=True, slots=True)
class Judged:
    """The slow parts, the links to measure again for them, and what could have been found."""

    slow: list[SlowPart] = field(default_factory=list)
    wanted: list[Link] = field(default_factory=list)
    smallest_node: float | None = None  # slowness of a node that could have been found, as a share
    smallest_link: float | None = None
    reason: str | None = None  # why nobody can be named


def judge(links: Mapping[Link, Rates], nodes: int) -> Judged:
    """The slow nodes and links."""
    if nodes < FEWEST_NODES:
        few = f"{nodes} nodes: fewer than {FEWEST_NODES} show no spread"
        return Judged(reason=f"{few}, so compare with a baseline")
    medians = {node: median(_of(links, node)) for node in range(nodes) if _of(links, node)}
    node_limit = threshold(list(medians.values()), LEAST_GPU_SHORTFALL) if medians else None
    if node_limit is None:
        return Judged(reason="no link has a bandwidth")
    typical = median(medians.values())
    bad = {node for node, value in medians.items() if value < node_limit}
    others = {link: one.gb_per_s for link, one in links.items() if not bad.intersection(link)}
    link_limit = threshold(list(others.values()), LEAST_SHORTFALL) if others else None
    typical_link = median(others.values()) if others else None
    slow = [SlowPart("node", (node,), _places(links, node), medians[node], typical, node_limit) for node in sorted(bad)]
    if link_limit is not None and typical_link is not None:
        slow += [
            SlowPart("link", link, (), value, typical_link, link_limit)
            for link, value in sorted(others.items())
            if value < link_limit
        ]
    slow.sort(key=lambda one: (one.what != "node", -one.shortfall, one.nodes))
    wanted = [link for link in links if bad.intersection(link) or any(link == one.nodes for one in slow)]
    return Judged(
        slow,
        sorted(wanted),
        1 - node_limit / typical,
        None if link_limit is None or typical_link is None else 1 - link_limit / typical_link,
    )


def _of(links: Mapping[Link, Rates], node: int) -> list[float]:
    return [one.gb_per_s for link, one in links.items() if node in link]


def _places(links: Mapping[Link, Rates], node: int) -> tuple[int, ...]:
    """The places of a slow node that are slow, if not all of them are."""
    mine = [one.by_place for link, one in links.items() if node in link]
    width = min((len(one) for one in mine), default=0)
    found = []
    for place in range(width):
        own = median(one[place] for one in mine)
        other = [one.by_place[place] for link, one in links.items() if node not in link]
        if other and own < (1 - LEAST_GPU_SHORTFALL) * median(other):
            found.append(place)
    return tuple(found) if 0 < len(found) < width else ()
