"""The judge of rate searches uses the figures of the trials and the records of the last window."""

from copy import deepcopy

import pytest

from llmval_tui.actions.judges.load_test_result import read_result
from llmval_tui.actions.judges.rate_posterior import posterior_of
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


def _trials():
    """A search of a quiet node that holds a little more than 28 requests/s."""
    plan = [(14.0, "bracket"), (28.0, "bracket"), (56.0, "bracket"), (56.0, "repeat"), (38.0, "bisect")]
    plan += [(32.0, "bisect"), (30.0, "bisect"), *[(29.5, "bisect"), (28.0, "bisect")] * 7, (29.8, "upper")]
    plan += [(28.0, "confirm")]
    verdicts = ["holds" if qps <= 28.0 else "fails" for qps, _ in plan]
    return [
        trial(number, qps, purpose, seed=1000 * number, verdict=verdict)
        for number, ((qps, purpose), verdict) in enumerate(zip(plan, verdicts, strict=True), 1)
    ]


TRIALS = _trials()


@pytest.fixture
def searched(result_json):
    """A search that found 28 requests/s; its records belong to the confirming window."""

    def make(outcome="found", max_qps=28.0, above=29.0, trials=None):
        value = result_json()
        value["llmval"]["slo"]["ttft_ms"] = 150
        value["llmval"]["search"] = {
            "outcome": outcome, "sentence": "s", "max_qps": max_qps, "lowest_not_held_qps": above, "first_qps": 14.0,
            "cap_qps": None, "precision": 0.05, "min_goodput": 0.99, "trial_duration_s": 2.0,
            "interval_qps": None, "confidence": 0.95,
            "trials": TRIALS if trials is None else trials,
        }  # fmt: skip
        search = value["llmval"]["search"] = deepcopy(value["llmval"]["search"])
        search["interval_qps"] = interval_of(search)
        return value

    return make


def interval_of(search):
    valid = [(one["target_qps"], one["verdict"] == "holds") for one in search["trials"] if one["verdict"] != "invalid"]
    if len({held for _, held in valid}) < 2:
        return None
    return list(posterior_of(search["first_qps"], search["precision"], valid).interval(search["confidence"]))


def outcomes(run):
    gates, metrics, summary, _ = action_named("command").judge(run)
    return {gate.name: gate.outcome for gate in gates if gate.outcome is not Outcome.PASS}, metrics, summary


def test_a_wider_interval_passes_as_far_as_the_search_allowed_it(load_run, searched):
    noisy = [one | {"purpose": "bisect"} for one in TRIALS if one["number"] <= 12] + [TRIALS[-1]]
    value = searched(trials=noisy)
    low, high = value["llmval"]["search"]["interval_qps"]
    assert high / low - 1 > 0.06, "wider than the precision of 5 %, so no upper end was tested"
    value["llmval"]["search"]["widest"] = high / low - 1
    assert outcomes(load_run(value, LIST))[0] == {}
    value["llmval"]["search"]["widest"] = 0.06
    assert outcomes(load_run(value, LIST))[0]["highest rate"] is Outcome.INVALID


def test_the_interval_may_reach_down_to_the_rate_found_and_no_further(load_run, searched):
    value = searched()
    search = value["llmval"]["search"]
    own = search["interval_qps"][0]
    assert own > search["max_qps"], "the last trial moved the lower end up"
    search["interval_qps"][0] = search["max_qps"]
    assert outcomes(load_run(value, LIST))[0] == {}
    search["interval_qps"][0] = search["max_qps"] * 0.999
    assert outcomes(load_run(value, LIST))[0] == {"trials": Outcome.INVALID}


