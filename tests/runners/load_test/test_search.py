"""The search for the highest rate: it finds a capacity, says how sure it is, and believes no single trial."""

import json
import math
import random
from array import array
from dataclasses import replace
from pathlib import Path

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmval_runners.engine.request import Request
from llmval_runners.load_test.generator import Arrival
from llmval_runners.load_test.metrics import Slo, ttft_slope
from llmval_runners.load_test.options import parse
from llmval_runners.load_test.rate_search import CONFIRMATIONS, Search
from llmval_runners.load_test.rate_trial import NextTrial, SearchConfig, Trial, allowed_misses, judge_trial
from llmval_runners.load_test.result import Measured
from llmval_runners.load_test.search_report import noise, search_record, sentence
from llmval_runners.process.errors import Refused

from benchmarks.rate_search import simulated
from benchmarks.virtual_servers import SERVERS, search_of, true_rate

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/load_test.schema.json").read_text())
CONFIG = SearchConfig(4, None, 0.05, 0.05, 0.99, trial_s=30, seed=7, max_trials=40, confidence=0.95)


def window(qps: float, served: float | None = None, late: float = 0.0, count: int = 200) -> Measured:
    """Requests at `qps` of which a node serves `served` a second; dispatched `late` times the schedule too late."""
    requests = []
    for index in range(count):
        due = index / qps
        sent = due * (1 + late)
        first = max(sent + 0.05, index / served if served else 0.0)
        requests.append(Request(index, [1], 2, due, sent, array("d", [first, first + 0.01])))
    arrivals = [Arrival(r.index, r.intended_s, 1, 2) for r in requests]
    return Measured(requests, arrivals, requests[-1].token_times[-1])


def judged(planned: NextTrial, measured: Measured, slo: Slo | None = None) -> Trial:
    return judge_trial([measured], slo or Slo(ttft_ms=100), 0.99, planned)


def found(node, config: SearchConfig = CONFIG) -> Search:
    search = Search(config)
    while (planned := search.next()) is not None:
        search.record(node(planned))
        assert len(search.trials) < config.max_trials + CONFIRMATIONS, "a search ends"
    fastjsonschema.compile(SCHEMA["properties"]["llmval"]["properties"]["search"])(search_record(search))
    return search


def held(planned: NextTrial, holds: bool) -> Trial:
    return judged(planned, window(planned.qps, None if holds else 1, count=40))


@settings(deadline=None, max_examples=15)
@given(st.floats(4.5, 3000), st.floats(0.03, 0.3))
def test_it_finds_the_capacity_to_the_precision_asked(capacity: float, precision: float) -> None:
    search = found(lambda planned: held(planned, planned.qps <= capacity), replace(CONFIG, precision=precision))
    assert search.outcome == "found"
    assert search.interval is not None and search.max_qps is not None
    low, high = search.interval
    assert low <= search.max_qps <= capacity <= high, "the rate found is in its own interval"
    assert high <= low * (1 + 1.2 * precision), "as narrow as asked before the last trial, which moves both ends"
    assert len({trial.seed for trial in search.trials}) == len(search.trials), "every trial has a seed of its own"
    assert [trial.purpose for trial in search.trials][-1] == "confirm"
    assert "95% confidence" in sentence(search) and noise(search).startswith("quiet")


def test_a_stall_lengthens_a_search_and_does_not_cap_it() -> None:
    """The trials 3 and 4, a failure and its repetition, fall into a stall of the host."""
    stalled = found(lambda planned: held(planned, planned.qps <= 100 and planned.number not in (3, 4)))
    assert stalled.outcome == "found" and stalled.max_qps is not None
    assert 95 <= stalled.max_qps <= 100
    assert "failed at rates that hold" in noise(stalled) and "failed at rates that hold" not in noise(
        found(lambda planned: held(planned, planned.qps <= 100))
    )


def test_a_failure_against_expectation_is_repeated_with_another_seed() -> None:
    search = found(lambda planned: held(planned, planned.qps <= 20))
    first = next(index for index, trial in enumerate(search.trials) if trial.verdict == "fails")
    fail, repeat = search.trials[first], search.trials[first + 1]
    assert (repeat.purpose, repeat.target_qps) == ("repeat", fail.target_qps) and repeat.seed != fail.seed


