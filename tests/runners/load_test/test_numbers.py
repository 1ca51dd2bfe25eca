"""Arrivals, metrics and the two formats: what the figures mean."""

import json
import statistics
from array import array
from itertools import pairwise
from pathlib import Path

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmval_runners.engine.request import Request
from llmval_runners.load_test import metrics
from llmval_runners.load_test.generator import Arrival, Lengths, arrival_times, schedule
from llmval_runners.load_test.metrics import Rates, Slo, percentile
from llmval_runners.load_test.options import parse
from llmval_runners.load_test.result import Measured, load_test_result
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import write_json
from llmval_runners.process.output import partial_path

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"


@given(st.floats(0.5, 200), st.floats(2, 60), st.floats(0.2, 10), st.integers(0, 99))
def test_the_schedule_offers_exactly_the_rate(rate: float, duration: float, burstiness: float, seed: int) -> None:
    if round(rate * duration) < 2:
        with pytest.raises(Refused):
            arrival_times(rate, duration, burstiness, seed)
        return
    times = arrival_times(rate, duration, burstiness, seed)
    assert times == sorted(times) == arrival_times(rate, duration, burstiness, seed)
    assert times[0] == 0
    assert (len(times) - 1) / times[-1] == pytest.approx(rate)


def test_numbers_that_mean_nothing_are_refused_before_anything_runs() -> None:
    with pytest.raises(Refused, match=r"burstiness of 1e-06 leaves no time between the requests"):
        arrival_times(28, 1, 1e-6, 0)
    for temperature in ("nan", "inf", "-1"):
        with pytest.raises(Refused, match="temperature of"):
            parse(["--temperature", temperature])


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0])
def test_gaps_have_the_spread_of_their_gamma(burstiness: float) -> None:
    times = arrival_times(100, 200, burstiness, 7)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(burstiness**-0.5, rel=0.05)


def test_lengths_keep_their_bounds_and_do_not_depend_on_the_rate() -> None:
    prompt, output = Lengths.parse("uniform:16:64"), Lengths.parse("lognormal:40:1.5:100")
    slow, fast = (schedule(arrival_times(rate, 500 / rate, 1, 3), prompt, output, 3) for rate in (1, 50))
    assert [(a.input_tokens, a.output_tokens) for a in slow] == [(a.input_tokens, a.output_tokens) for a in fast]
    assert {min(a.input_tokens for a in slow), max(a.input_tokens for a in slow)} == {16, 64}
    assert max(a.output_tokens for a in slow) == 100
    for wrong in ("", "0", "uniform:9:3", "lognormal:5:1", "normal:3:4", "uniform:a:b"):
        with pytest.raises(Refused):
            Lengths.parse(wrong)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    numpy = pytest.importorskip("numpy")
    assert percentile(values, percent) == pytest.approx(numpy.percentile(values, percent), rel=1e-9, abs=1e-6)


def request(index: int, intended: float, dispatch: float, *tokens: float, output: int | None = None) -> Request:
    return Request(index, [1, 2, 3], output or len(tokens), intended, dispatch, array("d", tokens))


def test_definitions_by_hand() -> None:
    late = request(0, 1.0, 1.5, 2.0, 2.25, 2.75)
    assert metrics.ttft(late) == 0.5
    assert metrics.tpot(late) == 0.375
    assert metrics.e2e(late) == 1.25
    assert metrics.gaps(late) == [0.25, 0.5]
    assert metrics.tpot(request(0, 0, 0, 1.0)) is None
    assert Slo(ttft_ms=1000, tpot_ms=375, e2e_ms=1750).met(late)
    for broken in (Slo(ttft_ms=999), Slo(tpot_ms=374), Slo(e2e_ms=1749)):  # TTFT and E2E from the intended arrival
        assert not broken.met(late)


