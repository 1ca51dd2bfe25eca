"""The search for the highest rate: it finds a node's capacity, says what it does not know, believes no single trial."""

import json
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
from llmval_runners.load_test.rate_search import NextTrial, Search, SearchConfig, Trial, allowed_misses, judge_trial
from llmval_runners.load_test.result import Measured
from llmval_runners.process.errors import Refused

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/load_test.schema.json").read_text())
CONFIG = SearchConfig(first_qps=4, max_qps=None, precision=0.05, min_goodput=0.99, trial_s=30, seed=7)


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
    return judge_trial(
        measured, slo or Slo(ttft_ms=100), 0.99,
        number=planned.number, purpose=planned.purpose, seed=planned.seed, target_qps=planned.qps,
    )  # fmt: skip


def found(node, config: SearchConfig = CONFIG) -> Search:
    search = Search(config)
    while (planned := search.next()) is not None:
        search.record(node(planned))
        assert len(search.trials) < 60, "a search ends"
    fastjsonschema.compile(SCHEMA["properties"]["llmval"]["properties"]["search"])(search.as_json())
    return search


@settings(deadline=None, max_examples=30)
@given(st.floats(4, 3000), st.floats(0.01, 0.3))
def test_it_finds_the_capacity_to_the_precision_asked(capacity: float, precision: float) -> None:
    def node(planned: NextTrial) -> Trial:
        return judged(planned, window(planned.qps, None if planned.qps <= capacity else 1, count=40))

    search = found(node, replace(CONFIG, precision=precision))
    assert search.outcome == "found"
    assert search.max_qps is not None and search.upper is not None
    assert search.max_qps <= capacity < search.upper <= search.max_qps * (1 + precision) * (1 + 1e-9)
    assert [t.seed for t in search.trials] == [7] * (len(search.trials) - 1) + [8], "the last word has another seed"
    assert "confirmed with another seed" in search.sentence()


def test_a_cap_that_holds_is_no_upper_bound() -> None:
    search = found(lambda planned: judged(planned, window(planned.qps)), replace(CONFIG, max_qps=10))
    assert [(t.target_qps, t.purpose) for t in search.trials] == [
        (4, "bracket"), (8, "bracket"), (10, "bracket"), (10, "confirm"),
    ]  # fmt: skip
    assert (search.outcome, search.max_qps, search.upper) == ("cap_holds", 10, None)
    assert "raise --max-qps" in search.sentence()


def test_where_the_first_rate_fails_nothing_was_found() -> None:
    search = found(lambda planned: judged(planned, window(planned.qps, 2)))
    assert (search.outcome, search.max_qps, len(search.trials)) == ("lowest_fails", None, 1)
    assert "pass a lower --target-qps" in search.sentence()


def test_a_late_generator_bounds_itself_and_not_the_node() -> None:
    search = found(lambda planned: judged(planned, window(planned.qps, late=0.08 if planned.qps > 20 else 0)))
    assert search.outcome == "generator_limited"
    assert search.max_qps is not None and 19 < search.max_qps <= 20
    assert {t.verdict for t in search.trials if t.target_qps > 20} == {"invalid"}
    search = found(lambda planned: judged(planned, window(planned.qps, late=0.08)))
    assert (search.outcome, search.max_qps) == ("generator_limited", None)


def test_a_rate_that_held_by_luck_is_not_believed() -> None:
    def node(planned: NextTrial) -> Trial:
        holds = planned.qps <= (20 if planned.purpose == "confirm" else 21)
        return judged(planned, window(planned.qps, None if holds else planned.qps / 2))

    search = found(node)
    assert search.outcome == "found"
    assert search.max_qps is not None and 19 < search.max_qps <= 20
    seeds = [t.seed for t in search.trials if t.purpose == "confirm"]
    assert seeds == sorted(set(seeds)) and len(seeds) > 1, "every confirmation has a seed of its own"

    search = found(lambda p: judged(p, window(p.qps, 1 if p.purpose == "confirm" or p.qps > 100 else None)))
    assert (search.outcome, search.max_qps) == ("unconfirmed", None)


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
    ):
        with pytest.raises(Refused) as refusal:
            parse(flags)
        assert words in str(refusal.value)
