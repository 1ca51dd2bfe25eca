"""Comparing load tests: only comparable runs, a verdict only if the interval excludes 0, always the same result."""

import argparse
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from llmval_tui.actions.steps.baseline_change import baseline_of
from llmval_tui.console.report import compare
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.report.comparison.bootstrap import (
    Interval,
    block_length,
    interval_of,
    resampled_means,
    resampled_percentiles,
)
from llmval_tui.report.comparison.compare import BETTER, SAME, WORSE, Comparison, compare_sides, exit_code
from llmval_tui.report.comparison.page import render
from llmval_tui.report.comparison.sides import side
from llmval_tui.runs.records import Outcome
from tests.report.conftest import Workspace, result_json


def sides(workspace: Workspace, first: dict[str, Any], second: dict[str, Any], *, anyway: bool = False) -> Comparison:
    one, other = workspace.run(first), workspace.run(second)
    return compare_sides(side(workspace.store, one.id, "A"), side(workspace.store, other.id, "B"), anyway=anyway)


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {change.name: change.verdict for change in comparison.changes}


@pytest.mark.parametrize("schedule", [0, 1])  # the same arrivals on both sides, and others
def test_slower_tokens_are_found_and_nothing_else(workspace: Workspace, schedule: int) -> None:
    comparison = sides(workspace, result_json(), result_json(seed=1, schedule=schedule, slower=1.3))
    found = verdicts(comparison)
    assert found["tpot_p50_ms"] == found["tpot_p99_ms"] == WORSE
    assert found["ttft_sched_p50_ms"] == SAME
    assert comparison.paired == (schedule == 0)
    assert exit_code(comparison) == ExitCode.FAILED
    tpot = next(change for change in comparison.changes if change.name == "tpot_p50_ms")
    assert tpot.interval is not None and tpot.interval.low < 6 < tpot.interval.high  # 20 ms × 0.3


def test_the_same_requests_on_both_sides_are_compared_pairwise(workspace: Workspace) -> None:
    """A difference of 1 % shows only if each request is compared with itself."""
    assert verdicts(sides(workspace, result_json(), result_json(slower=1.01)))["tpot_p50_ms"] == WORSE
    assert verdicts(sides(workspace, result_json(), result_json(slower=1.01, schedule=1)))["tpot_p50_ms"] == SAME


def test_direction_and_a_small_loss(workspace: Workspace) -> None:
    assert verdicts(sides(workspace, result_json(slower=1.3), result_json(seed=1)))["tpot_p50_ms"] == BETTER
    small = sides(workspace, result_json(), result_json(slower=1.03))
    assert verdicts(small)["tpot_p50_ms"] == WORSE  # significant but under 5 %, so it does not fail
    assert exit_code(small) == ExitCode.PASSED


def test_equals_differ_by_chance_alone(workspace: Workspace) -> None:
    comparison = sides(workspace, result_json(400, seed=2), result_json(400, seed=3))
    assert set(verdicts(comparison).values()) == {SAME}
    assert exit_code(comparison) == ExitCode.PASSED


def test_the_answer_is_the_same_every_time(workspace: Workspace) -> None:
    first, second = result_json(), result_json(seed=1)
    assert sides(workspace, first, second).changes == sides(workspace, first, second).changes


def test_too_few_requests_give_no_interval_and_no_word(workspace: Workspace) -> None:
    comparison = sides(workspace, result_json(15), result_json(15, slower=2.0))
    assert all(change.interval is None and change.verdict == "no interval" for change in comparison.changes)


def test_a_tail_of_few_requests_and_a_queue_of_few_blocks_give_no_interval(workspace: Workspace) -> None:
    found = verdicts(sides(workspace, result_json(199), result_json(199, seed=1, slower=1.3)))
    assert (found["tpot_p50_ms"], found["tpot_p99_ms"]) == (WORSE, "no interval")

    def queued(seed: int) -> dict[str, Any]:
        """Each request waits nearly as long as the one before it."""
        result, rng, wait = result_json(), random.Random(seed), 0.0
        for record in result["llmval"]["requests"]:
            wait = 0.98 * wait + rng.expovariate(10)
            record["first_token_s"] += wait
            record["last_token_s"] += wait
        return result

    found = verdicts(sides(workspace, queued(1), queued(2)))
    assert (found["ttft_sched_p50_ms"], found["tpot_p50_ms"]) == ("no interval", SAME)


def changed(part: str, **values: Any) -> dict[str, Any]:
    result = result_json()
    result["llmval"][part] |= values
    return result


