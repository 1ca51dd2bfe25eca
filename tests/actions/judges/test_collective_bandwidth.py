"""The judge of collective_bandwidth.py: every doubt has its gate, and it agrees with the runner's verdict."""

import json
from typing import Any

import pytest
from llmval_runners.collective import baseline, expected, record
from llmval_runners.collective.verdict import verdict_of

from llmval_tui.actions.judges.slow_pairs import slow_in
from llmval_tui.actions.steps.command import judge_results
from llmval_tui.runs.records import Outcome, worst
from tests.helpers.collective_records import LIST, gpu, record_of

BY_CODE = {0: Outcome.PASS, 1: Outcome.FAIL, 3: Outcome.INCONCLUSIVE}


def bad(run: Any) -> dict[str, Outcome]:
    return {gate.name: gate.outcome for gate in judge_results(run)[0] if gate.outcome is not Outcome.PASS}


def test_a_healthy_node_passes_with_its_figures(collective_run: Any) -> None:
    gates, metrics, summary, _ = judge_results(collective_run(record_of(8)))
    assert {gate.name for gate in gates} == {
        "complete", "results", "figures", "links", "pairs", "all-reduce", "NVLink counters"
    }  # fmt: skip
    assert worst(gates) is Outcome.PASS
    assert metrics["all_reduce_busbw_gb_per_s"] == pytest.approx(360.0)
    assert metrics["all_reduce_of_line_percent"] == pytest.approx(80.0)
    assert metrics["wrong"] == 0.0
    assert summary.startswith("8 ranks on 1 node, all-reduce 360.0 GB/s busbw, pairs 37")


def slow_pair() -> dict[str, Any]:
    return record_of(8, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0)


def lost_link() -> dict[str, Any]:
    return record_of(8, rate=lambda cell: 17 / 18 if 2 in (cell.source, cell.target) else 1.0)


def link_down() -> dict[str, Any]:
    gpus = [gpu(rank) for rank in range(8)]
    gpus[6] = gpu(6, active=17, inactive=[5])
    return record_of(8, gpus=gpus)


def shared_memory() -> dict[str, Any]:
    made = record_of(2, busbw=21.0, rate=lambda cell: 0.06 if cell.method == "nccl" else 1.0)
    for one in made["pairs"]["cells"]:
        if one["method"] == "nccl":
            one["source_tx_bytes"] = one["target_rx_bytes"] = 4096
    by_pair = {(one["from"], one["to"]): one for one in made["pair_paths"]}
    made["counters"]["readings"] = record.counter_readings(made["pairs"]["cells"], by_pair)
    return made


def changed(**change: Any) -> dict[str, Any]:
    return record_of(8) | change


def wrong_sum() -> dict[str, Any]:
    made = record_of(8)
    made["rows"][2]["wrong_int32"] = 5
    return made


def no_graph() -> dict[str, Any]:
    made = record_of(8)
    for one in made["rows"]:
        if one["mode"] == "graph":
            one |= {"time_us": None, "algbw_gb_per_s": None, "busbw_gb_per_s": None, "reason": "no graph"}
    return made


def odd_counters() -> dict[str, Any]:
    made = record_of(8)
    for one in made["counters"]["readings"]:
        one |= {"tx_bytes": int(1.06 * one["sent_bytes"]), "tx_share": 1.06}
    return made


def no_counters() -> dict[str, Any]:
    return changed(counters={"readings": [], "reason": "NVML cannot be used"})


def slower_than_before() -> dict[str, Any]:
    made = record_of(8, busbw=330.0)
    known = {
        "path": "b.json", "sha256": "", "date": "", "ranks": 8, "gpu": "", "tolerance_percent": 5.0,
        "figures": dict(baseline._figures(record_of(8))),
    }  # fmt: skip
    return made | {"baseline": baseline.compared(known, made)}


