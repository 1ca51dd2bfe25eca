"""A load test over several replicas: pooled percentiles, sums of rates, and a verdict that is the worst one's."""

import json
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.engine.request import Request
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.load_test import result
from llmval_runners.load_test.config import LoadConfig
from llmval_runners.load_test.exchange import packed, unpacked
from llmval_runners.load_test.generator import Load
from llmval_runners.load_test.last_screen import last_screen
from llmval_runners.load_test.metrics import Slo, percentile
from llmval_runners.load_test.options import parse
from llmval_runners.load_test.pooled import together
from llmval_runners.load_test.rate_trial import FAILS, HOLDS, INVALID, NextTrial, judge_trial
from llmval_runners.load_test.result import Measured, load_test_result
from llmval_runners.process.errors import Refused

from llmval_tui.actions.judges import load_test as judge
from llmval_tui.actions.judges.load_test_result import LoadResult, metrics_of, result_in
from llmval_tui.actions.judges.rate_search import _verdict
from llmval_tui.runs.records import Outcome
from tests.runners.load_test.test_verdict import CACHE, IDENTITY

VALID = fastjsonschema.compile(
    json.loads((Path(__file__).parents[3] / "docs/schemas/load_test.schema.json").read_text())
)
QPS, REPLICAS, SECONDS = 6.0, 3, 8.0
WORKLOAD: dict[str, Any] = {
    "target_qps": QPS, "duration_s": SECONDS, "burstiness": 1.0, "prompt_len": "fixed:3", "output_len": "fixed:2",
    "warmup_requests": 0, "max_in_flight": None, "temperature": 0.0, "seed": 0, "max_batch": 1, "prefill_chunk": 1,
}  # fmt: skip


def config(*flags: str, replica: int = 0, replicas: int = REPLICAS) -> LoadConfig:
    flags = ("--target-qps", f"{QPS}", "--duration", f"{SECONDS}", "--prompt-len", "3", "--output-len", "2", *flags)
    return LoadConfig.of(parse([*flags]), SHAPES["tiny"], replica, replicas)


def window(number: int, wait: float = 0.1, growth: float = 0.0, early: str | None = None) -> Measured:
    """One replica's window; TTFT is `wait` and grows by `growth` seconds a second."""
    load = config().load(replica=number)
    sent = []
    for arrival in load.arrivals:
        first = arrival.intended_s + wait + growth * arrival.intended_s
        sent.append(
            Request(
                arrival.index, [0] * 3, 2, arrival.intended_s, arrival.intended_s, array("d", [first, first + 0.02])
            )
        )
    facts = {
        "replica": number, "host": f"n{number}", "ranks": [number, number], "device_name": "CPU", "seed": load.seed,
        "target_qps": load.target_qps, "kv_cache": CACHE,
    }  # fmt: skip
    end = max(SECONDS, max(request.token_times[-1] for request in sent))
    return Measured(sent, load.arrivals, end, early, {}, facts)


def record(windows: list[Measured], slo: Slo | None = None) -> dict[str, Any]:
    identity = IDENTITY | {"data_parallel": REPLICAS}
    made = load_test_result(windows, identity, WORKLOAD, CACHE, slo or Slo())
    VALID(made := json.loads(json.dumps(made)))
    return made


def read(made: dict[str, Any]) -> LoadResult:
    found = result_in(made)
    assert found is not None
    return found


def arrivals_of(loads: list[Load]) -> list[list[float]]:
    return [[arrival.intended_s for arrival in load.arrivals] for load in loads]


def test_each_replica_has_its_share_as_arrivals_of_its_own() -> None:
    loads = [config().load(replica=number) for number in range(REPLICAS)]
    assert [load.target_qps for load in loads] == [QPS / REPLICAS] * REPLICAS
    assert [len(load.arrivals) for load in loads] == [16] * REPLICAS
    assert len({tuple(times) for times in arrivals_of(loads)}) == REPLICAS, "superposed, not repeated"
    alone = config("--target-qps", f"{QPS / REPLICAS}", replicas=1).load()
    assert arrivals_of([alone]) == arrivals_of(loads[:1]), "replica 0 has the load of a node tested alone"
    assert config(replica=2).load() == loads[2]
    with pytest.raises(Refused, match=r"each of 40 replicas takes its share of the rate: 0\.15 requests/s for 8 s"):
        config(replicas=40).load()


def test_the_seeds_of_replicas_are_not_those_of_trials() -> None:
    seeds = {config().load(seed=1000 * trial, replica=number).seed for trial in range(44) for number in range(3)}
    assert len(seeds) == 44 * 3