@pytest.mark.parametrize(
    ("result", "intent", "reason"),
    [
        (changed("identity", model="8b"), {}, "model is tiny in A and 8b in B"),
        (changed("identity", dtype="bfloat16"), {}, "precision is float32 in A and bfloat16"),
        (changed("identity", tensor_parallel=4), {}, "GPUs is 2 × Test CPU in A and 4 × Test CPU in B"),
        (changed("workload", target_qps=16.0), {}, "target QPS is 8 in A and 16 in B"),
        (changed("workload", prompt_len="fixed:64"), {}, "prompt lengths is uniform:16:64 in A and fixed:64 in B"),
        (changed("workload", output_len="fixed:9"), {}, "output lengths is fixed:8 in A and fixed:9 in B"),
        (changed("workload", duration_s=60.0), {}, "duration (s) is 25 in A and 60 in B"),
        (changed("slo", ttft_ms=150), {}, "SLO is none in A and ttft<=150ms in B"),
        (None, {"preset": "smoke"}, "preset is none in A and smoke in B"),
        (None, {"host": {"gpu": {"driver_version": "580.1"}}}, "driver is none in A and 580.1 in B"),
        (
            None,
            {"host": {"gpu": {"driver_version": "580.1", "gpus": [{"index": 0, "power_limit_w": 500.0}]}}},
            "power limit (W) is none in A and 500 in B",
        ),
        (None, {"outcome": Outcome.INVALID}, "B was judged invalid"),
    ],
)
def test_incomparable_runs_are_refused_with_both_values(
    workspace: Workspace, result: dict[str, Any] | None, intent: dict[str, Any], reason: str
) -> None:
    one, other = workspace.run(), workspace.run(result, **intent)
    first, second = side(workspace.store, one.id, "A"), side(workspace.store, other.id, "B")
    with pytest.raises(Refused) as refused:
        compare_sides(first, second)
    assert reason in str(refused.value)
    shown = compare_sides(first, second, anyway=True)
    assert shown.changes and not any(change.verdict or change.fails for change in shown.changes)
    assert exit_code(shown) == ExitCode.UNDECIDED


def searched(found: float, above: float, ttft_ms: int = 150) -> dict[str, Any]:
    """A rate search; its last window confirmed the rate."""
    result = result_json()
    result["llmval"]["workload"]["target_qps"] = found
    result["llmval"]["slo"]["ttft_ms"] = ttft_ms
    result["llmval"]["search"] = {
        "outcome": "found", "max_qps": found, "lowest_not_held_qps": above, "min_goodput": 0.99, "trials": [],
    }  # fmt: skip
    return result