def test_both_ends_are_tested_again_before_the_end() -> None:
    search = found(lambda planned: held(planned, planned.qps <= 20))
    assert search.interval is not None
    upper, confirm = (next(t for t in search.trials if t.purpose == name) for name in ("upper", "confirm"))
    assert upper.verdict == "fails" and upper.target_qps > 20
    assert search.trials[-1] is confirm and confirm.verdict == "holds"


def test_a_host_that_is_too_noisy_gets_a_wider_interval_and_no_finding() -> None:
    source = random.Random(3)

    def node(planned: NextTrial) -> Trial:
        z = math.log(50 / planned.qps) / 0.2
        return held(planned, source.random() > 0.3 and source.random() < 0.5 * (1 + math.erf(z / math.sqrt(2))))

    search = found(node)
    assert search.outcome in ("imprecise", "unconfirmed") and search.interval is not None
    low, high = search.interval
    assert low < 50 < high and high > low * 1.05
    assert "quieten the host" in sentence(search)
    assert "some trials held and others failed" in noise(search), "a rate that did both contradicts itself"


def bursts(planned: NextTrial, width: float = 0.07) -> Trial:
    """Arrivals decide: at 50 requests/s half of the trials hold, and a fifth at 53."""
    z = math.log(50 / planned.qps) / width
    drawn = random.Random(f"{planned.seed} {planned.qps}").random()
    return held(planned, drawn < 0.5 * (1 + math.erf(z / math.sqrt(2))))


def test_after_the_last_trial_a_wider_interval_is_enough_if_it_is_allowed() -> None:
    wide, strict = found(bursts, replace(CONFIG, widest=0.2)), found(bursts)
    assert strict.outcome == "imprecise" and "wider than the 5% allowed" in sentence(strict)
    assert wide.outcome == "found" and wide.trials == strict.trials
    assert wide.interval is not None and wide.max_qps is not None
    low, high = wide.interval
    assert low * 1.05 < high <= low * 1.2 and low <= 50 <= high and wide.max_qps <= low * 1.002


def test_a_wide_interval_is_also_tested_far_above_the_median() -> None:
    """Otherwise the trials beside the median never tell a noisy host with a high rate from a quiet one with a low."""
    searches = [found(lambda planned: bursts(planned, 0.1), replace(CONFIG, seed=seed)) for seed in range(20)]
    assert all(search.interval is not None and search.interval[1] < 1.6 * search.interval[0] for search in searches)


@pytest.mark.parametrize(("width", "disturbed"), [(0.003, 0.0), (0.02, 0.05), (0.06, 0.2)])
def test_the_interval_is_right_as_often_as_it_says(width: float, disturbed: float) -> None:
    """`benchmarks/rate_search.py` measures it over many more searches."""
    outcomes = [simulated(seed, width, disturbed) for seed in range(12)]
    right = [
        search.interval is not None and search.interval[0] <= true <= search.interval[1] for true, search in outcomes
    ]
    assert sum(right) >= 10, "of 12 with 95 %: fewer than 10 happen once in 500 times"
    assert disturbed or all(search.outcome == "found" for _, search in outcomes)


@pytest.mark.parametrize("name", ["admits 16 requests", "one stall of 30 s", "rejects above a rate"])
def test_the_interval_is_right_on_servers_that_are_not_like_the_model(name: str) -> None:
    """Each trial is served request by request. `benchmarks/rate_search.py --servers` has more servers and searches."""
    server = replace(next(one for one in SERVERS if one.name == name), trial_s=8)
    true = true_rate(server, trials=30)
    intervals = [search_of(server, seed).interval for seed in range(3)]
    right = [interval is not None and interval[0] * 0.98 <= true <= interval[1] * 1.02 for interval in intervals]
    assert sum(right) >= 2, "of 3 with 95 %: fewer than 2 happen once in 140 times"


def test_a_loose_level_and_a_short_trial_do_not_flatter() -> None:
    """It serves 50 requests/s, and a trial of 54 ends long before its queue breaks the limit of 5 s."""
    server = next(one for one in SERVERS if one.name == "loose level, short trials")
    found = search_of(server, 0)
    assert found.outcome == "found" and found.max_qps is not None
    assert 48 <= found.max_qps <= 50 * 1.05


def test_a_cap_that_holds_is_not_an_upper_bound() -> None:
    search = found(lambda planned: judged(planned, window(planned.qps)), replace(CONFIG, max_qps=10))
    assert [(t.target_qps, t.purpose) for t in search.trials][:3] == [(4, "bracket"), (8, "bracket"), (10, "bracket")]
    assert {(t.target_qps, t.purpose) for t in search.trials[3:]} == {(10, "confirm")}
    assert (search.outcome, search.max_qps, search.interval) == ("cap_holds", 10, None)
    assert "raise --max-qps" in sentence(search)


