"""gpu-burn, which ends with 0 in any case, and the report of trtllm-bench."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import gate, outcome, read

BURN = "mpirun -np 1 ./gpu_burn 3600"
PROGRESS = (
    "\r{share}%  proc'd: 1342 (40012 Gflop/s) - {second}   errors: {errors}   temps: 61 C - 63 C   "
    "power: 690 W - 688 W "
)
GOOD, DIED = "1339 (39870 Gflop/s)", "-1 (0 Gflop/s)"
SUMMARY = "\nKilling processes with SIGTERM (soft kill)\ndone\n\nTested 2 GPUs:\n\tGPU 0: OK\n\tGPU 1: {state}\n"


def burn(tmp_path: Path, second: str = GOOD, errors: str = "0 - 0", end: str = SUMMARY.format(state="OK")) -> Any:
    log = tmp_path / "log"
    log.write_text(PROGRESS.format(share=50.1, second=second, errors=errors) + end)
    return read(BURN, stdout=log)


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({}, Outcome.PASS, "2 of 2 right"),
        ({"errors": "0 - 7  (WARNING!)", "end": SUMMARY.format(state="FAULTY")}, Outcome.FAIL, "1 of 2 right"),
        ({"second": DIED, "errors": "0 - 0  (DIED!)"}, Outcome.FAIL, "1 of 2 right"),  # its summary says OK
        ({"errors": "3  (WARNING!) - 0 "}, Outcome.FAIL, "2 of 2 right"),
    ],
)
def test_gpu_burn(tmp_path: Path, changes: dict[str, str], expected: Outcome, said: str) -> None:
    result = burn(tmp_path, **changes)
    assert (outcome(result), gate(result, "GPUs").measured) == (expected, said)


@pytest.mark.parametrize("end", ["", "\nTested 2 GPUs:\n", "\nTested 2 GPUs:\n\tGPU 0: OK\n", "\nTested 0 GPUs:\n"])
def test_gpu_burn_without_a_whole_summary_proves_nothing(tmp_path: Path, end: str) -> None:
    assert outcome(burn(tmp_path, end=end)) is Outcome.INCONCLUSIVE


def test_figures_of_gpu_burn(tmp_path: Path) -> None:
    metrics = burn(tmp_path).metrics
    assert {name: one.value for name, one in metrics.items()} == {
        "gpus.faulty": 0, "gpus.total": 2, "errors": 0, "gflops.min": 39870, "gflops.max": 40012,
    }  # fmt: skip


TRTLLM = "trtllm-bench --model m throughput --num_requests 100 --report_json r.json --streaming"
PERCENTILES = {"p50": 1.0, "p90": 2.0, "p95": 2.5, "p99": 3.0, "minimum": 0.5, "maximum": 4.0, "average": 1.2}
REPORT: dict[str, dict[str, Any]] = {
    "engine": {"model": "m", "version": "1.1.0"},
    "request_info": {"num_requests": 100, "avg_output_length": 128.0},
    "performance": {
        "total_latency_ms": 20_000.0,
        "request_throughput_req_s": 5.0,
        "system_output_throughput_tok_s": 640.0,
        "request_latency_percentiles_ms": PERCENTILES,
    },
    "streaming_metrics": {"ttft_percentiles": PERCENTILES, "tpot_percentiles": PERCENTILES},
}


def trtllm(tmp_path: Path, **changes: dict[str, Any]) -> Any:
    file = tmp_path / "r.json"
    value = {name: {**part, **changes.get(name, {})} for name, part in REPORT.items()}
    file.write_text(json.dumps(value))
    return read(TRTLLM, file)


def test_a_report_of_trtllm_bench(tmp_path: Path) -> None:
    result = trtllm(tmp_path)
    assert outcome(result) is Outcome.PASS
    values = {name: (one.value, one.unit) for name, one in result.metrics.items()}
    assert values["output_throughput"] == (640.0, "tokens/s")
    assert (values["ttft.p99"], values["e2e.mean"]) == ((3.0, "ms"), (1.2, "ms"))


@pytest.mark.parametrize(
    ("changes", "expected", "blamed"),
    [
        ({"request_info": {"num_requests": 99}}, Outcome.FAIL, "completed requests"),
        ({"request_info": {"avg_output_length": 0.0}}, Outcome.FAIL, "answers"),
        ({"performance": {"request_throughput_req_s": 7.0}}, Outcome.INVALID, "totals"),
    ],
)
def test_a_report_of_trtllm_bench_that_is_not_good(
    tmp_path: Path, changes: dict[str, Any], expected: Outcome, blamed: str
) -> None:
    assert gate(trtllm(tmp_path, **changes), blamed).outcome is expected


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"request_info": 3}', '{"request_info": {"num_requests": NaN}}'])
def test_a_report_of_trtllm_bench_that_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(content)
    assert outcome(read(TRTLLM, file)) is Outcome.INCONCLUSIVE


def test_what_builds_or_lists_is_not_a_benchmark() -> None:
    assert tool_of(["trtllm-bench", "--model", "m", "build", "--tp_size", "2"]) is None
    assert tool_of(["gpu_burn", "-l"]) is None
    assert outcome(read("trtllm-bench -m m throughput --dataset d")) is Outcome.INCONCLUSIVE  # no --report_json
