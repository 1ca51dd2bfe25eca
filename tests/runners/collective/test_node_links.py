"""Rounds of pairs of nodes, and who is slow by intersection."""

import random

import pytest
from llmval_runners.collective.node_links import FEWEST_NODES, Rates, judge, rounds_with, tournament
from llmval_runners.collective.rounds import Node, fabric_record, nodes_of

from llmval_tui.actions.judges.slow_pairs import slow_nodes_in

WIDTH = 8


def fleet(nodes, factor=lambda link: 1.0, place=lambda node, at: 1.0, noise=0.005, seed=0):
    """Links of healthy nodes, 8 × 45 GB/s; `factor` of a link, `place` of one GPU of a node."""
    draw = random.Random(seed)
    found = {}
    for pairs in tournament(nodes):
        for link in pairs:
            by_place = tuple(
                45.0 * factor(link) * min(place(link[0], at), place(link[1], at)) * draw.gauss(1, noise)
                for at in range(WIDTH)
            )
            found[link] = Rates(sum(by_place), by_place)
    return found


def recorded(first, again, nodes):
    links = {
        link: {
            "round": 0, "gb_per_s": one.gb_per_s, "by_place": list(one.by_place), "wrong": 0,
            "gb_per_s_again": again[link].gb_per_s if link in again else None,
            "by_place_again": list(again[link].by_place) if link in again else None,
        }
        for link, one in first.items()
    }  # fmt: skip
    named = [Node(f"n{at}", tuple(range(WIDTH * at, WIDTH * at + WIDTH))) for at in range(nodes)]
    return fabric_record(named, WIDTH, 1 << 28, nodes - 1, links, {"gb_per_s": 300.0, "wrong": 0})


def names(fabric):
    return [(one["what"], *one["nodes"]) for one in fabric["slow"]]


@pytest.mark.parametrize("nodes", [2, 3, 7, 8, 64])
def test_every_two_nodes_meet_once_and_no_node_twice_in_a_round(nodes):
    plan = tournament(nodes)
    assert len(plan) == nodes - 1 + nodes % 2
    met = [link for pairs in plan for link in pairs]
    assert sorted(met) == [(a, b) for a in range(nodes) for b in range(a + 1, nodes)]
    for pairs in plan:
        ends = [node for link in pairs for node in link]
        assert len(ends) == len(set(ends)) == nodes // 2 * 2


def test_a_slow_node_is_found_by_what_its_links_have_in_common():
    def slow(link):
        return 0.94 if 5 in link else 1.0

    first, second = fleet(16, slow), fleet(16, slow, seed=1)
    judged = judge(first, 16)
    assert [(one.what, one.nodes) for one in judged.slow] == [("node", (5,))]
    assert all(5 in link for link in judged.wanted) and len(judged.wanted) == 15
    again = {link: second[link] for pairs in rounds_with(tournament(16), judged.wanted) for link in pairs}
    fabric = recorded(first, again, 16)
    assert names(fabric) == [("node", "n5")] and fabric["slow"][0]["shortfall"] == pytest.approx(0.06, abs=0.01)
    assert slow_nodes_in(fabric) == ["node n5"], "the judge finds the same"


def test_a_slow_link_between_two_good_nodes_is_the_path_between_them():
    def slow(link):
        return 0.85 if link == (2, 9) else 1.0

    first = fleet(16, slow)
    fabric = recorded(first, {(2, 9): fleet(16, slow, seed=1)[2, 9]}, 16)
    assert names(fabric) == [("link", "n2", "n9")]
    assert slow_nodes_in(fabric) == ["the link between n2 and n9"]


def test_one_adapter_of_a_node_is_named():
    first = fleet(12, place=lambda node, at: 0.5 if (node, at) == (3, 6) else 1.0)
    (slow,) = judge(first, 12).slow
    assert (slow.what, slow.nodes, slow.places) == ("node", (3,), (6,))


def test_what_was_slow_once_is_not_named():
    first, second = fleet(16, lambda link: 0.9 if 5 in link else 1.0), fleet(16, seed=1)
    again = {link: second[link] for link in judge(first, 16).wanted[:7]}
    fabric = recorded(first, again, 16)
    assert names(fabric) == [] and slow_nodes_in(fabric) == []
    assert names(recorded(first, {}, 16)) == [], "nor what was not measured again"


def test_fewer_than_eight_nodes_name_nobody():
    judged = judge(fleet(FEWEST_NODES - 1, lambda link: 0.5 if 1 in link else 1.0), FEWEST_NODES - 1)
    assert judged.slow == [] and "baseline" in judged.reason
    assert slow_nodes_in(recorded(fleet(4, lambda link: 0.5 if 1 in link else 1.0), {}, 4)) == []


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_no_node_of_a_healthy_fleet_is_named(noise):
    for seed in range(20):
        first, second = fleet(16, noise=noise, seed=seed), fleet(16, noise=noise, seed=seed + 1000)
        again = {link: second[link] for link in judge(first, 16).wanted}
        assert names(recorded(first, again, 16)) == [], seed


def test_nodes_are_those_of_slurm_of_the_host_or_so_many_ranks():
    facts = [{"host": "vm", "node": f"n{at // 2}", "agent": at // 2} for at in range(4)]
    assert [(one.name, one.ranks) for one in nodes_of(facts, None)] == [("n0", (0, 1)), ("n1", (2, 3))]
    facts = [{"host": f"h{at // 2}", "node": None, "agent": at // 2} for at in range(4)]
    assert [one.name for one in nodes_of(facts, None)] == ["h0", "h1"]
    same = [one | {"host": "vm"} for one in facts]
    assert [(one.name, one.ranks) for one in nodes_of(same, None)] == [("vm part 0", (0, 1)), ("vm part 1", (2, 3))]
    assert [one.ranks for one in nodes_of(facts, 1)] == [(0,), (1,), (2,), (3,)]
