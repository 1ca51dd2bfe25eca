"""A result that contradicts itself, or measured nothing, is no pass."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import RESULTS, changed, gate, outcome, read

VLLM = "vllm bench serve --save-result --save-detailed --result-dir a --num-prompts 30"
SGLANG = "python -m sglang.bench_serving --num-prompts 3 --output-file a.jsonl --output-details"
THROUGHPUT = "vllm bench throughput --output-json a.json"
TRTLLM = "trtllm-bench --model m throughput --report_json a.json"
UNJUDGED = (Outcome.INVALID, Outcome.INCONCLUSIVE)
REPORT: dict[str, Any] = {
    "engine": {"version": "1.0.0"},
    "request_info": {"num_requests": 100, "avg_output_length": 64.0},
    "performance": {
        "total_latency_ms": 5000.0, "request_throughput_req_s": 20.0, "system_output_throughput_tok_s": 1280.0,
        "system_total_throughput_tok_s": 3840.0,
        "request_latency_percentiles_ms": {"p50": 390.0, "p90": 420.0, "p95": 430.0, "p99": 440.0, "maximum": 450.0},
    },
}  # fmt: skip
JOB = {
    "jobname": "x", "groupid": 0, "error": 0,
    "read": {"io_bytes": 2**30, "bw_bytes": 999_800_000, "iops": 244_000.0, "runtime": 1074},
}  # fmt: skip


@pytest.mark.parametrize("change", [
    {"duration": float("nan")}, {"duration": 0}, {"duration": -5.0}, {"duration": None}, {"duration": 1.0377},
    {"total_output_tokens": 2400}, {"request_throughput": 289.0}, {"output_throughput": 2312.0},
    {"total_token_throughput": 7.1}, {"ttfts": [-1.0] * 30}, {"ttfts": [0.0] * 30}, {"latencies": [0.001] * 30},
    {"mean_ttft_ms": 0.5}, {"mean_e2el_ms": 1.0}, {"p99_ttft_ms": 0.001}, {"p99_tpot_ms": 0.0001},
    {"failed": -1}, {"total_input_tokens": -5}, {"request_goodput": 1e6}, {"itls": [[-1.0]] * 30},
    {"output_lens": [0] * 30, "total_output_tokens": 0, "output_throughput": 0.0, "total_token_throughput": 47.98},
], ids=str)  # fmt: skip
def test_a_result_of_vllm_that_contradicts_itself_is_no_pass(change: dict[str, Any], tmp_path: Path) -> None:
    assert outcome(read(VLLM, "vllm_serve_good.json")) is Outcome.PASS
    result = read(VLLM, changed("vllm_serve_good.json", tmp_path / "r.json", lambda value: value.update(change)))
    assert outcome(result) in UNJUDGED


@pytest.mark.parametrize("percentiles", [{"50": 9.0, "99": 0.1}, {"50": 0.1, "99": 0.1}, {"50": "2"}], ids=str)
def test_percentiles_that_the_latencies_of_vllm_cannot_have_are_no_pass(percentiles: Any, tmp_path: Path) -> None:
    command = "vllm bench latency --output-json a.json"
    assert outcome(read(command, "vllm_latency.json")) is Outcome.PASS
    change = lambda value: value.update({"percentiles": percentiles})  # noqa: E731
    assert outcome(read(command, changed("vllm_latency.json", tmp_path / "r.json", change))) in UNJUDGED


def test_embeddings_have_no_tokens_and_no_first_one(tmp_path: Path) -> None:
    change = {
        "backend": "openai-embeddings", "endpoint_type": "openai-embeddings", "ttfts": [0.0] * 30,
        "output_lens": [0] * 30, "total_output_tokens": 0, "output_throughput": 0.0, "total_token_throughput": 47.98,
    }  # fmt: skip
    result = read(VLLM, changed("vllm_serve_good.json", tmp_path / "r.json", lambda value: value.update(change)))
    assert outcome(result) is Outcome.PASS
    assert result.metrics["ttft.p99"].value is None and result.metrics["e2e.p99"].value is not None


@pytest.mark.parametrize(("seconds", "rate", "wanted"), [
    ("5.78", "17.30", (Outcome.PASS,)), ("50.0", "200.00", UNJUDGED), ("5.78", "0.00", UNJUDGED),
])  # fmt: skip
def test_the_printed_rate_is_that_of_the_printed_counts(
    seconds: str, rate: str, wanted: tuple[Outcome, ...], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text(
        "==== Serving Benchmark Result ====\nSuccessful requests:   100\nFailed requests:   0\n"
        f"Benchmark duration (s):   {seconds}\nRequest throughput (req/s):   {rate}\n"
        "Total Token throughput (tok/s):   519.03\n"
    )
    result = read("vllm bench serve --num-prompts 100", stdout=log)
    assert outcome(result) in wanted
    assert result.metrics["total_throughput"].value == 519.03


@pytest.mark.parametrize("change", [
    {"total_output_tokens": 3000}, {"request_throughput": 150.0}, {"output_throughput": 1500.0},
    {"ttfts": [-0.1, 0.1, 0.2]}, {"output_lens": [0, 0, 0], "total_output_tokens": 0, "output_throughput": 0.0},
], ids=str)  # fmt: skip
def test_a_result_of_sglang_that_contradicts_itself_is_no_pass(change: dict[str, Any], tmp_path: Path) -> None:
    value = json.loads((RESULTS / "sglang_closed.jsonl").read_text())
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(value))
    assert outcome(read(SGLANG, file)) is Outcome.PASS
    file.write_text(json.dumps(value | change))
    assert outcome(read(SGLANG, file)) in UNJUDGED


@pytest.mark.parametrize(("metric", "value"), [
    ("request_throughput", 9999.0), ("output_token_throughput", 1e6), ("benchmark_duration", float("nan")),
    ("benchmark_duration", 0),
])  # fmt: skip
def test_a_result_of_aiperf_that_contradicts_itself_is_no_pass(metric: str, value: float, tmp_path: Path) -> None:
    name = "profile_export_aiperf.json"
    changed(f"aiperf_closed/{name}", tmp_path / name, lambda found: found[metric].update(avg=value))
    (tmp_path / "profile_export.jsonl").write_bytes((RESULTS / "aiperf_closed/profile_export.jsonl").read_bytes())
    assert outcome(read("aiperf profile --artifact-dir a", "aiperf_closed")) is Outcome.PASS
    assert outcome(read("aiperf profile --artifact-dir a", tmp_path)) in UNJUDGED


@pytest.mark.parametrize("change", [{"requests_per_second": 5000.0}, {"total_num_tokens": 0, "tokens_per_second": 0}])
def test_vllm_throughput_compares_both_rates(change: dict[str, Any], tmp_path: Path) -> None:
    assert outcome(read(THROUGHPUT, "vllm_throughput.json")) is Outcome.PASS
    file = changed("vllm_throughput.json", tmp_path / "r.json", lambda value: value.update(change))
    assert outcome(read(THROUGHPUT, file)) in UNJUDGED


@pytest.mark.parametrize("change", [
    lambda found: found.update(system_output_throughput_tok_s=128_000.0),
    lambda found: found.update(system_total_throughput_tok_s=3.0),
    lambda found: found["request_latency_percentiles_ms"].update(p99=1.0),
])  # fmt: skip
def test_a_report_of_trtllm_bench_that_contradicts_itself_is_no_pass(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    file, report = tmp_path / "r.json", json.loads(json.dumps(REPORT))
    file.write_text(json.dumps(report))
    assert outcome(read(TRTLLM, file)) is Outcome.PASS
    change(report["performance"])
    file.write_text(json.dumps(report))
    assert outcome(read(TRTLLM, file)) is Outcome.INVALID


@pytest.mark.parametrize(("change", "wanted"), [
    ({}, Outcome.PASS), ({"total_err": 3, "first_error": 5}, Outcome.FAIL),
    ({"read": JOB["read"] | {"bw_bytes": 10**11}}, Outcome.INCONCLUSIVE),  # type: ignore[operator]
])  # fmt: skip
def test_a_job_of_fio_that_went_on_after_errors_fails(change: dict[str, Any], wanted: Outcome, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"fio version": "fio-3.36", "jobs": [JOB | change]}))
    assert outcome(read("fio x --output-format=json --output=a.json", file)) is wanted


def test_perftest_with_a_failed_operation_or_a_rate_of_0_is_no_pass(tmp_path: Path) -> None:
    good, log = (RESULTS / "perftest_write_bw.txt").read_text(), tmp_path / "log"
    log.write_text(f"{good}\n Completion with error at client\n Failed status 12: wr_id 0 syndrom 0x81\n")
    assert outcome(read("ib_write_bw h", stdout=log)) is Outcome.FAIL
    log.write_text(
        " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]\n"
        f" 65536      5000             0.00               0.00               0.000000\n{'-' * 60}\n"
    )
    assert outcome(read("ib_write_bw h", stdout=log)) is Outcome.INCONCLUSIVE


def test_an_average_above_every_size_is_invalid(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        re.sub(r"(# Avg bus bandwidth\s*: )\S+", r"\g<1>9999", (RESULTS / "nccl_all_reduce.txt").read_text())
    )
    assert gate(read("all_reduce_perf", stdout=log), "average busbw").outcome is Outcome.INVALID


def test_a_function_of_stream_at_0_was_not_measured(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(re.sub(r"^(Copy:\s+)\S+", r"\g<1>0.0", (RESULTS / "stream.txt").read_text(), flags=re.MULTILINE))
    assert outcome(read("stream", stdout=log)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("progress", "states", "wanted"), [
    ("9 (20000 Gflop/s) - 8 (19900 Gflop/s)   errors: 0 - 0   temps: 60 C - 61 C", "OK OK", Outcome.PASS),
    ("9 (20000 Gflop/s) - 0 (0 Gflop/s)   errors: 0 - 0   temps: 60 C - 61 C", "OK OK", Outcome.INCONCLUSIVE),
    ("9 (20000 Gflop/s) - 0 (0 Gflop/s)   errors: 0 - 0   temps: 60 C - 61 C", "OK FAULTY", Outcome.FAIL),
    ("", "OK OK", Outcome.INCONCLUSIVE),
])  # fmt: skip
def test_a_gpu_that_multiplied_nothing_was_not_tested(
    progress: str, states: str, wanted: Outcome, tmp_path: Path
) -> None:
    lines = "".join(f"\tGPU {gpu}: {state}\n" for gpu, state in enumerate(states.split()))
    log = tmp_path / "log"
    log.write_text((f"100.0%  proc'd: {progress} \n" if progress else "") + f"\nTested 2 GPUs:\n{lines}")
    assert outcome(read("gpu_burn 60", stdout=log)) is wanted
