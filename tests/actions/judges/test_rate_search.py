"""The judge of rate searches uses the figures of the trials and the records of the last window."""

from copy import deepcopy

import pytest

from llmval_tui.actions.judges.load_test_result import read_result
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.steps.baseline_change import baseline_of
from llmval_tui.runs.records import Outcome, worst

LIST = (
    "Run `torchrun --nproc_per_node=2 x/inference_server_load_test.py --fp8-mode none --attention-backend flex "
    "--device cpu --model tiny --find-max-qps --slo-ttft-ms 150 --output-json artifacts/r.json`"
)


def trial(number, qps, purpose="bisect", seed=0, verdict="holds", **figures):
    good = {"holds": 1.0, "fails": 0.5, "invalid": 1.0}[verdict]
    late = 900.0 if verdict == "invalid" else 1.0
    value = {
        "number": number, "purpose": purpose, "seed": seed, "target_qps": qps, "offered_qps": qps, "achieved_qps": qps,
        "goodput_share": good, "ttft_slope": 0.0, "schedule_delay": {"p99_ms": late}, "verdict": verdict,
        "reason": "" if verdict == "holds" else "why",
    }  # fmt: skip
    return value | figures


@pytest.fixture
def searched(result_json):
    """A search that found 28 requests/s; its records belong to the confirming window."""

    def make(outcome="found", max_qps=28.0, above=29.0, trials=None):
        value = result_json()
        value["llmval"]["slo"]["ttft_ms"] = 150
        value["llmval"]["search"] = {
            "outcome": outcome, "sentence": "s", "max_qps": max_qps, "lowest_not_held_qps": above, "first_qps": 14.0,
            "cap_qps": None, "precision": 0.05, "min_goodput": 0.99, "trial_duration_s": 2.0,
            "trials": [
                trial(1, 14.0, "bracket"), trial(2, 28.0, "bracket"), trial(3, 56.0, "bracket", verdict="fails"),
                trial(4, 29.0, verdict="fails"), trial(5, 28.0, "confirm", seed=1),
            ] if trials is None else trials,
        }  # fmt: skip
        return value

    return make


def outcomes(run):
    gates, metrics, summary, _ = action_named("command").judge(run)
    return {gate.name: gate.outcome for gate in gates if gate.outcome is not Outcome.PASS}, metrics, summary


def test_a_found_rate_passes_with_its_figures(load_run, searched):
    bad, metrics, summary = outcomes(load_run(searched(), LIST))
    assert bad == {}
    assert (metrics["max_qps"], metrics["lowest_not_held_qps"], metrics["search_trials"]) == (28, 29, 5)
    assert summary.startswith("28 requests/s hold the service level, 29 does not; there 2")


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"outcome": "cap_holds", "above": None}, Outcome.INCONCLUSIVE),
        ({"outcome": "generator_limited"}, Outcome.INCONCLUSIVE),
        ({"outcome": "unconfirmed", "max_qps": None}, Outcome.INCONCLUSIVE),
        ({"outcome": "interrupted", "max_qps": None}, Outcome.INCONCLUSIVE),
        ({"outcome": "lowest_fails", "max_qps": None, "above": 14.0}, Outcome.FAIL),
        ({"above": 40.0}, Outcome.INVALID),  # found, but not to the required precision
    ],
)
def test_without_a_found_rate_nothing_passes(load_run, searched, changes, outcome):
    value = searched(**changes)
    search = value["llmval"]["search"]
    kept = [t for t in search["trials"] if t["verdict"] == "holds"]
    above = [] if search["lowest_not_held_qps"] is None else [trial(9, search["lowest_not_held_qps"], verdict="fails")]
    search["trials"] = [*above, *(t for t in kept if t["target_qps"] < (search["lowest_not_held_qps"] or 99))]
    assert outcomes(load_run(value, LIST))[0] == {"highest rate": outcome}


@pytest.mark.parametrize(
    ("ended", "late_s", "attainment", "verdict"),
    [
        ("unconfirmed", 0.0, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        ("interrupted", 0.0, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        ("generator_limited", 0.6, Outcome.INCONCLUSIVE, Outcome.INVALID),
        ("lowest_fails", 0.0, Outcome.FAIL, Outcome.FAIL),
    ],
)
def test_a_last_trial_that_did_not_hold_is_no_failure_of_the_node(
    load_run, searched, ended, late_s, attainment, verdict
):
    """The last window of such a search: its queue grows until no request meets the limit."""
    value = searched(ended, max_qps=None, above=28.0)
    value["llmval"]["search"]["trials"] = [trial(1, 28.0, verdict="invalid" if late_s else "fails")]
    for record in value["llmval"]["requests"]:
        record["dispatch_s"] += late_s
        for key in ("first_token_s", "last_token_s"):
            record[key] += late_s + 0.3 * record["intended_s"]
    gates, _, _, _ = action_named("command").judge(load_run(value, LIST))
    found = {gate.name: gate.outcome for gate in gates}
    assert found["SLO attainment"] is found["kept up"] is attainment
    assert worst(gates) is verdict


def spoil_verdict(search):
    search["trials"][3] |= {"verdict": "holds", "reason": ""}


def spoil_late(search):
    search["trials"][1]["schedule_delay"]["p99_ms"] = 501


def spoil_slope(search):
    search["trials"][4]["ttft_slope"] = 0.2


def spoil_seed(search):
    search["trials"][4]["seed"] = 0


def spoil_rate(search):
    search["trials"][1]["target_qps"] = search["trials"][4]["target_qps"] = search["max_qps"] = 28.5


@pytest.mark.parametrize("spoil", [spoil_verdict, spoil_late, spoil_slope, spoil_seed, spoil_rate])
def test_a_record_that_does_not_follow_from_its_figures_is_invalid(load_run, searched, spoil):
    value = searched()
    spoil(value["llmval"]["search"])
    assert outcomes(load_run(value, LIST))[0]["trials"] is Outcome.INVALID


def test_attainment_is_counted_in_the_records(load_run, searched):
    value = searched()
    for record in value["llmval"]["requests"][10:12]:  # 2 of 60
        record["first_token_s"] += 0.06
    assert outcomes(load_run(value, LIST))[0] == {"SLO attainment": Outcome.FAIL}


def test_one_window_instead_of_a_search_fails(load_run, searched, result_json):
    assert outcomes(load_run(result_json(), LIST))[0] == {"ran as asked": Outcome.FAIL}
    torn = searched()
    del torn["llmval"]["search"]["trials"][0]["verdict"]
    assert outcomes(load_run(torn, LIST))[0] == {"highest rate": Outcome.INVALID}


def test_a_baseline_of_a_search_is_the_rate_under_its_service_level(load_run, searched, workspace):
    def baseline(value):
        run = load_run(value, LIST)
        return baseline_of(read_result(workspace.folder / "artifacts/r.json"), run.intent, "artifacts/r.json", "0" * 64)

    one = baseline(searched())
    assert [(m.name, m.value) for m in one.metrics] == [("max_qps", 28.0)]
    assert (one.identity["target_qps"], one.identity["slo"]) == ("max", "ttft<=150ms+for-99%")
    other = deepcopy(searched(max_qps=27.0, above=28.0))
    other["llmval"]["workload"]["target_qps"] = 27.0
    assert baseline(other).compared == one.compared, "another rate found is a change, not another configuration"
    other["llmval"]["slo"]["ttft_ms"] = 200
    assert baseline(other).compared != one.compared