@pytest.mark.parametrize(
    ("second", "verdict", "interval", "code"),
    [
        (searched(27.0, 28.0), SAME, Interval(-2.0, 0.0), ExitCode.PASSED),  # the true rates may both be 28
        (searched(14.0, 14.5), WORSE, Interval(-15.0, -13.5), ExitCode.FAILED),
        (searched(30.0, 31.0), BETTER, Interval(1.0, 3.0), ExitCode.PASSED),
    ],
)
def test_two_searches_are_compared_by_their_highest_rates(
    workspace: Workspace, second: dict[str, Any], verdict: str, interval: Interval, code: ExitCode
) -> None:
    comparison = sides(workspace, searched(28.0, 29.0), second)
    (change,) = comparison.changes
    assert (change.name, change.verdict, change.interval) == ("max_qps", verdict, interval)
    assert exit_code(comparison) == code
    text = render(comparison, "text")
    assert "not a confidence interval" in " ".join(text.split()) and "bootstrap" not in text
    assert "paired" not in json.loads(render(comparison, "json"))["method"]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (changed("workload", target_qps=28.0), "kind of test is a search for the highest rate in A and one window"),
        (searched(28.0, 29.0, 5000), "SLO is ttft<=150ms+for-99% in A and ttft<=5000ms+for-99% in B"),
    ],
)
def test_a_search_is_only_compared_with_a_like_search(
    workspace: Workspace, second: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        sides(workspace, searched(28.0, 29.0), second)
    assert reason in str(refused.value)
    assert "target QPS" not in str(refused.value)


def test_a_run_is_not_compared_with_itself_nor_by_a_file_that_changed(workspace: Workspace) -> None:
    run = workspace.run()
    mine = side(workspace.store, run.id, "A")
    with pytest.raises(Refused, match="same result"):
        compare_sides(mine, mine)
    (workspace.folder / "artifacts" / "r1.json").write_text(json.dumps(result_json(seed=9)))
    with pytest.raises(Refused, match="overwritten"):
        side(workspace.store, run.id, "A")
    with pytest.raises(Refused, match="not judged"):
        side(workspace.store, workspace.run(outcome=None).id, "A")


def test_a_result_without_a_recorded_hash_is_refused(workspace: Workspace) -> None:
    run = workspace.run()
    verdict = json.loads((run.folder / "verdict.json").read_text())
    (run.folder / "verdict.json").write_text(json.dumps(verdict | {"evidence": []}))
    with pytest.raises(Refused, match=r"the verdict of \S+ has no hash of artifacts/r1\.json, so its requests"):
        side(workspace.store, run.id, "A")


def test_runs_on_a_cpu_compare_whether_or_not_their_records_tell_of_a_driver(workspace: Workspace) -> None:
    one, other = workspace.run(), workspace.run(result_json(seed=1), host=NO_DRIVER)
    comparison = compare_sides(side(workspace.store, one.id, "A"), side(workspace.store, other.id, "B"))
    assert comparison.judged and not {"driver", "power limit (W)"} & set(comparison.unknown)


def test_two_unknown_drivers_are_not_equal_on_gpus(workspace: Workspace) -> None:
    on_gpu = changed("identity", device="cuda")
    comparison = sides(workspace, on_gpu, on_gpu)
    assert comparison.machine_unknown == "driver and power limit (W) are not known in either run"
    assert exit_code(comparison) == ExitCode.UNDECIDED
    assert comparison.changes and not any(change.verdict for change in comparison.changes)
    assert any(change.interval for change in comparison.changes)
    with pytest.raises(Refused, match=r"model is tiny in A and 8b in B\. Repeat one under"):
        sides(workspace, on_gpu, changed("identity", device="cuda", model="8b"))


NO_DRIVER = {"name": "node1", "gpu": {"no_driver": True, "gpu_count": None, "gpus": [], "notes": ["…"]}}
WITH_GPUS: dict[str, Any] = {
    "name": "node1",
    "gpu": {"driver_version": "580.1", "gpu_count": 2, "gpus": [{"index": 0, "name": "H200", "power_limit_w": 700.0}]},
}


def of_server(url: str = "http://127.0.0.1:8000", **settings: Any) -> dict[str, Any]:
    """The result of a load test over HTTP: a server tells little of itself."""
    nothing = dict.fromkeys(("dtype", "kv_dtype", "weights", "tensor_parallel", "device", "device_name"))
    server = {"url": url, "engine": "vllm", "version": settings.pop("version", "0.11.0")}
    result = result_json(**settings)
    result["llmval"]["identity"] |= {**nothing, "server": server}
    return result


def compared_on(workspace: Workspace, host: dict[str, Any], *results: dict[str, Any], **intent: Any) -> Comparison:
    one, other = (workspace.run(result, host=host, **intent) for result in results)
    return compare_sides(side(workspace.store, one.id, "A"), side(workspace.store, other.id, "B"))


@pytest.mark.parametrize("host", [NO_DRIVER, WITH_GPUS])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "node1"])
def test_two_servers_on_this_machine_get_a_verdict(workspace: Workspace, host: dict[str, Any], name: str) -> None:
    url = f"http://{name}:8000"
    slower = of_server(url, seed=1, slower=1.3, version="0.12.0")
    comparison = compared_on(workspace, host, of_server(url), slower)
    assert verdicts(comparison)["tpot_p50_ms"] == WORSE and exit_code(comparison) == ExitCode.FAILED
    assert ("server", "vllm 0.11.0", "vllm 0.12.0") in comparison.other_differences
    # A server does not tell them; the reader must not take them for equal.
    assert comparison.unknown == ["model shape", "precision"]
    assert "Not known in either run, so not compared: model shape, precision." in " ".join(
        render(comparison, "text").split()
    )


@pytest.mark.parametrize("host", [NO_DRIVER, WITH_GPUS])
def test_of_a_server_elsewhere_the_driver_here_says_nothing(workspace: Workspace, host: dict[str, Any]) -> None:
    results = (of_server("http://gpu7:8000"), of_server("http://gpu7:8000", seed=1, slower=1.3))
    comparison = compared_on(workspace, host, *results)
    assert exit_code(comparison) == ExitCode.UNDECIDED
    assert not any(change.verdict for change in comparison.changes)
    text = " ".join(render(comparison, "text").split())
    assert "No verdict is given: driver and power limit (W) are not known in either run" in text
    assert "the server ran on another machine (http://gpu7:8000)" in text
    assert "% interval of B − A" in text and "fails" not in text
    value = json.loads(render(comparison, "json"))
    assert not value["comparable"] and len(value["reasons"]) == 1 and "driver" in value["unknown"]
    assert any(metric["interval"] for metric in value["metrics"])


