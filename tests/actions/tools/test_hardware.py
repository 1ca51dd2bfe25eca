"""The results of hardware tests: only what was tested and passed is a pass."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.tools.by_command import tool_of_files
from llmval_tui.actions.tools.model import LeftFiles
from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import RESULTS, changed, gate, outcome, read

NCCL = "mpirun -np 2 all_reduce_perf -b 1M -e 8M -f 2"
DIAG = "dcgmi diag -r 3"


@pytest.mark.parametrize(
    ("log", "expected", "blamed", "measured"),
    [
        ("nccl_all_reduce.txt", Outcome.PASS, "wrong results", "0 wrong elements, 0 values out of bounds"),
        ("nccl_wrong.txt", Outcome.FAIL, "wrong results", "37 wrong elements, 1 values out of bounds"),
        ("nccl_unchecked.txt", Outcome.INCONCLUSIVE, "wrong results", "0 wrong elements, 0 values out of bounds"),
        ("nccl_without_mpi.txt", Outcome.FAIL, "one test of all ranks", "2 separate tests"),
    ],
)
def test_nccl_tests_text(log: str, expected: Outcome, blamed: str, measured: str) -> None:
    result = read(NCCL, stdout=log)
    assert outcome(result) is expected
    assert (gate(result, blamed).outcome, gate(result, blamed).measured) == (expected, measured)


def test_nccl_tests_json_and_text_give_the_same_figures() -> None:
    text = read(NCCL, stdout="nccl_all_reduce.txt")
    as_json = read(f"{NCCL} -J a.json", "nccl_all_reduce.json", stdout="nccl_all_reduce.txt")
    assert outcome(as_json) is Outcome.PASS
    assert as_json.metrics == text.metrics
    assert as_json.metrics["busbw"].value == pytest.approx(94.2625)
    assert as_json.metrics["busbw.8388608"].value == pytest.approx(145.89)  # the worse of out-of-place and in-place
    assert as_json.metrics["ranks"].value == 2


@pytest.mark.parametrize(
    ("path", "value", "name", "expected"),
    [
        (("average_bus_bandwidth", "okay"), "false", "average busbw", Outcome.FAIL),
        (("average_bus_bandwidth", "okay"), "true", "average busbw", Outcome.PASS),
        (("average_bus_bandwidth", "bandwidth"), "nan", "average busbw", Outcome.INCONCLUSIVE),
        (("average_bus_bandwidth", "bandwidth"), 0.0, "average busbw", Outcome.INCONCLUSIVE),
        (("out_of_bounds", "okay"), "false", "wrong results", Outcome.INCONCLUSIVE),
        (("out_of_bounds", "count"), 3, "wrong results", Outcome.FAIL),
        (("results", 0, "in_place", "nwrong"), 12.0, "wrong results", Outcome.FAIL),
        (("results", 0, "in_place", "nwrong"), None, "wrong results", Outcome.PASS),  # the other half is checked
        (("config", "devices"), [{}], "one test of all ranks", Outcome.INCONCLUSIVE),
        (("config", "devices"), None, "one test of all ranks", Outcome.INCONCLUSIVE),
        (("version",), 99, "result format", Outcome.INCONCLUSIVE),
        (("errors",), ["remote process exited"], "NCCL errors", Outcome.FAIL),
    ],
)
def test_nccl_tests_json(
    path: tuple[str | int, ...], value: object, name: str, expected: Outcome, tmp_path: Path
) -> None:
    def change(result: Any) -> None:
        for key in path[:-1]:
            result = result[key]
        result[path[-1]] = value

    result = read(f"{NCCL} -J a.json", changed("nccl_all_reduce.json", tmp_path / "a.json", change))
    assert gate(result, name).outcome is expected


def test_a_test_that_did_not_end_is_inconclusive(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text((RESULTS / "nccl_all_reduce.txt").read_text().partition("# Out of bounds")[0])
    assert outcome(read(NCCL, stdout=log)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("command", "log", "expected", "measured"),
    [
        ("nvbandwidth -j", "nvbandwidth.json", Outcome.PASS, "4 passed"),
        ("nvbandwidth -j", "nvbandwidth_waived.json", Outcome.INCONCLUSIVE, "1 passed, 1 waived"),
        ("nvbandwidth -j", "nvbandwidth_error.json", Outcome.FAIL, "1 passed, 2 error"),
        ("nvbandwidth", "nvbandwidth.txt", Outcome.INCONCLUSIVE, "3 passed, 1 waived"),
        ("nvbandwidth -j -t host_to_device_memcpy_ce no_such", "nvbandwidth.json", Outcome.INCONCLUSIVE, "4 passed"),
    ],
)
def test_nvbandwidth(command: str, log: str, expected: Outcome, measured: str) -> None:
    result = read(command, stdout=log)
    assert outcome(result) is expected
    assert gate(result, "tests").measured == measured


@pytest.mark.parametrize("log", ["nvbandwidth.json", "nvbandwidth.txt"])
def test_the_bandwidth_of_a_bidirectional_test_is_its_total(log: str) -> None:
    metrics = read("nvbandwidth -j", stdout=log).metrics
    name = "device_to_device_bidirectional_memcpy_read_ce"
    assert [metrics[f"{name}.{key}"].value for key in ("min", "max", "sum")] == [604, 606, 1210]
    assert metrics["device_to_device_latency_sm.max"].unit == "ns"


def test_copies_that_were_not_verified_are_inconclusive() -> None:
    assert outcome(read("nvbandwidth -j -s", stdout="nvbandwidth.json")) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("log", "expected", "version", "reason"),
    [
        ("dcgm3.txt", Outcome.PASS, "3.3.5", ""),
        ("dcgm3.json", Outcome.PASS, "3.3.5", ""),
        ("dcgm4.json", Outcome.PASS, "4.4.1", ""),
        ("dcgm3_fail.txt", Outcome.FAIL, "3.3.5", "PCIe (GPU: 1): GPU 1 PCIe replays"),
        ("dcgm3_fail.json", Outcome.FAIL, "3", "PCIe (GPU 1): GPU 1 PCIe replays"),
        ("dcgm4.txt", Outcome.INCONCLUSIVE, "4.4.1", "memory (GPU0): ECC memory on GPU 0"),
        ("dcgm4_skip.json", Outcome.INCONCLUSIVE, "4.4.1", "memory (GPU 0): ECC memory on GPU 0"),
    ],
)
def test_dcgmi_diag(log: str, expected: Outcome, version: str, reason: str) -> None:
    result = read(DIAG + (" -j" if log.endswith("json") else ""), stdout=log)
    assert outcome(result) is expected
    assert gate(result, "result format").measured == f"DCGM {version}"
    assert reason in gate(result, "diagnostic tests").reason


@pytest.mark.parametrize("status", ["Skip", "Warn", "Not Run", "Unknown", "", None, 0, "passed"])
def test_only_the_status_pass_is_a_pass(status: object, tmp_path: Path) -> None:
    def change(value: Any) -> None:
        value["DCGM Diagnostic"]["test_categories"][0]["tests"][0]["results"][1]["status"] = status

    log = changed("dcgm4.json", tmp_path / "log", change)
    assert outcome(read(f"{DIAG} -j", stdout=log)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Error: unable to establish a connection to the specified host: localhost\n",
        '{"DCGM Diagnostic": {"runtime_error": "Diagnostic could not be run, DCGM is paused.", "version": "4.4.1"}}',
        '{"DCGM Diagnostic": {"test_categories": [], "version": "4.4.1"}}',
        '{"DCGM Diagnostic": {"test_categories": [{"category": "x", "tests": [{"name": "memory"}]}], "version": "4"}}',
        '{"DCGM Diagnostic": {"test_categories": [{"tests": [{"results": [{"status": "Pass"}]}]}], "version": "9.0"}}',
        '{"something else": 1}',
    ],
)
def test_a_diagnosis_without_results_is_inconclusive(text: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert outcome(read(f"{DIAG} -j", stdout=log)) is Outcome.INCONCLUSIVE
    assert outcome(read(DIAG, stdout=log)) is Outcome.INCONCLUSIVE


def test_every_iteration_of_a_diagnosis_counts(tmp_path: Path) -> None:
    good, bad = (json.loads((RESULTS / name).read_text()) for name in ("dcgm4.json", "dcgm4_skip.json"))
    log = tmp_path / "log"
    log.write_text(json.dumps({"iterations": [good, good], "Overall Result": "Pass"}))
    assert outcome(read(f"{DIAG} -j", stdout=log)) is Outcome.PASS
    log.write_text(json.dumps({"iterations": [good, bad], "Overall Result": "Pass"}))
    assert outcome(read(f"{DIAG} -j", stdout=log)) is Outcome.INCONCLUSIVE
    log.write_text(json.dumps({"iterations": [good], "Overall Result": "Fail"}))
    assert outcome(read(f"{DIAG} -j", stdout=log)) is Outcome.FAIL


def test_the_bandwidths_of_a_diagnosis_are_metrics() -> None:
    metrics = read(f"{DIAG} -j", stdout="dcgm3.json").metrics
    assert metrics["gpu_to_host_bandwidth.gpu1"].value == metrics["gpu_to_host_bandwidth.min"].value == 52.9
    assert metrics["gpus"].value == 2


def _as(name: str, target: Path) -> Path:
    target.write_bytes((RESULTS / name).read_bytes())
    return target


def test_superbench(tmp_path: Path) -> None:
    command = "sb run --output-dir a"
    summary = tmp_path / "results-summary.jsonl"
    good = read(command, _as("superbench_run.jsonl", summary))
    assert outcome(good) is Outcome.PASS
    assert good.metrics["mem-bw/H2D_Mem_BW.min"].value == 25.8
    bad = read(command, _as("superbench_run_fail.jsonl", summary))
    assert (gate(bad, "return codes").outcome, gate(bad, "return codes").reason) == (Outcome.FAIL, "node2 mem-bw: 1")
    summary.write_text('{"node": "node1", "mem-bw/H2D_Mem_BW:0": 25.6}\n')
    assert outcome(read(command, summary)) is Outcome.INCONCLUSIVE


def test_superbench_diagnosis(tmp_path: Path) -> None:
    command = "sb result diagnosis --output-dir a --output-file-format jsonl --output-all"
    summary = _as("superbench_diagnosis.jsonl", tmp_path / "diagnosis_summary.jsonl")
    result = read(command, summary)
    assert gate(result, "diagnosis").measured == "1 of 2 nodes accepted"
    assert "node2: mem-bw" in gate(result, "diagnosis").reason
    summary.write_text(summary.read_text().splitlines()[0] + "\n")
    assert outcome(read(command, summary)) is Outcome.PASS


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", Outcome.PASS),
        ("Result is : VALID", "Result is : INVALID", Outcome.FAIL),
        ("Performance constraints satisfied : Yes", "Performance constraints satisfied : NO", Outcome.FAIL),
        ("No errors encountered", "2 ERRORS encountered", Outcome.FAIL),
        ("No errors encountered during test.", "", Outcome.INCONCLUSIVE),
        ("Result is : VALID", "", Outcome.INCONCLUSIVE),
    ],
)
def test_mlperf_loadgen(old: str, new: str, expected: Outcome, tmp_path: Path) -> None:
    summary = tmp_path / "mlperf_log_summary.txt"
    summary.write_text((RESULTS / summary.name).read_text().replace(old, new))
    tool = tool_of_files([summary])
    assert tool is not None
    result = tool.read(LeftFiles((summary,)))
    assert outcome(result) is expected
    assert not result.metrics or result.metrics["ttft.p99"].value == pytest.approx(181.5)


def test_an_error_in_the_detailed_log_of_loadgen_fails(tmp_path: Path) -> None:
    summary = _as("mlperf_log_summary.txt", tmp_path / "mlperf_log_summary.txt")
    detail = tmp_path / "mlperf_log_detail.txt"
    detail.write_text(':::MLLOG {"key": "error_runtime", "value": "gap in queries", "metadata": {"is_error": true}}\n')
    tool = tool_of_files([summary])
    assert tool is not None
    found = gate(tool.read(LeftFiles((summary, detail))), "LoadGen errors")
    assert (found.outcome, found.reason) == (Outcome.FAIL, "error_runtime gap in queries")
