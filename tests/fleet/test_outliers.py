"""The rule that names a slow node, and its simulation; `python -m benchmarks outliers` has more seeds."""

import json
import random

import pytest

from benchmarks.fleet_outliers import simulate
from llmval_tui.actions.headline import _KNOWN
from llmval_tui.fleet.outliers import (
    FEWEST_NODES,
    decide,
    decide_all,
    deviation,
    group_of,
    judge,
    named_nodes,
    reasons,
    repeat_wanted,
    statistics,
)
from llmval_tui.fleet.record import NodeOutcome, NodeResult
from llmval_tui.foundation.files import to_json
from llmval_tui.runs.definitions import define

NODES = [f"n{number:02}" for number in range(16)]


def fleet(slow=None, value=100.0, by=0.94, nodes=NODES):
    """Nodes a little apart; `slow` has `by` of the others."""
    figures = {node: value * (1 + 0.002 * (at % 5 - 2)) for at, node in enumerate(nodes)}
    return figures | ({slow: value * by} if slow else {})


def results(metrics, groups=None, outcome=NodeOutcome.PASS):
    return {
        node: NodeResult(outcome, metrics=figures, group=groups[node] if groups else "H200")
        for node, figures in metrics.items()
    }


def test_a_slow_node_is_suspected_and_named_after_the_repeat():
    found = judge(fleet("n03"), "higher")
    assert found.suspects == ["n03"] and found.named == [] and len(found.references) == 2
    assert found.smallest_findable == pytest.approx(0.03) and not found.reason
    repeated = {"n03": 94.5, **dict.fromkeys(found.references, 100.0)}
    assert decide(found, repeated, "higher").named == ["n03"]


def test_a_node_that_was_slow_once_is_cleared():
    found = judge(fleet("n03"), "higher")
    after = decide(found, {"n03": 99.0, **dict.fromkeys(found.references, 100.0)}, "higher")
    assert after.named == [] and after.repeat.cleared == ["n03"]


def test_what_slowed_everything_in_the_meantime_names_nobody():
    found = judge(fleet("n03"), "higher")
    after = decide(found, {"n03": 79.0, **dict.fromkeys(found.references, 80.0)}, "higher")
    assert after.repeat.cleared == ["n03"]


@pytest.mark.parametrize("gone", ["n03", "reference"])
def test_without_a_second_figure_nobody_is_named_or_cleared(gone):
    found = judge(fleet("n03"), "higher")
    repeated = {"n03": 94.0, **dict.fromkeys(found.references, 100.0)}
    del repeated[found.references[0] if gone == "reference" else gone]
    after = decide(found, repeated, "higher")
    assert (after.named, after.repeat.cleared, after.repeat.undecided) == ([], [], ["n03"])


def test_fewer_than_eight_nodes_have_no_outlier_word():
    few = {f"n{number}": 100.0 for number in range(FEWEST_NODES - 2)} | {"n9": 50.0}
    found = judge(few, "higher")
    assert found.suspects == [] and found.smallest_findable is None and "baseline" in found.reason
    assert found.median == 100.0
    assert judge(few | {"n8": 100.0}, "higher").suspects == ["n9"]


def test_more_is_worse_for_a_latency():
    assert judge(fleet("n03", by=1.1), "lower").suspects == ["n03"]
    assert judge(fleet("n03", by=0.9), "lower").suspects == []
    assert judge(fleet("n03", by=1.1), "higher").suspects == []


def test_two_per_cent_is_not_a_difference_that_matters():
    assert judge(fleet("n03", by=0.975), "higher").suspects == []


def test_noise_raises_the_smallest_slowness_that_can_be_found():
    random.seed(1)
    noisy = {node: random.gauss(100, 3) for node in NODES}
    assert judge(noisy, "higher").smallest_findable > 0.06


def test_unknown_figures_and_a_median_of_zero_are_said():
    assert judge(dict.fromkeys(NODES), "higher").reason == "no node has a figure"
    assert "not above 0" in judge(dict.fromkeys(NODES, 0.0), "lower").reason
    assert judge(fleet("n03") | {"n15": None}, "higher").n == 15


