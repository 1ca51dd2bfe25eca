"""The results of load generators: failed requests, rates, and latencies from the intended arrival."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import RESULTS, changed, gate, outcome, read

VLLM = "vllm bench serve --save-result --save-detailed --result-dir a --num-prompts 30"
AIPERF = "aiperf profile --artifact-dir a"
GUIDELLM = "guidellm run --output kind=json,path=a.json"
SGLANG = "python -m sglang.bench_serving --num-prompts 4 --output-file a.jsonl --output-details"


@pytest.mark.parametrize(
    ("command", "file", "measured"),
    [
        (f"{AIPERF} --request-count 20", "aiperf_fail", "15 of 20 (75%)"),
        (f"{GUIDELLM} --constraint kind=max_requests,count=20", "guidellm_fail.json", "11 of 20 (55%)"),
    ],
)
def test_failed_requests_fail_with_their_count(command: str, file: str, measured: str) -> None:
    result = read(command, file)
    failed = gate(result, "failed requests")
    assert outcome(result) is Outcome.FAIL
    assert (failed.outcome, failed.measured) == (Outcome.FAIL, measured)
    assert "500" in failed.reason
    assert result.metrics["requests.failed"].value == int(measured.split()[0])


def test_vllm_latencies_are_those_from_the_intended_arrival() -> None:
    result = read(f"{VLLM} --max-concurrency 4 --request-rate 6", "vllm_serve_slow.json")
    assert result.metrics["ttft.p99"].value == pytest.approx(5198, abs=1)
    assert "5198 ms from the intended arrival (the tool reports 1333 ms)" in result.summary
    rate = gate(result, "achieved rate")
    assert rate.outcome is Outcome.FAIL
    assert "--max-concurrency 4 held requests back" in rate.reason
    assert gate(result, "kept up").outcome is Outcome.FAIL


def test_a_good_run_of_vllm_passes_with_its_figures() -> None:
    result = read(VLLM, "vllm_serve_good.json")
    assert outcome(result) is Outcome.PASS
    assert result.metrics["requests.completed"].value == 30
    assert result.metrics["request_throughput"].value == pytest.approx(2.8908, abs=1e-3)
    assert result.metrics["itl.p50"].value is not None


def test_guidellm_latencies_are_those_from_the_targeted_start() -> None:
    result = read(f"{GUIDELLM} --constraint kind=max_requests,count=30", "guidellm_slow.json")
    assert result.metrics["ttft.p99"].value == pytest.approx(5248, abs=1)
    assert gate(result, "achieved rate").outcome is Outcome.PASS  # the client sent in time, the server was slow
    assert gate(result, "kept up").outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("command", "file", "p99_ms"), [(AIPERF, "aiperf_closed", 1324), (GUIDELLM, "guidellm_closed.json", 1344)]
)
def test_in_a_closed_loop_latencies_count_from_the_dispatch(command: str, file: str, p99_ms: float) -> None:
    result = read(command, file)
    assert outcome(result) is Outcome.PASS
    assert result.metrics["ttft.p99"].value == pytest.approx(p99_ms, abs=1)
    assert "a closed loop" in result.summary
    assert "achieved rate" not in [one.name for one in result.gates]


def test_aiperf_with_a_limit_that_was_reached_has_no_latencies() -> None:
    result = read(f"{AIPERF} --request-rate 6 --concurrency 4", "aiperf_slow")
    p99 = result.metrics["ttft.p99"]
    assert p99.value is None
    assert "--concurrency 4 was reached" in p99.reason
    assert outcome(result) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("queue_times",), "vLLM 0.32 and later"),
        (("queue_times", "start_times"), "vLLM 0.32 and later"),
        (("queue_times", "start_times", "ttfts", "latencies", "itls", "errors"), "--save-detailed"),
    ],
)
def test_vllm_without_the_intended_arrival_has_no_latencies(keys: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        for key in keys:
            del value[key]

    result = read(VLLM, changed("vllm_serve_good.json", tmp_path / "r.json", change))
    for name in ("ttft.p99", "e2e.p50", "tpot.mean", "itl.p99"):
        assert result.metrics[name].value is None
        assert reason in result.metrics[name].reason
    assert gate(result, "failed requests").outcome is Outcome.PASS


def test_failed_requests_of_vllm_are_not_counted_into_latencies(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["errors"][0], value["ttfts"][0], value["latencies"][0], value["output_lens"][0] = "boom", 0.0, 0.0, 0
        value["completed"], value["failed"] = 29, 1

    result = read(VLLM, changed("vllm_serve_good.json", tmp_path / "r.json", change))
    assert gate(result, "failed requests").measured == "1 of 30 (3%)"
    assert gate(result, "failed requests").reason == "boom"
    assert gate(result, "totals").outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"completed": 27, "failed": 0}, "completed requests", Outcome.FAIL),
        ({"completed": 28}, "totals", Outcome.INVALID),
        ({"completed": 0, "failed": 30}, "completed requests", Outcome.FAIL),
        ({"request_rate": 9.0}, "achieved rate", Outcome.INVALID),
    ],
)
def test_a_result_of_vllm_that_contradicts_its_command_or_itself(
    changes: dict[str, Any], name: str, expected: Outcome, tmp_path: Path
) -> None:
    result = read(VLLM, changed("vllm_serve_good.json", tmp_path / "r.json", lambda value: value.update(changes)))
    assert gate(result, name).outcome is expected


def test_fewer_requests_than_the_command_asks_for_fail() -> None:
    result = read(f"{VLLM}00", "vllm_serve_good.json")
    assert gate(result, "completed requests").bound == "3000 requests ended"
    assert gate(result, "completed requests").outcome is Outcome.FAIL


PRINTED = """
============ Serving Benchmark Result ============
Successful requests:                     {good}
Failed requests:                         {bad}
Request rate configured (RPS):           6.00
Benchmark duration (s):                  5.20
Request throughput (req/s):              5.77
Output token throughput (tok/s):         46.15
P99 TTFT (ms):                           1332.60
==================================================
"""


@pytest.mark.parametrize(("good", "bad", "expected"), [(30, 0, Outcome.PASS), (19, 11, Outcome.FAIL)])
def test_without_a_file_the_printed_counts_of_vllm_are_judged_and_no_latency(
    good: int, bad: int, expected: Outcome, tmp_path: Path
) -> None:
    log = tmp_path / "main.stdout.log"
    log.write_text(PRINTED.format(good=good, bad=bad))
    result = read("vllm bench serve --num-prompts 30", stdout=log)
    assert outcome(result) is expected
    assert gate(result, "failed requests").measured.startswith(f"{bad} of 30")
    assert "--save-detailed" in result.metrics["ttft.p99"].reason


def test_a_command_that_printed_no_result_is_inconclusive(tmp_path: Path) -> None:
    log = tmp_path / "main.stdout.log"
    log.write_text("Starting initial single prompt test run...\n")
    assert outcome(read("vllm bench serve", stdout=log)) is Outcome.INCONCLUSIVE
    assert outcome(read("vllm bench serve")) is Outcome.INCONCLUSIVE


def _sglang(tmp_path: Path, **changes: Any) -> Path:
    value = {
        "backend": "sglang", "dataset_name": "random", "request_rate": "inf", "max_concurrency": 2, "duration": 2.0,
        "completed": 4, "total_output_tokens": 32, "p99_ttft_ms": 120.0, "ttfts": [0.1, 0.1, 0.1, 0.12],
        "output_lens": [8] * 4, "errors": [""] * 4, "itls": [[0.01] * 7] * 4,
    } | changes  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"completed": 999, "duration": 1}) + "\n" + json.dumps(value) + "\n")
    return path


def test_the_last_line_of_sglang_counts_and_missing_requests_are_failures(tmp_path: Path) -> None:
    result = read(SGLANG, _sglang(tmp_path, completed=3, errors=["", "", "", "timeout"]))
    assert gate(result, "failed requests").measured == "1 of 4 (25%)"
    assert gate(result, "failed requests").reason == "timeout"


def test_sglang_has_latencies_in_a_closed_loop_only(tmp_path: Path) -> None:
    closed = read(SGLANG, _sglang(tmp_path))
    assert outcome(closed) is Outcome.PASS
    assert closed.metrics["ttft.max"].value == pytest.approx(120)
    under_rate = read(SGLANG, _sglang(tmp_path, request_rate=2.0, max_concurrency=None))
    assert under_rate.metrics["ttft.p99"].value is None
    assert "does not record when a request was due" in under_rate.metrics["ttft.p99"].reason


@pytest.mark.parametrize(
    ("summary", "ready", "expected"),
    [
        ({"was_cancelled": True}, {}, "it was cancelled"),
        ({}, {"partial": True}, "its results are partial"),
        ({"is_complete": False}, {}, "its results are partial"),
        ({}, {"ready": False}, "its results are partial"),
    ],
)
def test_a_cancelled_or_partial_run_of_aiperf_is_inconclusive(
    summary: dict[str, Any], ready: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    names = ("profile_export_aiperf.json", ".aiperf_results_ready.json")
    totals = changed(f"aiperf_closed/{names[0]}", tmp_path / names[0], lambda value: value.update(summary))
    state = changed(f"aiperf_closed/{names[1]}", tmp_path / names[1], lambda value: value.update(ready))
    lines = tmp_path / "profile_export.jsonl"
    lines.write_bytes((RESULTS / "aiperf_closed" / lines.name).read_bytes())
    result = read(AIPERF, totals, state, lines)
    assert gate(result, "run complete").measured == expected
    assert outcome(result) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("schema", ["2.0", None, 1.4, ""])
def test_an_unknown_schema_of_aiperf_is_inconclusive(schema: object, tmp_path: Path) -> None:
    name = "profile_export_aiperf.json"
    path = changed(f"aiperf_closed/{name}", tmp_path / name, lambda value: value.update(schema_version=schema))
    result = read(AIPERF, path)
    assert gate(result, "result format").outcome is Outcome.INCONCLUSIVE
    assert "no profile_export.jsonl" in result.metrics["ttft.p99"].reason


def test_genai_perf_does_not_count_failures_so_it_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_genai_perf.json"
    path.write_text(
        json.dumps({"request_throughput": {"unit": "requests/sec", "avg": 5.0}, "request_count": {"avg": 9}})
    )
    result = read("genai-perf profile --artifact-dir a", path)
    assert outcome(result) is Outcome.INCONCLUSIVE
    assert gate(result, "failed requests").measured == "unknown"


def test_one_answer_without_text_is_not_a_run_without_streaming(tmp_path: Path) -> None:
    def textless(value: dict[str, Any]) -> None:
        request = value["benchmarks"][0]["requests"]["successful"][0]
        request["info"]["timings"]["first_token_iteration"] = None

    path = changed("guidellm_slow.json", tmp_path / "a.json", textless)
    result = read(f"{GUIDELLM} --constraint kind=max_requests,count=30", path)
    assert result.metrics["ttft.p99"].value is not None, "the end of that answer counts as its first token"


def test_an_unknown_report_version_of_guidellm_is_inconclusive(tmp_path: Path) -> None:
    path = changed("guidellm_closed.json", tmp_path / "a.json", lambda value: value["metadata"].update(version=3))
    assert gate(read(GUIDELLM, path), "result format").outcome is Outcome.INCONCLUSIVE


def test_several_benchmarks_of_guidellm_are_counted_together_and_have_no_latency(tmp_path: Path) -> None:
    path = changed(
        "guidellm_fail.json", tmp_path / "a.json", lambda value: value["benchmarks"].append(value["benchmarks"][0])
    )
    result = read(GUIDELLM, path)
    assert gate(result, "failed requests").measured == "22 of 40 (55%)"
    assert "2 benchmarks" in result.metrics["ttft.p99"].reason


def test_throughput_and_latency_of_vllm(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(
        json.dumps({"elapsed_time": 10.0, "num_requests": 100, "total_num_tokens": 30000, "tokens_per_second": 3000.0})
    )
    command = "vllm bench throughput --output-json t.json --num-prompts"
    assert outcome(read(f"{command} 100", path)) is Outcome.PASS
    assert outcome(read(f"{command} 200", path)) is Outcome.FAIL
    path.write_text(json.dumps({"avg_latency": 0.5, "latencies": [0.4, 0.6]}))
    latency = read("vllm bench latency --output-json t.json --num-iters 2", path)
    assert outcome(latency) is Outcome.PASS
    assert latency.metrics["e2e.mean"].value == pytest.approx(500)
