"""The rule for slow pairs and GPUs: how often it names a healthy node, and what it finds.

Simulated with normal noise and fixed seeds; docs/collectives.md has a larger table made in the same way.
"""

import random
from collections.abc import Callable

import pytest
from llmval_runners.collective.compare import compare
from llmval_runners.collective.outliers import Pair, confirmed, smallest_findable, suspects
from llmval_runners.collective.pairs import Cell, cells

TRIALS = 150


def matrix(ranks: int, noise: float, source: random.Random, factor: Callable[[Pair], float]) -> dict[Pair, float]:
    pairs = [(one, other) for one in range(ranks) for other in range(ranks) if one != other]
    return {pair: 380 * factor(pair) * (1 + source.gauss(0, noise)) for pair in pairs}


def found(ranks: int, noise: float, seed: int, factor: Callable[[Pair], float] = lambda pair: 1.0) -> set[tuple]:
    source = random.Random(seed)
    first = matrix(ranks, noise, source, factor)
    second = confirmed(first, lambda pairs: {p: matrix(ranks, noise, source, factor)[p] for p in pairs})
    return {(one.what, *one.ranks) for one in second}


def share(ranks: int, noise: float, wanted: tuple, factor: Callable[[Pair], float]) -> float:
    return sum(wanted in found(ranks, noise, seed, factor) for seed in range(TRIALS)) / TRIALS


@pytest.mark.parametrize(("ranks", "noise"), [(4, 0.01), (8, 0.005), (8, 0.02)])
def test_a_healthy_node_is_not_named(ranks: int, noise: float) -> None:
    assert sum(bool(found(ranks, noise, seed)) for seed in range(TRIALS)) <= 1


@pytest.mark.parametrize(("ranks", "noise", "slow", "least"), [(8, 0.005, 0.94, 0.9), (4, 0.01, 0.9, 0.95)])
def test_a_slow_pair_is_found_in_its_direction_only(ranks: int, noise: float, slow: float, least: float) -> None:
    throttled = lambda pair: slow if pair == (1, 2) else 1.0  # noqa: E731
    assert share(ranks, noise, ("pair", 1, 2), throttled) >= least
    assert all(("pair", 2, 1) not in found(ranks, noise, seed, throttled) for seed in range(20))


def test_a_gpu_that_lost_one_link_of_eighteen_is_named_once_for_all_its_pairs() -> None:
    lost = lambda pair: 17 / 18 if 2 in pair else 1.0  # noqa: E731
    assert share(8, 0.01, ("sends", 2), lost) == 1.0
    assert found(8, 0.002, 0, lost) == {("sends", 2), ("receives", 2)}


def test_a_suspect_that_is_fast_the_second_time_is_not_named() -> None:
    first = matrix(8, 0.0, random.Random(0), lambda pair: 0.5 if pair == (0, 1) else 1.0)
    asked = []

    def again(pairs: list[Pair]) -> dict[Pair, float]:
        asked.extend(pairs)
        return dict.fromkeys(pairs, 380.0)

    assert [one.ranks for one in suspects(first)] == [(0, 1)]
    assert confirmed(first, again) == []
    assert asked == [(0, 1)], "only the suspect is measured again"


def test_two_gpus_are_not_compared_with_each_other() -> None:
    assert suspects({(0, 1): 380.0, (1, 0): 100.0}) == []
    assert smallest_findable([380.0, 100.0]) is None


def test_the_noise_sets_the_smallest_slowness_that_can_be_found() -> None:
    calm, rough = (list(matrix(8, noise, random.Random(1), lambda _: 1.0).values()) for noise in (0.001, 0.03))
    assert smallest_findable(calm) == pytest.approx(0.05)
    assert 0.08 < (smallest_findable(rough) or 0) < 0.16


def test_like_is_compared_with_like() -> None:
    """Two sockets with four GPUs each: the paths over the socket link are slow, and no fault."""
    wanted = [cell for cell in cells("nccl", ["n"] * 8) if cell.method == "copy_engine"]
    far = {(a, b) for a in range(8) for b in range(8) if a // 4 != b // 4}
    paths = {
        (a, b): {"kind": "PCIe", "path": "SYS" if (a, b) in far else "PIX", "line_gb_per_s": 31.5}
        for a in range(8) for b in range(8) if a != b
    }  # fmt: skip

    def rate(cell: Cell) -> float:
        place = cell.source, cell.target
        return cell.directions * (12.0 if place in far else 26.0) * (0.6 if place == (5, 6) else 1.0)

    compared = compare({cell: rate(cell) for cell in wanted}, paths, ["n"] * 8, rate)
    assert {tuple(one["ranks"]) for one in compared.slow} == {(5, 6)}
    assert {(one["cells"], one["directions"]) for one in compared.compared} == {(24, 1), (32, 1), (12, 2), (16, 2)}
