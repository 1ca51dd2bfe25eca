"""Results of other tools and of our runners: never an exception, and an unreadable result is never a pass."""

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from fuzzing.mutation import damage, mutate
from fuzzing.target import Target, Wrong, scratch
from llmval_tui.actions.judge import judge
from llmval_tui.actions.tools.by_command import tool_of, tool_of_files
from llmval_tui.actions.tools.model import LeftFiles, ToolResult
from llmval_tui.runs.records import Artifact, Command, Outcome, StepRef, worst
from tests.helpers.tool_results import RESULTS
from tests.helpers.workspace import load_test_json, request_json, write_run

# Command, recorded file, the name that the reader looks for; None: the file is the standard output.
CASES: tuple[tuple[str, str, str | None], ...] = (
    ("vllm bench serve --save-result --result-dir a", "vllm_serve_good.json", "r.json"),
    ("vllm bench throughput --output-json a.json", "vllm_throughput.json", "a.json"),
    ("vllm bench latency --output-json a.json", "vllm_latency.json", "a.json"),
    ("python -m sglang.bench_serving --output-file a.jsonl --num-prompts 3", "sglang_closed.jsonl", "a.jsonl"),
    ("genai-perf profile --artifact-dir a", "genai_perf.json", "profile_export_genai_perf.json"),
    ("aiperf profile --artifact-dir a", "aiperf_closed/profile_export_aiperf.json", "profile_export_aiperf.json"),
    ("aiperf profile --artifact-dir a", "aiperf_closed/profile_export.jsonl", "profile_export.jsonl"),
    ("guidellm run --output kind=json,path=a.json", "guidellm_closed.json", "a.json"),
    ("all_reduce_perf -J a.json", "nccl_all_reduce.json", "a.json"),
    ("all_reduce_perf", "nccl_all_reduce.txt", None),
    ("nvbandwidth -j", "nvbandwidth.json", None),
    ("nvbandwidth", "nvbandwidth.txt", None),
    ("dcgmi diag -j", "dcgm3.json", None),
    ("dcgmi diag -j", "dcgm4.json", None),
    ("dcgmi diag", "dcgm3.txt", None),
    ("fio a.fio", "fio.txt", None),
    ("fio --output-format=json a.fio", "fio.json", None),
    ("ib_write_bw peer", "perftest_write_bw.txt", None),
    ("ib_write_lat peer", "perftest_write_lat.txt", None),
    ("./stream", "stream.txt", None),
    ("sb run --output-dir a", "superbench_run.jsonl", "results-summary.jsonl"),
    (
        "sb result diagnosis --output-dir a --output-file-format jsonl --output-all",
        "superbench_diagnosis.jsonl",
        "diagnosis_summary.jsonl",
    ),
    ("lm_eval --tasks gsm8k,hellaswag --output_path a", "lm_eval.json", "results_2026-01-02.json"),
    ("mlperf", "mlperf_log_summary.txt", "mlperf_log_summary.txt"),
)
ROOT = Path(__file__).parents[1]


@cache
def _recorded(file: str) -> bytes:
    return (RESULTS / file).read_bytes()


def read_result(command: str, data: bytes, name: str | None, folder: Path) -> ToolResult:
    """What the tool's reader makes of `data` in a file of that name."""
    path = folder / (name or "main.stdout.log")
    path.write_bytes(data)
    files = [path] if name else []
    if name == "profile_export.jsonl":  # it is read beside its summary
        summary = folder / "profile_export_aiperf.json"
        summary.write_bytes(_recorded("aiperf_closed/profile_export_aiperf.json"))
        files.append(summary)
    tool = tool_of(command.split()) or tool_of_files(files)
    assert tool is not None
    return tool.read(LeftFiles(tuple(files), None if name else path))


def outcome_of(result: ToolResult) -> Outcome:
    """The outcome; a result must have a summary, and a reason for each value that is missing."""
    if not result.summary or "\n" in result.summary:
        raise Wrong(f"the summary is {result.summary!r}")
    if nameless := [name for name, metric in result.metrics.items() if metric.value is None and not metric.reason]:
        raise Wrong(f"{nameless} have neither a value nor a reason")
    return worst(result.gates)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    text = data.decode()
    if chance.random() < 0.5 and "{" in text and not text.rstrip().count("\n{"):
        value = json.loads(text[text.index("{") :])
        for _ in range(chance.randrange(1, 4)):
            value = mutate(value, chance)
        return json.dumps(value).encode()
    return damage(data, chance)


def tools(chance: random.Random) -> str:
    """A damaged result of another tool."""
    command, file, name = chance.choice(CASES)
    data = _recorded(file)
    if chance.random() < 0.1:  # cut short
        data = data.rstrip()[: chance.randrange(len(data.rstrip()))]
        found = outcome_of(read_result(command, data, name, scratch("results")))
        if found is Outcome.PASS and file.endswith(".json"):
            raise Wrong(f"{file} cut to {len(data)} bytes passes")
        return str(found)
    return str(outcome_of(read_result(command, _damaged(data, chance), name, scratch("results"))))


@cache
def _load_test() -> str:
    """A load test that passes."""
    requests = [request_json(number, number * 0.1, number * 0.1 + 0.05, number * 0.1 + 0.2) for number in range(20)]
    workload = {
        "target_qps": 10.0, "duration_s": 2.0, "output_len": "fixed:8", "warmup_requests": 0, "temperature": 0.0,
        "seed": 1, "max_batch": 8, "prefill_chunk": 64,
    }  # fmt: skip
    record = load_test_json(requests, workload)
    schema = json.loads((ROOT / "docs/schemas/load_test.schema.json").read_bytes())
    _fill(record, schema)
    return json.dumps(record)


def _fill(value: dict[str, Any], schema: dict[str, Any]) -> None:
    """Add what the schema requires and no check looks at."""
    for name in schema.get("required", ()):
        wanted = schema["properties"][name]
        kinds = wanted.get("type", "null")
        kind = kinds if isinstance(kinds, str) else kinds[0]
        plain = {"integer": 1, "number": 1.0, "string": "20260102-030405", "array": [], "object": {}, "null": None}
        value.setdefault(name, plain.get(kind))
        if isinstance(value[name], dict):
            _fill(value[name], wanted)


def load_tests(chance: random.Random) -> str:
    """A damaged result of our load test, judged as settling judges it."""
    workspace = scratch("results") / "ws"
    shutil.rmtree(workspace, ignore_errors=True)
    (workspace / "artifacts").mkdir(parents=True)
    whole = _load_test().encode()
    path = workspace / "artifacts/load.json"
    data: Any = _damaged(whole, chance)
    path.write_bytes(data)
    run = write_run(
        workspace,
        "20260102T030401Z-1.1-abc001",
        StepRef("1.1", "1. Part", "x", 1, "list.md"),
        [Command("main", ["true"], "true")],
        artifacts=[Artifact("artifacts/load.json", "load_test")],
        telemetry=False,
    )
    verdict = judge(run)
    if "\n" in verdict.summary:
        raise Wrong(f"the summary is {verdict.summary!r}")
    if verdict.outcome is Outcome.PASS:
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Wrong(f"a file that is not JSON passes: {data[:200]!r}") from error
    return str(verdict.outcome)


TARGETS = (
    Target(
        "tools", "damaged results of other tools: never an exception; a file cut short never passes", tools, 100_000
    ),
    Target("load_tests", "damaged results of our load test, judged: never an exception", load_tests, 30_000),
)
