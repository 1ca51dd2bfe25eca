"""Whole load tests against the mock: what it did must be what the record says."""

import asyncio
import json
import math
import statistics
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.load_test.last_screen import last_screen
from llmval_runners.process.errors import Refused

from llmval_tui.actions.judges.load_test_result import metrics_of, result_in
from tests.runners.openai_client.conftest import QUICK, Start, load, run

ROUNDING_S = 2e-6
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/load_test.schema.json").read_text())
CHECK = fastjsonschema.compile(SCHEMA)


def percentile(values: list[float], percent: int) -> float:
    if len(values) == 1 or percent == 100:
        return max(values)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def recomputed(record: dict[str, Any]) -> dict[str, float]:
    """The latencies in ms, by other code, from nothing but the raw lists of the record."""
    rows = [
        (r["intended_s"], start, start + ttft, [*itls], r["output_tokens"])
        for r, start, ttft, itls, error in zip(
            record["llmval"]["requests"], record["start_times"], record["ttfts"], record["itls"], record["errors"],
            strict=True,
        )
        if not error
    ]  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in ("ttft", "tpot", "itl", "e2el", "ttft_sched", "e2e_sched")}
    for intended, start, first, itls, tokens in rows:
        last = first + math.fsum(itls)
        found["ttft"].append(first - start)
        found["e2el"].append(last - start)
        found["ttft_sched"].append(first - intended)
        found["e2e_sched"].append(last - intended)
        found["itl"] += itls
        if tokens > 1 and itls:
            found["tpot"].append((last - first) / (tokens - 1))
    return {
        f"p{percent}_{name}_ms": 1e3 * percentile(values, percent)
        for name, values in found.items()
        for percent in (50, 90, 95, 99)
        if values
    }


def told(record: dict[str, Any]) -> dict[str, float]:
    ours = record["llmval"]
    own = {
        f"p{percent}_{name}_ms": ours[name][f"p{percent}_ms"]
        for name in ("ttft_sched", "e2e_sched")
        for percent in (50, 90, 95, 99)
    }
    flat = {k: v for k, v in record.items() if k.startswith("p") and k.endswith("_ms") and v is not None}
    return flat | own


@pytest.mark.parametrize("api", ["completions", "chat"])
async def test_every_latency_is_what_other_code_finds_in_the_raw_records(start: Start, api: str) -> None:
    """One request in three fails, two tokens come in each chunk, and some answers stall."""
    _, url = await start(
        first_s=0.02, gap_s=0.005, tokens_per_chunk=2, fail_share=0.3, stall_every=5, stall_s=0.1, healthy=6
    )
    record = await load(url, "--api", api, "--warmup", "0", "--output-len", "uniform:1:9")
    CHECK(record)
    assert 0 < record["failed"] < record["num_prompts"]
    want, found = recomputed(record), told(record)
    assert want.keys() == found.keys()
    assert {name for name in want if abs(want[name] - found[name]) > 0.02} == set(), "times are rounded to 1 µs"


async def test_the_record_tells_what_the_mock_did(start: Start) -> None:
    """Both use one clock, so a cause comes before its effect on the slowest machine too."""
    mock, url = await start(first_s=0.02, gap_s=0.01, fail_share=0.4, healthy=4)
    test = await run(url, *QUICK, "--warmup", "0")
    record = test._result(None)
    CHECK(record)
    requests = record["llmval"]["requests"]
    served = mock.served[-len(requests) :]
    assert test.window is not None
    origin = test.window._origin
    left = list(served)
    for request in requests:
        # On a slow machine two requests may arrive in another order than they were sent.
        size, is_good = request["input_tokens"], request["error"] is None
        one = next(one for one in left if (len(one.body["prompt"]), one.status == 200) == (size, is_good))
        left.remove(one)
        assert origin + request["dispatch_s"] <= one.arrived + ROUNDING_S
        if one.status == 200:
            assert request["error"] is None and one.tokens == request["output_tokens"] == 4
            assert origin + request["first_token_s"] >= one.sent[0] - ROUNDING_S
            assert origin + request["last_token_s"] >= one.sent[-1] - ROUNDING_S
        else:
            assert request["error"] == "HTTP 500: the mock fails on purpose"
            assert (request["first_token_s"], request["last_token_s"], request["output_tokens"]) == (None, None, None)
    failed = [one.status for one in served].count(500)
    assert failed == record["failed"] > 0 and record["llmval"]["failures"] == {"http_status": failed}
    assert record["llmval"]["verdict"]["exit_code"] != 0
    result = result_in(record)
    assert result is not None
    assert metrics_of(result)["failed_requests"] == failed