@pytest.mark.parametrize(
    ("made", "gates"),
    [
        (slow_pair(), {"pairs": Outcome.FAIL}),
        (lost_link(), {"pairs": Outcome.FAIL}),
        (link_down(), {"links": Outcome.FAIL}),
        (
            shared_memory(),
            {"pairs": Outcome.FAIL, "all-reduce": Outcome.FAIL, "NVLink counters": Outcome.FAIL},
        ),
        (wrong_sum(), {"results": Outcome.FAIL}),
        (no_graph(), {"complete": Outcome.INCONCLUSIVE}),
        (odd_counters(), {"NVLink counters": Outcome.INCONCLUSIVE}),
        (changed(ended_early="ended by signal 2"), {"complete": Outcome.INCONCLUSIVE}),
        (no_counters(), {}),
        (record_of(8, busbw=200.0), {"all-reduce": Outcome.FAIL}),
        (record_of(8, busbw=330.0, min_busbw=340.0), {"all-reduce": Outcome.FAIL}),
        (record_of(4, kind=expected.PCIE), {"all-reduce": Outcome.INCONCLUSIVE}),
        (record_of(4, kind=expected.PCIE, min_busbw=30.0), {}),
        (slower_than_before(), {"baseline": Outcome.FAIL}),
        (
            record_of(1),
            {"complete": Outcome.INCONCLUSIVE, "pairs": Outcome.INCONCLUSIVE, "all-reduce": Outcome.INCONCLUSIVE},
        ),
    ],
)
def test_each_doubt_has_its_gate_and_the_runner_says_the_same(
    collective_run: Any, made: dict[str, Any], gates: dict[str, Outcome]
) -> None:
    run = collective_run(made)
    assert bad(run) == gates
    assert BY_CODE[verdict_of(made).exit_code] is worst(judge_results(run)[0])


def test_the_judge_trusts_no_sum_of_the_record(collective_run: Any) -> None:
    made = slow_pair() | {"slow": [], "verdict": {"word": "ok", "reason": "", "exit_code": 0}}
    assert bad(collective_run(made)) == {"pairs": Outcome.FAIL}
    forged = record_of(8, busbw=100.0)
    for one in forged["rows"]:
        one["busbw_gb_per_s"] *= 3.6
    assert bad(collective_run(forged)) == {"figures": Outcome.INVALID}


@pytest.mark.parametrize("seed", range(12))
def test_both_find_the_same_slow_ones(seed: int) -> None:
    made = record_of(
        8, noise=0.02, seed=seed, rate=lambda cell: 0.88 if (cell.source, cell.target) == (seed % 7, 7) else 1.0
    )
    names = {
        f"pair {one['ranks'][0]}→{one['ranks'][1]}" if one["what"] == "pair" else f"GPU {one['ranks'][0]} {one['what']}"
        for one in made["slow"]
    }
    assert set(slow_in(made)) == names


def test_another_file_is_not_a_record(collective_run: Any) -> None:
    assert bad(collective_run({"kind": "load_test"})) == {"record": Outcome.INVALID}


def test_criteria_name_its_figures(collective_run: Any, workspace: Any) -> None:
    stated = LIST.replace("`.\n", '`. <!-- llmval: expect="result all_reduce_busbw_gb_per_s >= 400 GB/s" -->\n')
    proposal = workspace.propose(stated, "1.1")
    assert proposal.refusal is None
    assert any("every pair of GPUs" in line for line in proposal.details), proposal.details
    assert [artifact.path for artifact in proposal.artifacts] == [
        "artifacts/collectives.json", "artifacts/collectives.nccl-tests"
    ]  # fmt: skip


def test_one_rank_promises_no_layout_of_nccl_tests(workspace: Any) -> None:
    proposal = workspace.propose(LIST.replace("nproc_per_node=8", "nproc_per_node=1"), "1.1")
    assert [artifact.path for artifact in proposal.artifacts] == ["artifacts/collectives.json"]


def test_the_smoke_preset_is_small_and_runs_on_a_cpu(workspace: Any) -> None:
    proposal = workspace.propose(LIST, "1.1", preset="smoke", gpus=0)
    assert proposal.refusal is None, proposal.refusal
    argv = json.dumps(proposal.commands[0].argv)
    assert '"--max-bytes", "64K"' in argv and '"--device", "cpu"' in argv and "2" in argv
