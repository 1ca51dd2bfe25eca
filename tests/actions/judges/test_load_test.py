"""The judge of load tests finds every defect in the request records, whatever the file claims."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmval_tui.actions.judge import judge
from llmval_tui.actions.judges.load_test_result import metrics_of, read_result
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.request_records import percentile_ms
from llmval_tui.runs import artifact_snapshot
from llmval_tui.runs.records import Outcome
from tests.helpers.drift_lists import RUN_ITEM


@pytest.fixture
def result(result_json):
    return result_json()


def outcomes(run):
    gates, metrics, summary, question = action_named("command").judge(run)
    assert question is None
    assert summary
    return {gate.name: gate.outcome for gate in gates if gate.outcome is not Outcome.PASS}, metrics


def test_a_good_result_passes_with_its_figures(load_run, result):
    bad, metrics = outcomes(load_run(result))
    assert bad == {}
    assert metrics["ttft_p50_ms"] == pytest.approx(100)
    assert metrics["ttft_sched_p99_ms"] == pytest.approx(101)
    assert metrics["tpot_p50_ms"] == pytest.approx(20)
    assert metrics["e2e_sched_p50_ms"] == pytest.approx(241)
    assert metrics["offered_qps"] == pytest.approx(28)
    assert metrics["achieved_qps"] == pytest.approx(28)
    duration = 59 / 28 + 0.241
    assert metrics["output_tokens_per_s"] == pytest.approx(480 / duration)


def slow_generator(value):
    for record in value["llmval"]["requests"]:
        for key in ("dispatch_s", "first_token_s", "last_token_s"):
            record[key] += 0.08 * record["intended_s"]


def late_once(value):
    for record in value["llmval"]["requests"][:3]:
        for key in ("dispatch_s", "first_token_s", "last_token_s"):
            record[key] += 0.7


def one_failed(value):
    value["llmval"]["requests"][5] |= {"error": "out of pages", "first_token_s": None, "last_token_s": None}
    value["llmval"]["requests"][5]["output_tokens"] = 0
    value |= {"completed": 59, "failed": 1, "total_output_tokens": 472}


def before_arrival(value):
    value["llmval"]["requests"][7]["dispatch_s"] -= 0.01


def tokens_made_up(value):
    value["total_output_tokens"] += 1


def never_sent(value):
    value["llmval"]["invalid_reasons"] = ["only 60 of 90 requests were sent"]


def partial(value):
    value["llmval"]["partial"] = True


def slo_missed(value):
    value["llmval"]["slo"]["ttft_ms"] = 100.5


def fell_back(value):
    value["llmval"]["identity"]["attention_backend"] = "sdpa"


def fewer_ranks(value):
    value["llmval"]["identity"]["tensor_parallel"] = 1


def saturated(value):
    """A node that serves half of the load: each request waits as long as the time until its arrival."""
    for record in value["llmval"]["requests"]:
        for key in ("first_token_s", "last_token_s"):
            record[key] += record["intended_s"]


def nothing_sent(value):
    value["llmval"]["requests"] = []
    value |= {"num_prompts": 0, "completed": 0, "total_output_tokens": 0}


@pytest.mark.parametrize(
    ("spoil", "gates"),
    [
        (slow_generator, {"generator rate": Outcome.INVALID}),
        (late_once, {"schedule delay": Outcome.INVALID}),
        (one_failed, {"failed requests": Outcome.FAIL}),
        (before_arrival, {"order of times": Outcome.INVALID}),
        (tokens_made_up, {"totals": Outcome.INVALID}),
        (never_sent, {"runner's own checks": Outcome.INVALID}),
        (partial, {"runner's own checks": Outcome.INVALID}),
        (slo_missed, {"SLO ttft": Outcome.FAIL}),
        (fell_back, {"ran as asked": Outcome.FAIL}),
        (fewer_ranks, {"ran as asked": Outcome.FAIL}),
        (
            nothing_sent,
            {
                "generator rate": Outcome.INVALID,
                "schedule delay": Outcome.INVALID,
                "failed requests": Outcome.FAIL,
                "kept up": Outcome.INCONCLUSIVE,
            },
        ),
        (saturated, {"kept up": Outcome.FAIL}),
    ],
)
def test_each_defect_is_found_by_its_own_gate(load_run, result, spoil, gates):
    spoil(result)
    assert outcomes(load_run(result))[0] == gates


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--target-qps 28 --duration 8", ""),
        ("--target-qps 27", "target_qps 28.0 instead of 27"),
        ("--duration 300", "duration_s 8.0 instead of 300"),
    ],
)
def test_rate_and_duration_must_match_the_command(load_run, result, flags, said):
    run = load_run(result, f"- [ ] {RUN_ITEM[:-1]} {flags}`")
    gate = next(gate for gate in action_named("command").judge(run)[0] if gate.name == "ran as asked")
    assert (gate.outcome, gate.measured) == (Outcome.FAIL, said) if said else gate.outcome is Outcome.PASS


def test_slo_gate_and_goodput(load_run, result):
    result["llmval"]["slo"] = {"ttft_ms": 101.5, "tpot_ms": 25, "e2e_ms": None}
    bad, metrics = outcomes(load_run(result))
    assert bad == {}
    assert metrics["goodput_qps"] == metrics["completed_qps"]


def test_not_a_result_is_invalid(load_run):
    bad, metrics = outcomes(load_run({"llmval": {"kind": "other"}}))
    assert bad == {"result": Outcome.INVALID}
    assert metrics == {}


@given(st.lists(st.floats(0, 1e3), min_size=1), st.floats(0, 100))
def test_percentile_lies_between_and_keeps_order(values, percent):
    found = percentile_ms(values, percent)
    assert found is not None
    assert 1e3 * min(values) * (1 - 1e-9) <= found <= 1e3 * max(values) * (1 + 1e-9)
    assert percentile_ms(values, 0) <= found <= percentile_ms(values, 100) * (1 + 1e-9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(delays=st.lists(st.floats(0, 0.4), min_size=2, max_size=40))
def test_ttft_from_the_schedule_is_never_shorter(load_run, workspace, result_json, delays):
    """No coordinated omission: waiting counts from the schedule, whatever the delay of the generator."""
    value = result_json(len(delays))
    for record, delay in zip(value["llmval"]["requests"], delays, strict=True):
        for key in ("dispatch_s", "first_token_s", "last_token_s"):
            record[key] += delay
    run = load_run(value)
    found = read_result(workspace.folder / run.intent.artifacts[0].path)
    assert found is not None
    metrics = metrics_of(found)
    assert metrics["ttft_sched_p99_ms"] >= metrics["ttft_p99_ms"]
    assert metrics["ttft_p50_ms"] == pytest.approx(100, rel=1e-6)


def test_an_earlier_runs_figures_are_not_this_ones(load_run, result, workspace):
    """The artifact has the same name all day, so after a killed run the file of the previous run is there."""
    run = load_run(result)
    assert outcomes(run)[1]["ttft_p50_ms"] is not None
    artifact_snapshot.record_before(run)  # the file existed before this run
    bad, metrics = outcomes(run)
    assert (bad, metrics) == ({}, {})
    verdict = judge(run)
    assert verdict.outcome is Outcome.FAIL and verdict.metrics == {} and verdict.evidence == []
    assert [gate.name for gate in verdict.gates if gate.outcome is Outcome.FAIL] == ["artifact: artifacts/r.json"]