async def test_an_external_engine_is_not_described_as_ours(start: Start) -> None:
    _, url = await start()
    record = await load(url)
    identity = record["llmval"]["identity"]
    assert (record["backend"], record["model_id"], identity["api"]) == ("openai", "mock", "completions")
    assert identity["unknown"] and identity["tensor_parallel"] is identity["weights"] is identity["shape"] is None
    server = identity["server"]
    assert (server["engine"], server["version"], server["url"]) == ("mock", "0.0.mock", f"{url}/v1")
    assert record["llmval"]["kv_cache"] == {} and "memory" not in record["llmval"]
    broken = json.loads(json.dumps(record))
    del broken["llmval"]["identity"]["unknown"]
    with pytest.raises(fastjsonschema.JsonSchemaException):
        CHECK(broken)


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "cut": ({"cut_after": 2, "stop_after": 0}, "cut", "the server ended the connection before"),
    "late error": ({"error_in_stream": True}, "stream", "error in the stream: the engine died"),
    "malformed": ({"malformed": True}, "stream", "a chunk of the stream is not a JSON object"),
    "truncated": ({"stop_after": 2}, "truncated", "truncated: 2 of 4 tokens (stop)"),
    "status": ({"fail_share": 1.0, "fail_status": 503}, "http_status", "HTTP 503"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_turns_bad_after_the_probe_fails_the_run_with_counts(start: Start, fault: str) -> None:
    behaviour, kind, error = FAULTS[fault]
    mock, url = await start()
    healthy = mock.behaviour
    original = mock.fails

    def turn() -> bool:
        if sum(len(one.body["prompt"]) >= 20 for one in mock.served) > 8:
            for name, value in behaviour.items():
                setattr(healthy, name, value)
        return original()

    mock.fails = turn  # type: ignore[method-assign]
    record = await load(url)
    CHECK(record)
    ours = record["llmval"]
    assert set(ours["failures"]) == {kind} and ours["failures"][kind] == record["failed"] > 0
    assert any(error in (one["error"] or "") for one in ours["requests"])
    assert ours["verdict"]["exit_code"] == 1 or not ours["valid"], "invalid: this machine was too slow for the schedule"
    assert len([t for t in record["ttfts"] if t is not None]) >= record["completed"]
    assert all(one["last_token_s"] is None for one in ours["requests"] if one["error"])


BAD: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no model of that name": ({}, ["--model", "gpt"], r"HTTP 404: The model `gpt` does not exist; it serves mock\."),
    "several models": ({"models": ("a", "b")}, [], r"serves a, b: pass one of them as --model"),
    "wrong key": ({"key": "sk-right"}, [], r"refuses the key \(HTTP 401.*OPENAI_API_KEY is not set"),
    "unknown field": (
        {"unknown_fields": frozenset({"ignore_eos"})}, [], r"HTTP 422: body.ignore_eos: .*--no-ignore-eos",
    ),
    "no token ids": ({"text_only": True}, [], r"HTTP 400: prompt must be a string.*--prompt-format text"),
    "one piece": ({"stream": False}, [], r"came in one piece.*does not stream"),
    "malformed": ({"malformed": True}, [], r"a chunk of the stream is not a JSON object: \{not JSON"),
    "no usage": ({"usage": False}, [], r"no usage.*stream_options.include_usage"),
    "short context": ({"max_model_len": 30}, [], r"the longest request has \d+ \+ 4 tokens, and mock holds 30"),
    "short context untold": (
        {"max_model_len": 30, "keep_secret_length": True}, [],
        r"the longest request, of \d+ \+ 4 tokens, fails: HTTP 400: This model's maximum context length is 30 tokens",
    ),
    "ends early": ({"stop_after": 2}, [], r"truncated: 2 of 4 tokens \(stop\)\. Pass --no-ignore-eos"),
    "redirect": ({"redirect": "http://elsewhere/v1"}, [], r"redirects to http://elsewhere/v1: pass that as --url"),
    "elsewhere": ({"base": "/other"}, ["--model", "mock"], r"HTTP 404: Not Found.*Correct --model, --api or --url"),
    "fails": ({"fail_share": 1.0}, [], r"HTTP 500: the mock fails on purpose\."),
    "cut": ({"cut_after": 1}, [], r"the server ended the connection before the answer was complete\."),
    "silent": ({"silent": True}, ["--request-timeout", "0.2"], r"no whole answer within 0\.2 s\."),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_what_would_fail_every_request_is_refused_before_the_window(start: Start, case: str) -> None:
    behaviour, flags, sentence = BAD[case]
    _, url = await start(**behaviour)
    with pytest.raises(Refused, match=sentence) as refused:
        await load(url, *flags)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


async def test_a_server_without_the_list_of_models_needs_the_name(start: Start) -> None:
    _, url = await start(models=())
    with pytest.raises(Refused, match=r"/v1/models names no model \(HTTP 200\): pass --model NAME\."):
        await load(url)


async def test_no_server_at_the_url(start: Start) -> None:
    mock, url = await start()
    await mock.stop()
    with pytest.raises(Refused, match=r"no server answers at http://127\.0\.0\.1:\d+: it was refused, so nothing"):
        await load(url)
    with pytest.raises(Refused, match=r"no server answers at http://name\.invalid:80: its name is not known"):
        await load("http://name.invalid")


async def test_a_key_is_sent_and_is_in_no_record_and_no_message(start: Start, monkeypatch, tmp_path: Path) -> None:
    mock, url = await start(key="sk-right", fail_share=0.0)
    monkeypatch.setenv("MY_KEY", "sk-right")
    record = await load(url, "--api-key-variable", "MY_KEY")
    assert mock.served[0].headers["authorization"] == "Bearer sk-right"
    assert "sk-right" not in json.dumps(record)
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    with pytest.raises(
        Refused, match=r"Incorrect API key provided: \*+\.\): the variable MY_KEY is not right"
    ) as refused:
        await load(url, "--api-key-variable", "MY_KEY")
    assert "sk-wrong" not in str(refused.value)


async def test_without_ignore_eos_an_answer_may_end_by_itself(start: Start) -> None:
    _, url = await start(unknown_fields=frozenset({"ignore_eos"}), stop_after=2)
    record = await load(url, "--no-ignore-eos", "--api", "chat")
    ours = record["llmval"]
    assert record["failed"] == 0 and ours["finish_reasons"] == {"stop": record["completed"]}
    assert set(record["output_lens"]) == {2} and ours["workload"]["ignore_eos"] is False


@pytest.mark.parametrize(
    ("behaviour", "differ", "fit"),
    [
        ({"template_tokens": 11}, 0, {"tokens_per_word": 1.0, "overhead_tokens": 11.0}),
        ({"template_tokens": 3, "words_per_token": 2}, 20, {"tokens_per_word": 2.0, "overhead_tokens": 3.0}),
    ],
)
async def test_a_chat_prompt_has_the_length_that_the_server_counts(
    start: Start, behaviour: dict, differ: int, fit: dict
) -> None:
    """Where a word has two tokens, every even length can only be missed by one; the record says so."""
    _, url = await start(**behaviour)
    record = await load(url, "--api", "chat", "--prompt-len", "30")
    ours = record["llmval"]
    assert ours["workload"]["text_fit"] == fit
    assert ours["prompt_tokens"]["requests_that_differ"] == differ
    assert set(record["input_lens"]) <= {30, 31, 29}
    assert abs(ours["prompt_tokens"]["counted_by_the_server"] - 600) <= differ


async def test_prompts_and_trace_of_the_operator(start: Start, tmp_path: Path) -> None:
    mock, url = await start()
    (tmp_path / "t").write_text("".join(f"{i / 64},{20 + i},{2 + i % 3}\n" for i in range(12)))
    record = (await run(url, "--trace", str(tmp_path / "t"), "--warmup", "2"))._result(None)
    CHECK(record)
    requests = record["llmval"]["requests"]
    assert [one["intended_s"] for one in requests] == [i / 64 for i in range(12)]
    assert [(one["input_tokens"], one["output_tokens"]) for one in requests] == [(20 + i, 2 + i % 3) for i in range(12)]
    assert record["request_rate"] == 64 and len(record["llmval"]["workload"]["trace"]["sha256"]) == 64

    (tmp_path / "p").write_text('one two\n{"prompt": "three", "output_tokens": 6}\n')
    flags = ["--prompts", str(tmp_path / "p"), "--duration", "0.25", "--target-qps", "40", "--output-len", "3"]
    record = (await run(url, *flags))._result(None)
    CHECK(record)
    assert {one.body["prompt"] for one in mock.served[-10:]} == {"one two", "three"}
    assert set(record["output_lens"]) == {3, 6} and set(record["input_lens"]) == {1, 2}
    assert record["llmval"]["prompt_tokens"]["asked"] is None


async def test_connections_are_used_again_and_one_that_was_just_closed_is_replaced(start: Start) -> None:
    _, url = await start()
    record = await load(url, "--max-in-flight", "1")
    assert record["llmval"]["connections"]["opened"] <= 6, "the probe gives one up"
    assert record["max_concurrency"] == 1 and record["max_concurrent_requests"] == 1
    _, url = await start(close=True)
    record = await load(url)
    assert record["failed"] == 0


async def test_a_search_has_its_trials_and_the_window_of_the_last(start: Start) -> None:
    _, url = await start()
    flags = ["--find-max-qps", "--slo-e2e-ms", "60000", "--target-qps", "16", "--max-qps", "32"]
    record = await load(url, *flags)
    CHECK(record)
    search = record["llmval"]["search"]
    # On a slow machine the first trial can fail, so that it is repeated at the same rate.
    rates = [trial["target_qps"] for trial in search["trials"]]
    assert rates[0] == 16 and max(rates) <= 32 and len(rates) > 1
    assert search["outcome"] != "interrupted" and record["llmval"]["verdict"]["reason"] == search["sentence"]
    assert record["request_rate"] == search["trials"][-1]["target_qps"]


async def test_the_last_screen_of_a_server_has_what_only_a_server_has(start: Start) -> None:
    _, url = await start(fail_share=0.4, healthy=6, words_per_token=2)
    record = await load(url, "--api", "chat", "--prompt-len", "29", "--warmup", "0")
    screen = last_screen(record, "nowhere")
    assert f"failed by           http status {record['failed']}" in screen
    assert "prompt tokens       " in screen and "by the server's count" in screen
    assert "inter-chunk" in screen and "ITL" not in screen and "MFU" not in screen and "None" not in screen
    assert all(len(line) <= 80 for line in screen.splitlines())


async def test_a_mock_whose_queue_was_given_up_still_serves_no_more_than_its_slots(start: Start) -> None:
    mock, url = await start(slots=1, gap_s=0.3)
    await load(url, "--warmup", "0", "--drain-timeout", "0.1")
    assert mock.most_open > 1
    while mock.open or mock.waiting:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # the last one of the queue gives its slot back in the next round of the loop
    assert mock.busy == 0
