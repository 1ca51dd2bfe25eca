"""Results of other tools: each is named rightly, its energy is read, and its failed requests are listed."""

import gzip
import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.power.analysis import markdown
from llmval_runners.power.analysis.record import UnsupportedFile
from llmval_runners.power.analysis.summary import read, read_all, summarise

FILES = Path(__file__).parent / "other_tools"
SCHEMA = Path(__file__).parents[3] / "docs" / "schemas" / "power_summary.schema.json"

# File: tool, model, tokens/s, W, tokens/J, failed requests (None: it does not say).
READ = {
    "vllm_throughput.json": ("vLLM bench throughput", "unnamed", 2000.0, 1000.0, 1.0, None),
    "vllm_failed_many.json": ("vLLM bench serve", "m/x", 1000.0, 1000.0, 1.0, 80),
    "trtllm_bench.json": ("trtllm-bench", "m", 1000.0, 1000.0, 1.0, None),
    "trtllm_serving.json": ("TensorRT-LLM serving benchmark", "m/x", 1000.0, 1000.0, 1.0, 0),
    "genai_perf.json": ("genai-perf", "m", 1000.0, 500.0, 2.0, None),
    "ai_15_nvidia.json": ("AIPerf", "m/x", 1000.0, 1000.0, 1.0, None),
    "ai_15_amd.json": ("AIPerf, AMD GPUs", "m/x", 1000.0, 1000.0, 1.0, None),
    "ai_errors_90pct.json": ("AIPerf", "m/x", 1000.0, 1000.0, 1.0, 90),
}


@pytest.mark.parametrize("name", READ)
def test_a_tool_is_named_and_its_energy_read(name: str) -> None:
    tool, model, *figures, failed = READ[name]
    (row,) = read(FILES / name).rows
    assert (row.how, row.model, row.failed_requests) == (tool, model, failed)
    assert [row.tokens_per_s, row.power_w, row.tokens_per_joule] == pytest.approx(figures)
    assert (row.status, row.valid) == ("external", False), "listed, never ranked"
    assert any("requests failed" in reason for reason in row.reasons) == bool(failed)


def test_the_summary_lists_them_with_their_failures() -> None:
    found = summarise(*read_all([FILES / name for name in READ]), 0.16, 1.5)
    fastjsonschema.compile(json.loads(SCHEMA.read_text()))(json.loads(json.dumps(found)))
    assert len(found["external"]) == len(READ)
    table = [line for line in markdown.render(found, "x.json", "0").splitlines() if "vllm_failed_many" in line]
    assert "| 80 |" in table[0]


def _load_test() -> dict[str, Any]:
    flat = {"duration": 20.0, "completed": 100, "total_output_tokens": 20000, "output_throughput": 1000.0}
    return flat | {"backend": "llmval", "llmval": {"kind": "load_test"}}


def _without(name: str, *keys: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((FILES / name).read_text())
    return {key: value for key, value in record.items() if key not in keys}


REFUSED = {
    "our own load test": (_load_test(), "load test of inference_server_load_test.py.* run precision_power_sweep.py"),
    "SGLang": (_without("sglang_one.jsonl"), "SGLang's bench_serving, which measures no energy"),
    "vLLM throughput without energy": (
        _without("vllm_throughput.json", "gpu_energy_j"), "vLLM's bench throughput without energy"),
    "vLLM throughput without output": (
        _without("vllm_throughput.json") | {"gpu_energy_per_output_token_j": None}, "no output token"),
    "vLLM throughput that contradicts itself": (
        _without("vllm_throughput.json") | {"gpu_avg_power_w": 900.0}, "contradicts itself"),
    "vLLM throughput with too many tokens": (
        _without("vllm_throughput.json") | {"gpu_energy_per_output_token_j": 0.1}, "more output tokens than"),
    "trtllm-bench without energy": (_without("trtllm_bench.json", "energy"), "trtllm-bench without energy"),
    "TensorRT-LLM serving without energy": (
        _without("trtllm_serving.json", "total_energy"), "TensorRT-LLM's serving benchmark without energy"),
    "TensorRT-LLM serving that contradicts itself": (
        _without("trtllm_serving.json") | {"total_energy": 2e7}, "average_gpu_power is 1000.*contradicts itself"),
    "genai-perf without power": (
        _without("genai_perf.json") | {"telemetry_stats": {}}, "genai-perf export without the power"),
    "AIPerf without energy": (_without("ai_15_amd.json", "amd_total_gpu_energy"), "AIPerf export without energy"),
    "guidellm": (
        {"metadata": {"guidellm_version": "0.8.0"}, "benchmarks": [{}]}, "report of guidellm, which"),
    "another file": ({"a": 1}, "neither a cell of precision_power_sweep.py"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_energy_is_named_and_refused(name: str, tmp_path: Path) -> None:
    record, said = REFUSED[name]
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(UnsupportedFile, match=said):
        read(tmp_path / "x.json")


def test_json_lines_of_sglang_are_named_too(tmp_path: Path) -> None:
    line = (FILES / "sglang_one.jsonl").read_text().strip()
    (tmp_path / "x.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(UnsupportedFile, match="SGLang"):
        read(tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(UnsupportedFile, match="not one JSON value"):
        read(tmp_path / "y.jsonl")


def test_a_doubled_key_and_a_compressed_file_are_named(tmp_path: Path) -> None:
    data = (FILES / "vllm_failed_many.json").read_bytes()
    (tmp_path / "x.json").write_bytes(data.replace(b"{", b'{"completed": 1, ', 1))
    with pytest.raises(UnsupportedFile, match="the key 'completed' twice"):
        read(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(gzip.compress(data))
    with pytest.raises(UnsupportedFile, match="is compressed: gunzip it"):
        read(tmp_path / "x.json")
