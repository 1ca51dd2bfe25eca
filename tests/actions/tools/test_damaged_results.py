"""Damaged results: a reader never raises, and what it cannot read is never a pass."""

import copy
import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing.results import CASES, outcome_of, read_result
from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.model import LeftFiles, ToolResult
from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import RESULTS

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _read(command: str, data: bytes, name: str | None) -> ToolResult:
    with tempfile.TemporaryDirectory() as folder:
        return read_result(command, data, name, Path(folder))


@pytest.mark.parametrize(("command", "file", "name"), CASES)
@QUICK
@given(data=st.data())
def test_a_truncated_result_is_never_a_pass(command: str, file: str, name: str | None, data: st.DataObject) -> None:
    whole = (RESULTS / file).read_bytes().rstrip()
    length = data.draw(st.integers(0, len(whole) - 1))
    found = outcome_of(_read(command, whole[:length], name))
    # A text may lack its last lines, and fewer whole lines are a result too.
    if file.endswith(".json"):
        assert found is not Outcome.PASS


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _paths(item, (*here, key))
    return found


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, "x", "", -1, 1e308, True, [], {}, [[]], float("nan"), float("inf"), "nan", 10**400]
)


@pytest.mark.parametrize(("command", "file", "name"), [case for case in CASES if case[1].endswith(".json")])
@QUICK
@given(data=st.data())
def test_a_value_of_another_type_never_raises(command: str, file: str, name: str | None, data: st.DataObject) -> None:
    text = (RESULTS / file).read_text()
    value = json.loads(text[text.index("{") :])
    for _ in range(data.draw(st.integers(1, 3))):
        paths = _paths(value)
        path = data.draw(st.sampled_from(paths)) if paths else ()
        if not path:
            break
        target = value
        for key in path[:-1]:
            target = target[key]
        if isinstance(target, dict) and data.draw(st.booleans()):
            del target[path[-1]]
        else:
            target[path[-1]] = copy.deepcopy(data.draw(JUNK))
    outcome_of(_read(command, json.dumps(value).encode(), name))


@pytest.mark.parametrize(("command", "file", "name"), CASES)
@QUICK
@given(data=st.binary(max_size=300))
def test_foreign_bytes_are_never_a_pass(command: str, file: str, name: str | None, data: bytes) -> None:
    assert outcome_of(_read(command, data, name)) is not Outcome.PASS or name == "profile_export.jsonl"


@pytest.mark.parametrize(("command", "file", "name"), CASES)
def test_nan_is_not_a_number(command: str, file: str, name: str | None) -> None:
    text = (RESULTS / file).read_text()
    for old in (
        '"completed": 30',
        '"avg": 20.0',
        '"successful": 20',
        '"bandwidth": 94.2625',
        '"mem-bw/return_code": 0',
    ):
        if old in text:
            changed = text.replace(old, f"{old.rpartition(':')[0]}: NaN")
            assert outcome_of(_read(command, changed.encode(), name)) is not Outcome.PASS, old


@pytest.mark.parametrize(("command", "file", "name"), CASES)
def test_no_result_at_all_is_inconclusive(command: str, file: str, name: str | None) -> None:
    tool = tool_of(command.split())
    if tool is not None:
        assert outcome_of(tool.read(LeftFiles())) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("number", [r"(?m)^ +\d+(?= )", r"(?<=# Out of bounds values : )\d+"])
def test_a_number_of_5000_digits_in_the_text_of_nccl_tests_is_not_a_traceback(number: str) -> None:
    text, count = re.subn(number, " " + "9" * 5000, (RESULTS / "nccl_all_reduce.txt").read_text())
    assert count
    _read("all_reduce_perf", text.encode(), None)


@pytest.mark.parametrize(("command", "file", "name"), [case for case in CASES if case[2] and ".json" in case[1]])
def test_a_compressed_result_says_so(command: str, file: str, name: str) -> None:
    if name == "profile_export.jsonl":
        pytest.skip("it is read beside its summary")
    found = _read(command, gzip.compress((RESULTS / file).read_bytes()), name)
    assert outcome_of(found) is Outcome.INCONCLUSIVE and "is compressed: gunzip it" in found.summary


@pytest.mark.parametrize(
    ("command", "file", "name", "key"),
    [
        ("vllm bench serve --save-result --result-dir a", "vllm_serve_good.json", "r.json", "completed"),
        ("vllm bench throughput --output-json a.json", "vllm_throughput.json", "a.json", "num_requests"),
        ("python -m sglang.bench_serving --output-file a.jsonl", "sglang_closed.jsonl", "a.jsonl", "completed"),
        ("aiperf profile --artifact-dir a", "aiperf_closed/profile_export_aiperf.json", "profile_export_aiperf.json",
         "avg"),
        ("nvbandwidth -j", "nvbandwidth.json", None, "status"),
    ],
)  # fmt: skip
def test_a_key_that_is_there_twice_is_refused_by_name(command: str, file: str, name: str | None, key: str) -> None:
    text = (RESULTS / file).read_text()
    found = _read(command, re.sub(rf'("{key}": )', rf'"{key}": 1, \1', text, count=1).encode(), name)
    assert outcome_of(found) is Outcome.INCONCLUSIVE and f"has the key '{key}' twice" in found.summary


@pytest.mark.parametrize(
    ("command", "file", "name", "change"),
    [
        ("vllm bench serve --save-result --result-dir a", "vllm_serve_good.json", "r.json",
         lambda text: re.sub(r'"(ttfts|duration)": (?=[\[\d])', r'"\1": null, "x_\1": ', text)),
        ("guidellm run --output kind=json,path=a.json", "guidellm_closed.json", "a.json",
         lambda text: re.sub(r": \d+\.\d+", ": NaN", text)),
        ("mlperf", "mlperf_log_summary.txt", "mlperf_log_summary.txt",
         lambda text: re.sub(r": [\d.]+(e[+-]?\d+)?$", ": nan", text, flags=re.M)),
        ("nvbandwidth -j", "nvbandwidth.json", None, lambda text: re.sub(r'"\d+\.\d+"', '"0.00"', text)),
    ],
)  # fmt: skip
def test_a_result_without_a_figure_is_never_a_pass(command: str, file: str, name: str | None, change: Any) -> None:
    text = (RESULTS / file).read_text()
    assert change(text) != text
    assert outcome_of(_read(command, change(text).encode(), name)) is not Outcome.PASS


def test_a_result_is_named_after_its_tool() -> None:
    command = ("python", "-m", "tensorrt_llm.serve.scripts.benchmark_serving", "--save-result", "--result-dir", "a")
    tool = tool_of(command)
    assert tool is not None
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "r.json").write_bytes((RESULTS / "vllm_serve_good.json").read_bytes())
        found = tool.read(LeftFiles((path,), None))
    assert found.summary.startswith("tensorrt_llm benchmark_serving: 30 requests completed")