def test_percentiles_are_of_all_requests_and_rates_add() -> None:
    windows = [window(0, 0.1), window(1, 0.2), window(2, 0.7)]
    made = record(windows)
    ours = made["llmval"]
    pooled = [0.1] * 16 + [0.2] * 16 + [0.7] * 16
    for percent in (50, 90, 99):
        expected = percentile([1e3 * value for value in pooled], percent)
        assert ours["ttft_sched"][f"p{percent}_ms"] == pytest.approx(expected)
    assert ours["rates"]["offered_qps"] == pytest.approx(QPS)
    assert ours["rates"]["completed_qps"] == pytest.approx(sum(16 / one.duration_s for one in windows))
    assert made["output_throughput"] == pytest.approx(sum(32 / one.duration_s for one in windows))
    assert (made["completed"], made["num_prompts"], made["total_output_tokens"]) == (48, 48, 96)
    assert made["max_concurrent_requests"] is made["max_output_tokens_per_s"] is None, "clocks do not compare"
    assert [one["ttft_sched"]["p50_ms"] for one in ours["replicas"]] == pytest.approx([100, 200, 700])
    assert sorted(request["replica"] for request in ours["requests"]) == [0] * 16 + [1] * 16 + [2] * 16


def test_the_gaps_of_many_replicas_are_not_listed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = record([window(0), window(1), window(2)])
    monkeypatch.setattr(result, "MOST_GAPS", 47)
    short = record([window(0), window(1), window(2)])
    assert len(listed["itls"]) == 48 and short["itls"] == []
    assert short["p99_itl_ms"] == listed["p99_itl_ms"] == pytest.approx(20)
    alone = load_test_result([replace(window(0), replica={})], IDENTITY, WORKLOAD, CACHE, Slo())
    monkeypatch.setattr(result, "MOST_GAPS", 0)
    assert load_test_result([replace(window(0), replica={})], IDENTITY, WORKLOAD, CACHE, Slo())["itls"] == alone["itls"]


def test_one_overloaded_replica_overloads_all_and_is_named() -> None:
    made = record([window(0), window(1, growth=0.5), window(2)])
    verdict = made["llmval"]["verdict"]
    assert (verdict["word"], verdict["exit_code"]) == ("overloaded", 1)
    assert verdict["reason"].startswith("replica 1 on n1: the queue grew") and "n0" not in verdict["reason"]
    gate = judge._kept_up(read(made))
    assert gate.outcome is Outcome.FAIL and gate.measured.startswith("replica 1 on n1: ")
    assert metrics_of(read(made))["completed_qps"] == pytest.approx(made["llmval"]["rates"]["completed_qps"])


def test_a_service_level_must_be_kept_on_each_replica() -> None:
    """150 ms are kept by two thirds of all requests, and by none of one replica."""
    made = record([window(0), window(1), window(2, 0.2)], Slo(ttft_ms=150))
    assert made["llmval"]["verdict"]["word"] == "failed"
    [gate] = judge._slos(read(made))
    assert gate.outcome is Outcome.FAIL and gate.measured.startswith("replica 2 on n2: p99 200")
    assert made["llmval"]["slo_attainment"] == pytest.approx(2 / 3)
    good = record([window(0), window(1), window(2)], Slo(ttft_ms=150))
    assert good["llmval"]["verdict"]["word"] == "ok" and good["llmval"]["valid"]
    assert judge._slos(read(good))[0].outcome is Outcome.PASS


def test_the_judge_recomputes_the_sums_by_replica() -> None:
    made = record([window(0), window(1, 0.2), window(2)])
    found, rates = read(made), made["llmval"]["rates"]
    assert found.offered_qps == pytest.approx(rates["offered_qps"])
    assert found.achieved_qps == pytest.approx(rates["achieved_qps"])
    assert found.gpus == 3 and [part.name for part in found.replicas] == [f"replica {n} on n{n}" for n in range(3)]
    gates = (
        judge._worst(found, judge._generator_rate), judge._worst(found, judge._schedule_delay), judge._failed(found),
        judge._kept_up(found), judge._order(found), judge._sums(found), judge._runner_checks(found),
    )  # fmt: skip
    assert {gate.outcome for gate in gates} == {Outcome.PASS}


def without(number: int, made: dict[str, Any]) -> None:
    made["llmval"]["replicas"].pop(number)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: without(1, made),
        lambda made: made["llmval"].pop("replicas"),
        lambda made: made["llmval"]["requests"][0].update(replica=7),
        lambda made: made["llmval"]["replicas"][1].pop("host"),
        lambda made: made["llmval"].update(replicas=5),
        lambda made: made["llmval"]["replicas"][0].update(verdict=None),
    ],
)
def test_a_record_that_lacks_a_replica_is_not_a_record(spoil) -> None:
    made = record([window(0), window(1), window(2)])
    spoil(made)
    assert result_in(made) is None


