"""Items that run known tools: what they promise, and that the result decides, whatever the exit code says."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.steps.command import CommandAction
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Artifact, Command, Gate, Outcome, worst
from tests.helpers.tool_results import RESULTS

Judge = Callable[..., tuple[list[Gate], dict[str, float | None]]]


@pytest.fixture
def judge(workspace: Any) -> Judge:
    """Judges a finished run of a command, exit code 0, that left recorded results at a promised path."""

    def make(command: str, promised: str | None = None, recorded: str = "", log: str = "", **params: Any) -> Any:
        artifacts = [Artifact(promised)] if promised else []
        run = workspace.run(
            workspace.context("Run `true`"),
            commands=[Command("main", command.split(), command)],
            artifacts=artifacts,
            params={"outputs": {"main": [artifact.path for artifact in artifacts]}, **params},
        )
        if promised:
            target: Path = workspace.folder / promised
            source = RESULTS / recorded
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        (run.logs_folder / "main.stdout.log").write_text((RESULTS / log).read_text() if log else "")
        gates, metrics, _, _ = CommandAction().judge(run)
        return gates, metrics

    return make


@pytest.mark.parametrize(
    ("command", "promised", "recorded", "measured"),
    [
        ("aiperf profile --artifact-dir artifacts/a", "artifacts/a", "aiperf_fail", "15 of 20 (75%)"),
        (
            "guidellm run --output kind=json,path=artifacts/g.json",
            "artifacts/g.json",
            "guidellm_fail.json",
            "11 of 20 (55%)",
        ),
    ],
)
def test_failed_requests_fail_although_the_exit_code_is_0(
    judge: Judge, command: str, promised: str, recorded: str, measured: str
) -> None:
    gates, metrics = judge(command, promised, recorded)
    assert worst(gates) is Outcome.FAIL
    assert measured in [gate.measured for gate in gates if gate.outcome is Outcome.FAIL]
    assert metrics["requests_failed"] == int(measured.split()[0])


def test_an_item_may_state_how_many_requests_may_fail(judge: Judge) -> None:
    criterion = {
        "text": "at most 12 failed requests", "stated_by": "words", "source": "result", "comparison": "<=",
        "bound": 12.0, "metric": "failed requests",
    }  # fmt: skip
    command = "guidellm run --output kind=json,path=artifacts/g.json"
    gates, _ = judge(command, "artifacts/g.json", "guidellm_fail.json", criteria=[criterion])
    assert "failed requests" not in [gate.name for gate in gates]


@pytest.mark.parametrize(
    ("command", "log", "expected"),
    [
        ("all_reduce_perf -b 1M -e 8M", "nccl_all_reduce.txt", Outcome.PASS),
        ("all_reduce_perf -b 1M -e 8M", "nccl_wrong.txt", Outcome.FAIL),
        ("nvbandwidth -j", "nvbandwidth_waived.json", Outcome.INCONCLUSIVE),
        ("dcgmi diag -r 3", "dcgm4.txt", Outcome.INCONCLUSIVE),
        ("dcgmi diag -r 3", "", Outcome.INCONCLUSIVE),
    ],
)
def test_the_printed_result_decides(judge: Judge, command: str, log: str, expected: Outcome) -> None:
    assert worst(judge(command, log=log)[0]) is expected


def test_the_result_of_loadgen_is_found_by_its_file(judge: Judge) -> None:
    gates, metrics = judge("python main.py", "artifacts/mlperf_log_summary.txt", "mlperf_log_summary.txt")
    assert worst(gates) is Outcome.PASS
    assert metrics["ttft_p99_ms"] == pytest.approx(181.5)


def test_the_verdict_has_the_metrics_with_their_units(judge: Judge) -> None:
    command = "vllm bench serve --save-result --save-detailed --result-dir artifacts --result-filename r.json"
    _, metrics = judge(command, "artifacts/r.json", "vllm_serve_slow.json")
    assert metrics["ttft_p99_ms"] == pytest.approx(5198, abs=1)
    assert metrics["request_throughput_per_s"] == pytest.approx(2.9, abs=0.01)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program is installed."""
    monkeypatch.setattr("shutil.which", lambda name, *_, **__: f"/usr/bin/{name}")


def _propose(workspace: Any, command: str) -> Any:
    return CommandAction().propose(workspace.context(f"Run `{command}`"))


def test_a_proposal_promises_the_files_and_says_which_flag_is_missed(workspace: Any, programs: None) -> None:
    proposal = _propose(workspace, "vllm bench serve --model m --save-result --result-dir artifacts/serve")
    assert [artifact.path for artifact in proposal.artifacts] == ["artifacts/serve"]
    assert "judges the result of vllm bench serve" in proposal.details
    assert "without the time of each request no latency is judged: add --save-detailed" in proposal.details


def test_a_file_that_the_tool_would_not_replace_is_refused(workspace: Any, programs: None) -> None:
    command = "all_reduce_perf -b 8 -J artifacts/n.json"
    assert [artifact.path for artifact in _propose(workspace, command).artifacts] == ["artifacts/n.json"]
    workspace.write("artifacts/n.json", "{}")
    with pytest.raises(Refused, match="never replaces a file"):
        _propose(workspace, command)