def test_groups_are_judged_apart_and_metrics_without_a_direction_are_left_out():
    slow_kind = {f"h{at}": 50.0 for at in range(8)}
    figures = fleet() | slow_kind
    metrics = {node: {"completed_qps": value, "requests": value} for node, value in figures.items()}
    groups = {node: "H100" if node.startswith("h") else "H200" for node in figures}
    found = statistics(results(metrics, groups))
    assert list(found) == ["completed_qps"] and list(found["completed_qps"].groups) == ["H100", "H200"]
    assert repeat_wanted(found) == ([], [])


def test_the_repeat_measures_suspects_and_references_of_every_metric():
    metrics = {
        node: {"completed_qps": rate, "ttft_p99_ms": latency}
        for (node, rate), latency in zip(fleet("n03").items(), fleet("n05", by=1.2).values(), strict=True)
    }
    found = statistics(results(metrics))
    suspects, references = repeat_wanted(found)
    assert suspects == ["n03", "n05"] and not set(suspects) & set(references) and len(references) >= 2
    again = {node: {"completed_qps": 100.0, "ttft_p99_ms": 100.0} for node in references}
    again |= {"n03": {"completed_qps": 94.0, "ttft_p99_ms": 100.0}, "n05": {"completed_qps": 100.0}}
    after = decide_all(found, again)
    assert list(reasons(after)) == ["n03"] and "6.0 % worse" in reasons(after)["n03"][0]
    assert named_nodes(after) == ["n03"] and after["ttft_p99_ms"].groups["H200"].repeat.undecided == ["n05"]


def test_the_same_evidence_gives_the_same_bytes():
    seen = set()
    nodes = list(fleet("n03").items())
    for seed in range(20):
        random.Random(seed).shuffle(nodes)
        metrics = {node: {"completed_qps": value, "ttft_p99_ms": 3 * value} for node, value in nodes}
        found = statistics(results(metrics))
        seen.add(to_json(found))
    assert len(seen) == 1 and json.loads(seen.pop())["completed_qps"]["groups"]["H200"]["suspects"] == ["n03"]


def test_the_direction_of_a_metric_is_that_of_the_list_of_runs():
    for figure in (one for alternatives in _KNOWN for one in alternatives):
        assert define(figure.name.replace("_N", "_65536")).better == figure.better, figure.name


def test_simulated_fleets():
    """With fewer seeds than the benchmark: 300 give a standard error of 0.9 points at 97.5 %."""
    found, named_healthy = simulate(300, slow=0.06, noise=0.01)
    assert found >= 0.95 and named_healthy <= 0.01
    assert simulate(100, slow=0.0, noise=0.02)[1] <= 0.01


def test_a_group_in_words():
    node = {"gpu": "NVIDIA H200", "gpu_count": 8, "driver": "580.1", "power_limit_w": 700.0}
    assert group_of(node) == "NVIDIA H200, driver 580.1, 700 W"
    assert group_of(node | {"gpu_count": 7}) == group_of(node)
    assert group_of({"gpu_count": 0}) == "no GPU"
    assert group_of({}) == "GPU unknown, driver unknown, power limit unknown"


def test_a_node_that_did_not_report_or_whose_run_is_invalid_counts_for_nothing():
    nodes = results({node: {"completed_qps": value} for node, value in fleet("n03").items()})
    for outcome in (NodeOutcome.LOST, NodeOutcome.INVALID):
        nodes["n03"] = NodeResult(outcome, "a reason", {"completed_qps": 50.0}, group="H200")
        found = statistics(nodes)["completed_qps"].groups["H200"]
        assert found.n == 15 and found.suspects == []


def test_deviation_keeps_the_sign_of_the_figure():
    assert deviation(94.0, 100.0) == pytest.approx(-0.06)
    assert deviation(None, 100.0) is None and deviation(1.0, None) is None and deviation(1.0, 0.0) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_not_a_number_does_not_count(value):
    found = judge({**fleet("n03"), "n07": value}, "higher")
    assert found.suspects == ["n03"] and found.n == 15
    repeated = {"n03": value, **dict.fromkeys(found.references, 100.0)}
    assert decide(found, repeated, "higher").repeat.undecided == ["n03"]
    assert decide(found, {"n03": 94.5, **dict.fromkeys(found.references, value)}, "higher").named == []