def test_a_baseline_of_a_server_elsewhere_has_no_driver_of_this_machine(workspace: Workspace) -> None:
    def recorded(url: str) -> tuple[str, str]:
        item = side(workspace.store, workspace.run(of_server(url), host=WITH_GPUS).id, "A")
        identity = baseline_of(item.result, item.intent, "a.json", "0" * 64).identity
        return identity["driver"], identity["power_limit_w"]

    assert recorded("http://127.0.0.1:8000") == ("580.1", "700")
    assert recorded("http://gpu7:8000") == ("n/a", "n/a")


def test_a_server_that_the_list_started_ran_here_and_its_command_is_compared(workspace: Workspace) -> None:
    url = "http://node-of-the-list:8000"
    runs = [
        workspace.run(of_server(url, seed=seed), host=WITH_GPUS, servers=["20260102T030400Z-1.0-abc900"])
        for seed in (0, 1)
    ]
    for run, words in zip(runs, ("vllm serve m", "vllm serve m --dtype float16"), strict=True):
        known: dict[str, Any] = {
            "run_id": "20260102T030400Z-1.0-abc900", "number": "1.0", "command": words, "url": url, "model": "m",
            "version": "0.11.0", "versions": {}, "started_utc": None, "ready_utc": None, "ready_s": 1.0,
            "served_to_the_end": True, "problem": None, "exit_code": None, "run_json_sha256": "0" * 64, "logs": [],
        }  # fmt: skip
        write_json(run.folder / "servers.json", {"v": 1, "recorded_utc": "2026-01-02T03:05:05Z", "servers": [known]})
    comparison = compare_sides(*(side(workspace.store, run.id, label) for run, label in zip(runs, "AB", strict=True)))
    assert comparison.judged
    assert ("server's command", "vllm serve m", "vllm serve m --dtype float16") in comparison.other_differences


def test_servers_on_unlike_gpus_are_not_comparable(workspace: Workspace) -> None:
    other = {"name": "node1", "gpu": {**WITH_GPUS["gpu"], "gpus": [{"index": 0, "name": "B200", "power_limit_w": 700}]}}
    one, two = workspace.run(of_server(), host=WITH_GPUS), workspace.run(of_server(seed=1), host=other)
    with pytest.raises(Refused, match="GPUs is 1 × H200 in A and 1 × B200 in B"):
        compare_sides(side(workspace.store, one.id, "A"), side(workspace.store, two.id, "B"))


def test_command_line(
    workspace: Workspace, options: Callable[..., argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.run()
    workspace.run(result_json(seed=1, slower=1.3), environment={"NCCL_ALGO": "Ring"})
    assert compare(options(a="abc001", b="abc002")) == 1
    text = capsys.readouterr().out
    assert "worse, fails" in text and "NCCL_ALGO" in text and "\x1b" not in text
    assert compare(options(a="abc001", b="abc002", json=True)) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["exit_code"] == 1 and value["method"]["resamples"] == 1000
    for form in ("html", "md"):
        assert compare(options(a="abc001", b="abc002", format=form)) == 1
        assert "worse, fails" in capsys.readouterr().out


def test_blocks_grow_with_correlation() -> None:
    rng = random.Random(1)
    free = [rng.gauss(0, 1) for _ in range(1000)]
    bound, level = [], 0.0
    for value in free:
        level = 0.9 * level + value
        bound.append(level)
    assert block_length(free) <= 12 < block_length(bound)
    assert block_length([1.0] * 50) == 4


def test_the_interval_has_its_confidence() -> None:
    """Of 30 comparisons of equal, correlated series only a few exclude 0; without blocks, very many do."""
    rng = random.Random(2)

    def series() -> list[float]:
        level, values = 0.0, []
        for _ in range(400):
            level = 0.7 * level + rng.gauss(0, 1)
            values.append(level)
        return values

    def excluded(length: int | None) -> int:
        count = 0
        for _ in range(30):
            draws = [resampled_percentiles(series(), (50,), rng, length, resamples=100)[0] for _ in range(2)]
            count += interval_of(draws[0], draws[1]).excludes_zero
        return count

    assert excluded(None) <= 6
    assert excluded(1) >= 9


def test_means_and_intervals() -> None:
    means = resampled_means([1.0, 2.0, 3.0] * 20, random.Random(0))
    assert 1.9 < sum(means) / len(means) < 2.1
    assert interval_of([0.0] * 100, [1.0] * 100) == Interval(1.0, 1.0)
    assert not Interval(-1, 1).excludes_zero and Interval(-2, -1).excludes_zero