def test_a_window_travels_whole() -> None:
    measured = window(1, early="ended by SIGINT")
    measured.sent[3].error = "ended by SIGINT"
    assert isinstance(measured.sent[4], Request)
    measured.sent[4].token_times = array("d")
    again = unpacked(packed(measured), measured.arrivals)
    fields = ("index", "intended_s", "dispatch_s", "token_times", "input_tokens", "output_tokens", "error", "done")
    for name in fields:
        assert [getattr(one, name) for one in again.sent] == [getattr(one, name) for one in measured.sent], name
    assert replace(again, sent=measured.sent) == measured


def test_a_run_that_ended_early_names_the_replica_whose_requests_are_missing() -> None:
    lost = Measured(
        [], config().load(replica=2).arrivals, 0.0, "its requests did not reach rank 0", {}, window(2).replica
    )
    made = record([window(0, early="ended by SIGINT"), window(1, early="replica 0: ended by SIGINT"), lost])
    ours = made["llmval"]
    assert ours["verdict"] == {"word": "ended early", "reason": "ended by SIGINT", "exit_code": 3}
    assert ours["partial"] and made["num_prompts"] == 32 and ours["rates"]["offered_qps"] is None
    assert any(reason.startswith("replica 2 on n2: its requests") for reason in ours["invalid_reasons"])
    assert read(made).partial and judge._runner_checks(read(made)).outcome is Outcome.INVALID
    assert "2 n2: ended early" in last_screen(made, "x.partial.json")


def test_the_last_screen_has_a_line_for_each_node_in_80_columns() -> None:
    screen = last_screen(record([window(0), window(1, growth=0.5), window(2)]), "x.json")
    lines = screen.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split("  ")[1] for line in lines if line.startswith(tuple(f"  {n} n{n}: " for n in range(3)))]
    assert names == ["1 n1: overloaded", "0 n0: ok", "2 n2: ok"], "the worst first"
    assert "3 replicas of 1" in screen


def test_a_trial_holds_if_each_replica_holds() -> None:
    def trial(*windows: Measured):
        return judge_trial(list(windows), Slo(ttft_ms=150), 0.9, NextTrial(1, QPS, "bracket", 0))

    good = trial(window(0), window(1), window(2))
    assert good.verdict == HOLDS == _verdict(good.as_json(), 0.9, 0.05) and good.offered_qps == pytest.approx(QPS)
    bad = trial(window(0), window(1), window(2, 0.2))
    assert bad.verdict == FAILS == _verdict(bad.as_json(), 0.9, 0.05)
    assert bad.reason.startswith("replica 2 on n2: ") and bad.goodput_share == 0.0
    late = window(1)
    for request in late.sent:
        assert isinstance(request, Request)
        request.dispatch_s *= 1.06  # less than 500 ms late, and under 95 % of the rate
    invalid = trial(window(0), late, window(2))
    assert invalid.verdict == INVALID == _verdict(invalid.as_json(), 0.9, 0.05), "the rates of all hide it"
    alone = judge_trial([replace(window(0), replica={})], Slo(ttft_ms=150), 0.9, NextTrial(1, 2.0, "bracket", 0))
    assert "replicas" not in alone.as_json()


def test_what_the_machines_did_together() -> None:
    def extras(joules: float, wait: float | None, source: str = "datasheet") -> dict[str, Any]:
        return {
            "queue": {"most_waiting": int(joules), "most_running": 2, "mean_wait_s": wait},
            "memory": {"kv_used_percent": joules},
            "energy": {
                "joules": joules, "power_w": joules / 2, "tokens_per_joule": 2.0, "gpus": 8, "power_limit_w": 700.0,
            },
            "utilisation": {
                "tflops_per_s": joules, "tb_per_s": 1.0, "missing": None,
                "mfu": [{"percent": joules, "peak": 100.0, "source": source}],
                "mbu": [{"percent": 25.0, "peak": 4.0, "source": "datasheet"}],
            },
        }  # fmt: skip

    found = together([(extras(10.0, 1.0), 3), (extras(30.0, 2.0), 1)])
    assert found["queue"] == {"most_waiting": 30, "most_running": 2, "mean_wait_s": 1.25}
    assert found["energy"] == {
        "joules": 40.0, "power_w": 20.0, "tokens_per_joule": 2.0, "gpus": 16, "power_limit_w": 1400.0,
    }  # fmt: skip
    assert found["utilisation"]["mfu"] == [{"percent": 20.0, "peak": 100.0, "source": "datasheet"}]
    other = together([(extras(10.0, 1.0), 3), (extras(30.0, None, "another GPU"), 0)])
    assert other["utilisation"]["mfu"] == [] and "different kinds" in other["utilisation"]["missing"]
    assert other["queue"]["mean_wait_s"] == 1.0, "a replica without an answer adds no wait"
    assert "energy" not in together([(extras(10.0, 1.0), 3), ({"queue": extras(1.0, 1.0)["queue"]}, 1)])
