"""The links between nodes: N/2 pairs of nodes at once, in rounds until each node has met each other one; then the ring.

Every GPU exchanges data with its counterpart, the GPU with the same place on the other node, both ways at once and all
GPUs of a node together, as a job over several nodes loads its adapters. No rank waits for another pair inside a timing.
In the ring each node sends to the next one and receives from the one before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from llmval_runners.collective.group import Group
from llmval_runners.collective.node_links import Judged, Link, Rates, judge, rounds_with, tournament
from llmval_runners.collective.operations import exchange
from llmval_runners.collective.pairs import check_received, send_buffer
from llmval_runners.collective.timing import eager

REPEATS = 3


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its name and its ranks in the order of their places."""

    name: str
    ranks: tuple[int, ...]


def nodes_of(facts: Sequence[Mapping[str, Any]], ranks_per_node: int | None) -> list[Node]:
    """The nodes of a group. `ranks_per_node`: this many consecutive ranks count as a node, to try it on one machine."""
    found: dict[tuple[str, int], list[int]] = {}
    for at, one in enumerate(facts):
        name = str(one["node"] or one["host"])
        found.setdefault((name, one["agent"] if ranks_per_node is None else at // ranks_per_node), []).append(at)
    names = [name for name, _ in found]
    return [
        Node(name if names.count(name) == 1 else f"{name} part {part}", tuple(ranks))
        for (name, part), ranks in found.items()
    ]


class FabricTest:
    """Measures the rounds and the ring, with buffers of `nbytes`. Every rank makes one, and calls it alike."""

    def __init__(
        self, group: Group, nodes: Sequence[Node], nbytes: int, iterations: int, *, shared: bool = False
    ) -> None:
        """`shared`: the ranks are on CPUs of one machine, where nothing crosses a link and nobody can be slow."""
        self.shared = shared
        self.group, self.nodes, self.iterations = group, nodes, iterations
        self.width = min(len(node.ranks) for node in nodes)  # GPUs of a node that take part
        elements = max(1, nbytes // 4)
        self.nbytes = elements * 4
        self._outgoing = send_buffer(elements, group.device, group.rank)
        self._incoming = torch.empty_like(self._outgoing)
        places = {rank: (at, place) for at, node in enumerate(nodes) for place, rank in enumerate(node.ranks)}
        mine = places[group.rank]
        self._place = mine if mine[1] < self.width else None  # a node with more GPUs than another lets some rest

    def run(self, done: Callable[[int, int], None]) -> dict[str, Any]:
        """`fabric` of the record. `done` is called after each round with how many of how many are over."""
        plan = tournament(len(self.nodes))
        links: dict[Link, dict[str, Any]] = {}
        for at, pairs in enumerate(plan):
            for link, measured in self._round(pairs).items():
                links[link] = {"round": at, **measured, "gb_per_s_again": None, "by_place_again": None}
            done(at + 1, len(plan) + 1)
        wanted = [] if self.shared else judge(rates_of(links), len(self.nodes)).wanted
        for again in rounds_with(plan, wanted):
            for link, measured in self._round(again).items():
                links[link] |= {"gb_per_s_again": measured["gb_per_s"], "by_place_again": measured["by_place"]}
                links[link]["wrong"] += measured["wrong"]
        ring = self._ring()
        done(len(plan) + 1, len(plan) + 1)
        return fabric_record(self.nodes, self.width, self.nbytes, len(plan), links, ring, shared=self.shared)

    def _round(self, pairs: Sequence[Link]) -> dict[Link, dict[str, Any]]:
        """Every pair of a round, at the same time: GB/s each way of all GPUs together, and of each place."""
        partner = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
        mine = None
        if self._place is not None and self._place[0] in partner:
            node, place = self._place
            peer = self.nodes[partner[node]].ranks[place]
            mine = (min(node, partner[node]), max(node, partner[node]), place, *self._exchange(peer, peer))
        return _links(self.nbytes, self.width, [one for one in self.group.gather(mine) if one is not None])

    def _ring(self) -> dict[str, Any]:
        mine, count = None, len(self.nodes)
        if self._place is not None:
            node, place = self._place
            to, source = self.nodes[(node + 1) % count].ranks[place], self.nodes[(node - 1) % count].ranks[place]
            mine = (place, *self._exchange(to, source))
        parts = [one for one in self.group.gather(mine) if one is not None]
        # A ring is as fast as its slowest step, and the ranks of a place wait for each other.
        slowest = {place: max(one[1] for one in parts if one[0] == place) for place in range(self.width)}
        return {
            "gb_per_s": sum(self.nbytes / seconds / 1e9 for seconds in slowest.values()),
            "wrong": sum(one[2] for one in parts),
        }

    def _exchange(self, to: int, source: int) -> tuple[float, int]:
        """Seconds of one exchange, the median over the repeats, and the wrong elements that came."""
        self._incoming.fill_(-1)

        def call() -> None:
            exchange(self._outgoing, to, self._incoming, source, self.group.measured)

        with self.group.guarded(f"the exchange of ranks {self.group.rank} and {to}"):
            call()
            seconds = median(eager(call, self.group.device, self.iterations) for _ in range(REPEATS))
        return seconds, check_received(self._incoming, source)


def _links(nbytes: int, width: int, parts: Sequence[tuple[int, int, int, float, int]]) -> dict[Link, dict[str, Any]]:
    found: dict[Link, dict[str, Any]] = {}
    for link in sorted({(one[0], one[1]) for one in parts}):
        mine = [one for one in parts if (one[0], one[1]) == link]
        by_place = [
            nbytes / max(one[3] for one in mine if one[2] == place) / 1e9 for place in range(width)
        ]  # of both ends the slower one
        found[link] = {"gb_per_s": sum(by_place), "by_place": by_place, "wrong": sum(one[4] for one in mine)}
    return found


def rates_of(links: Mapping[Link, Mapping[str, Any]]) -> dict[Link, Rates]:
    """The links of the first measurement as the rule takes them."""
    return {link: Rates(one["gb_per_s"], tuple(one["by_place"])) for link, one in links.items()}


def fabric_record(
    nodes: Sequence[Node], width: int, nbytes: int, rounds: int, links: Mapping[Link, dict[str, Any]],
    ring: dict[str, Any], *, shared: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """`fabric` of the record."""
    judged = judge(rates_of(links), len(nodes))
    if shared:
        judged = Judged(reason="these ranks are on CPUs of one machine: nothing crosses a link")
    again = {link: one["gb_per_s_again"] for link, one in links.items() if one["gb_per_s_again"] is not None}
    rates = sorted(one.gb_per_s for one in rates_of(links).values())
    typical = median(rates) if rates else None
    return {
        "nodes": [{"name": node.name, "ranks": list(node.ranks)} for node in nodes],
        "gpus_per_node": width,
        "bytes": nbytes,
        "rounds": rounds,
        "links": [
            {"nodes": [nodes[at].name for at in link], "numbers": list(link), **one}
            for link, one in sorted(links.items())
        ],
        "ring": ring,
        "typical_gb_per_s": typical,
        "ring_of_typical": ring["gb_per_s"] / typical if typical else None,
        "smallest_findable_node": judged.smallest_node,
        "smallest_findable_link": judged.smallest_link,
        "reason": judged.reason,
        "slow": [
            {
                "what": one.what, "nodes": [nodes[at].name for at in one.nodes], "places": list(one.places),
                "gb_per_s": one.gb_per_s, "typical_gb_per_s": one.typical, "shortfall": one.shortfall,
            }
            for one in judged.slow
            if one.confirmed(again)
        ],
    }  # fmt: skip
