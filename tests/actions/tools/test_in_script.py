"""The known tools that a script runs: which are found, and what is judged of them."""

from pathlib import Path

import pytest

from llmval_tui.actions.tools.in_script import promises_in, read_script, tools_in
from llmval_tui.actions.tools.model import LeftFiles
from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import RESULTS, outcome

VLLM = "vllm bench serve --save-result --save-detailed --result-dir a --result-filename r.json"


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("all_reduce_perf -b 8 | tee log", ["nccl-tests"]),
        ("set -e\nOUT=1 mpirun -np 8 \\\n  ./all_reduce_perf -b 8 > log 2>&1 && echo done", ["nccl-tests"]),
        ("for i in 1 2; do\n  dcgmi diag -r 1; nvbandwidth -j\ndone", ["dcgmi diag", "nvbandwidth"]),
        ("if ! aiperf profile -m m; then exit 1; fi", ["aiperf profile"]),
        ("# aiperf profile -m m\necho 'aiperf profile'", []),
        ("cat all_reduce_perf | wc -c", []),
        ("echo 'unclosed", []),
    ],
)
def test_the_tools_of_a_script(script: str, names: list[str]) -> None:
    assert [tool.name for tool in tools_in(script)] == names


@pytest.mark.parametrize(
    ("script", "paths"),
    [
        (VLLM, ["a/r.json"]),
        (f"cd bench && {VLLM}", []),
        ("aiperf profile --artifact-dir $OUT", []),
        ("docker exec x aiperf profile --artifact-dir a", []),
    ],
)
def test_only_files_whose_place_is_written_are_promised(script: str, paths: list[str]) -> None:
    assert [promise.path for promise in promises_in(script)] == paths


def _left(tmp_path: Path, log: str = "nccl_all_reduce.txt") -> LeftFiles:
    path = tmp_path / "a" / "r.json"
    path.parent.mkdir()
    path.write_bytes((RESULTS / "vllm_serve_slow.json").read_bytes())
    return LeftFiles((path,), RESULTS / log)


@pytest.mark.parametrize(
    ("script", "expected", "blamed"),
    [
        ("all_reduce_perf -b 8 | tee log", Outcome.PASS, ""),
        (VLLM, Outcome.FAIL, "kept up"),
        (f"{VLLM}\nall_reduce_perf -b 8", Outcome.FAIL, "vllm bench serve: kept up"),
        (f"cd bench\n{VLLM}", Outcome.INCONCLUSIVE, "vllm bench serve result"),
        ("aiperf profile --artifact-dir $OUT", Outcome.INCONCLUSIVE, "aiperf profile result"),
        ("all_reduce_perf -b 8\nall_gather_perf -b 8", Outcome.INCONCLUSIVE, "nccl-tests result"),
    ],
)
def test_the_results_of_a_script(script: str, expected: Outcome, blamed: str, tmp_path: Path) -> None:
    result = read_script(script, _left(tmp_path))
    assert result is not None
    assert outcome(result) is expected
    assert not blamed or blamed in [gate.name for gate in result.gates if gate.outcome is expected]


def test_a_script_without_a_known_tool_has_no_result(tmp_path: Path) -> None:
    assert read_script("make test | tail -1", _left(tmp_path)) is None