def test_rates_and_validity() -> None:
    arrivals = [Arrival(i, i * 0.1, 3, 2) for i in range(100)]
    punctual = [request(i, i * 0.1, i * 0.1 + 0.001, i * 0.1 + 0.05, i * 0.1 + 0.06) for i in range(100)]
    rates = Rates.of(punctual, 100, 9.9, 10.0, Slo(ttft_ms=60))
    assert [rates.offered_qps, rates.achieved_qps] == pytest.approx([10, 10])
    assert (rates.completed_qps, rates.goodput_qps) == (10, 10)
    assert metrics.invalid_reasons(punctual, 100, rates) == []

    slow = [request(i, i * 0.1, i * 0.11, i * 0.11 + 0.05, i * 0.11 + 0.06) for i in range(100)]
    rates = Rates.of(slow, 100, 9.9, 11.0, Slo())
    assert rates.achieved_qps == pytest.approx(10 / 1.1, rel=0.01)
    assert rates.goodput_qps is None
    reasons = metrics.invalid_reasons(slow, len(arrivals), rates)
    assert len(reasons) == 2  # under 95 %, and p99 delay 980 ms
    assert "under 95%" in reasons[0]
    assert metrics.invalid_reasons([], 100, Rates.of([], 100, 9.9, 1.0, Slo()))[0] == "only 0 of 100 requests were sent"


def result(ended_early: str | None = None) -> dict:
    sent = [
        request(0, 0.0, 0.001, 0.02, 0.03),
        request(1, 0.1, 0.101, 0.12, 0.13),
        request(2, 0.2, 0.201, 0.22, output=2),
    ]
    sent[2].error = "cut short"
    arrivals = [Arrival(i, i / 10, 3, 2) for i in range(3)]
    identity = {
        "model": "tiny",
        "parameters": 1,
        "weights": "random",
        "tokenizer": "none",
        "dtype": "float32",
        "kv_dtype": "float32",
        "attention_backend": "sdpa",
        "attention_kernel": "k",
        "fp8_mode": "none",
        "compile_mode": "off",
        "tensor_parallel": 1,
        "device": "cpu",
        "device_name": "CPU",
        "torch_version": "2",
        "seed": 0,
        "shape": dict.fromkeys(("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab"), 1),
    }
    workload = {
        "target_qps": 10.0,
        "duration_s": 0.3,
        "burstiness": 1.0,
        "prompt_len": "fixed:3",
        "output_len": "fixed:2",
        "warmup_requests": 0,
        "max_in_flight": None,
        "temperature": 0.0,
        "seed": 0,
        "max_batch": 1,
        "prefill_chunk": 1,
    }
    cache = {"bytes_per_rank": 1, "bytes_total": 1, "tokens": 1, "page_size": 1, "dtype": "float32"}
    return load_test_result([Measured(sent, arrivals, 0.3, ended_early)], identity, workload, cache, Slo())


def test_the_result_keeps_its_schema_and_counts_only_what_finished() -> None:
    valid = fastjsonschema.compile(json.loads((SCHEMAS / "load_test.schema.json").read_text()))
    whole, partial = result(), result("ended by signal 2")
    valid(whole), valid(partial)
    assert whole["llmval"]["valid"] and not partial["llmval"]["valid"]
    assert (whole["completed"], whole["failed"], whole["total_output_tokens"]) == (2, 1, 4)
    assert whole["llmval"]["requests"][2]["last_token_s"] is None
    assert whole["mean_ttft_ms"] == pytest.approx(19)
    assert whole["llmval"]["ttft_sched"]["p50_ms"] == pytest.approx(20)
    whole["llmval"]["valid"] = False  # without a reason
    with pytest.raises(fastjsonschema.JsonSchemaException):
        valid(whole)


def test_a_result_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]
    assert partial_path(path).name == "x.partial.json"


def test_events_keep_their_schema_and_only_rank_0_tells_all(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for rank in (0, 1):
        log = EventLog(rank, str(path)).start()
        log.phase("measure", "200 requests")
        log.progress(1.5, None, "s")
        log.metrics({"offered_qps": 1.0, "ttft_p50_ms": None})
        log.warning("slow", "slow")
        log.error("dead_rank", "gone")
        log.result("x.json")
        log.close()
    valid = fastjsonschema.compile(json.loads((SCHEMAS / "event.schema.json").read_text()))
    events = [valid(json.loads(line)) for line in path.read_text().splitlines()]
    assert {e["kind"] for e in events if e["rank"] == 0} == {
        "phase",
        "progress",
        "metrics",
        "heartbeat",
        "result",
        "warning",
        "error",
    }
    assert {e["kind"] for e in events if e["rank"] == 1} == {"heartbeat", "error"}
    with pytest.raises(fastjsonschema.JsonSchemaException):
        valid(events[0] | {"kind": "progress"})