@pytest.mark.parametrize(
    ("limit", "slope", "bad"),
    [
        (None, 0.08, {}),  # a record of an earlier release
        (0.05, 0.04, {}),
        (0.05, 0.08, {"trials": Outcome.INVALID}),
        (0.5, 0.2, {"trials": Outcome.INVALID}),  # no record makes the rule looser
    ],
)
def test_a_trial_held_by_the_growth_that_its_search_allowed(load_run, searched, limit, slope, bad):
    value = searched()
    search = value["llmval"]["search"]
    if limit is not None:
        search["max_ttft_slope"] = limit
    next(one for one in search["trials"] if one["verdict"] == "holds")["ttft_slope"] = slope
    assert outcomes(load_run(value, LIST))[0] == bad


def test_a_found_rate_passes_with_its_figures(load_run, searched):
    bad, metrics, summary = outcomes(load_run(searched(), LIST))
    assert bad == {}
    assert (metrics["max_qps"], metrics["lowest_not_held_qps"], metrics["search_trials"]) == (28, 29, len(TRIALS))
    assert summary.startswith("28 requests/s hold the service level (")
    assert "95% confidence), 29 does not; there 2" in summary


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"outcome": "cap_holds", "above": None}, Outcome.INCONCLUSIVE),
        ({"outcome": "generator_limited"}, Outcome.INCONCLUSIVE),
        ({"outcome": "unconfirmed", "max_qps": None}, Outcome.INCONCLUSIVE),
        ({"outcome": "interrupted", "max_qps": None}, Outcome.INCONCLUSIVE),
        ({"outcome": "lowest_fails", "max_qps": None, "above": 14.0}, Outcome.FAIL),
        ({"outcome": "imprecise"}, Outcome.INCONCLUSIVE),
    ],
)
def test_without_a_found_rate_nothing_passes(load_run, searched, changes, outcome):
    value = searched(**changes)
    assert outcomes(load_run(value, LIST))[0] == {"highest rate": outcome}


def test_a_found_rate_needs_an_interval_as_narrow_as_asked(load_run, searched):
    value = searched(trials=[*TRIALS[:5], TRIALS[-2], TRIALS[-1]])
    assert outcomes(load_run(value, LIST))[0] == {"highest rate": Outcome.INVALID}


def test_a_found_rate_without_an_interval_is_none(load_run, searched):
    value = searched(trials=[one for one in TRIALS if one["verdict"] == "holds"])
    assert value["llmval"]["search"]["interval_qps"] is None, "without a trial that failed"
    assert outcomes(load_run(value, LIST))[0] == {"highest rate": Outcome.INVALID}


def test_a_search_of_an_earlier_release_is_inconclusive(load_run, searched):
    value = searched()
    del value["llmval"]["search"]["interval_qps"]
    assert outcomes(load_run(value, LIST))[0] == {"highest rate": Outcome.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("ended", "late_s", "attainment", "verdict"),
    [
        ("unconfirmed", 0.0, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        ("interrupted", 0.0, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        ("generator_limited", 0.6, Outcome.INCONCLUSIVE, Outcome.INVALID),
        ("lowest_fails", 0.0, Outcome.FAIL, Outcome.FAIL),
    ],
)
def test_a_last_trial_that_did_not_hold_is_not_a_failure_of_the_node(
    load_run, searched, ended, late_s, attainment, verdict
):
    """The last window of such a search: its queue grows until no request meets the limit."""
    value = searched(ended, max_qps=None, above=28.0)
    value["llmval"]["search"] |= {
        "trials": [trial(1, 28.0, verdict="invalid" if late_s else "fails")], "interval_qps": None,
    }  # fmt: skip
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
    search["trials"][-1]["ttft_slope"] = 0.2


def spoil_seed(search):
    search["trials"][-1]["seed"] = search["trials"][0]["seed"]


def spoil_rate(search):
    search["trials"][-1]["target_qps"] = 28.5


def spoil_interval(search):
    search["interval_qps"][1] *= 0.99


def spoil_upper(search):
    search["trials"][-2]["purpose"] = "bisect"


@pytest.mark.parametrize(
    "spoil", [spoil_verdict, spoil_late, spoil_slope, spoil_seed, spoil_rate, spoil_interval, spoil_upper]
)
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