def test_where_the_first_rate_fails_nothing_was_found() -> None:
    search = found(lambda planned: judged(planned, window(planned.qps, 2)))
    assert (search.outcome, search.max_qps) == ("lowest_fails", None)
    assert 2 <= len(search.trials) <= 4, "one failure could be a stall"
    assert "pass a lower --target-qps" in sentence(search)


def test_a_late_generator_bounds_itself_and_not_the_node() -> None:
    search = found(lambda planned: judged(planned, window(planned.qps, late=0.08 if planned.qps > 20 else 0)))
    assert search.outcome == "generator_limited"
    assert search.max_qps is not None and 18 < search.max_qps <= 20
    assert {t.verdict for t in search.trials if t.target_qps > 20} == {"invalid"}
    search = found(lambda planned: judged(planned, window(planned.qps, late=0.08)))
    assert (search.outcome, search.max_qps) == ("generator_limited", None)


def test_the_judge_computes_with_the_same_module() -> None:
    root = Path(__file__).parents[3]
    ours = (root / "runners/llmval_runners/load_test/rate_posterior.py").read_text()
    assert ours == (root / "llmval_tui/actions/judges/rate_posterior.py").read_text()


def test_what_makes_a_trial_fail() -> None:
    plan = NextTrial(1, 100, "bracket", 0)
    assert judged(plan, window(100)).verdict == "holds"
    slow = window(100)
    for request in slow.sent[:3]:  # 1.5 %
        request.token_times[0] += 0.06
        request.token_times[1] += 0.06
    trial = judged(plan, slow)
    assert (trial.verdict, trial.goodput_share) == ("fails", 0.985)
    assert "98.5% of 200 requests" in trial.reason
    grown = judged(plan, window(100, 80), Slo(ttft_ms=1e6))
    assert (grown.verdict, grown.goodput_share) == ("fails", 1.0)
    assert "the queue grew: TTFT rose by 0.25 s" in grown.reason
    cut = window(100)
    cut.sent[5].token_times.pop()
    cut.sent[6].token_times.pop()
    cut.sent[7].token_times.pop()
    assert "(3 did not finish)" in judged(plan, cut).reason
    unsent = window(100)
    assert judged(plan, replace(unsent, sent=unsent.sent[:-1])).verdict == "invalid"
    assert "too few to see" in judged(plan, window(100, count=7)).reason


@given(st.integers(1, 1000), st.integers(8, 5000))
def test_a_trial_is_ended_early_only_where_its_verdict_is_known(thousandths: int, planned: int) -> None:
    """The rule of `judge_trial`, at the last count of misses that it lets pass and at the next."""
    share = thousandths / 1000
    misses = allowed_misses(share, planned)
    assert (planned - misses) / planned >= share
    assert (planned - misses - 1) / planned < share


def test_the_slope_is_the_share_that_is_not_served() -> None:
    assert ttft_slope(window(100, 50).sent) == pytest.approx(1.0, rel=0.05)
    assert ttft_slope(window(100).sent) == pytest.approx(0)
    assert ttft_slope([]) is None


def test_flags() -> None:
    search = ["--find-max-qps", "--slo-ttft-ms", "200"]
    options = parse([*search, "--duration", "9"])
    assert options.search is not None
    assert (options.duration_s, options.search.precision, options.search.min_goodput) == (9, 0.05, 0.99)
    assert parse([*search, "--trial-duration", "20"]).duration_s == 20
    for flags, words in (
        (["--find-max-qps"], "pass --slo-ttft-ms, --slo-tpot-ms or --slo-e2e-ms"),
        (["--max-qps", "9"], "--max-qps is for the search"),
        ([*search, "--max-qps", "3"], "below --target-qps 4"),
        ([*search, "--trial-duration", "1"], "too few to see whether a queue grows"),
        ([*search, "--precision", "0"], "not a share"),
        ([*search, "--min-goodput", "1.5"], "not a share"),
        ([*search, "--precision", "0.001"], "pass 0.005 or more"),
        ([*search, "--confidence", "1"], "pass one such as 0.95"),
        ([*search, "--max-trials", "3"], "too few to find a rate"),
        (["--max-trials", "30"], "--max-trials is for the search"),
    ):
        with pytest.raises(Refused) as refusal:
            parse(flags)
        assert words in str(refusal.value)
