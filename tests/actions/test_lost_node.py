"""A run whose node was lost in the middle proves nothing about what it had not written yet."""

from typing import Any

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.judge import judge
from llmval_tui.actions.settle import settle
from llmval_tui.runs.records import Artifact, Command, CommandStatus, Outcome, State
from llmval_tui.runs.store import Run

LIST = "# L\n\n## 1. Part\n- [ ] first\n"


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def lost(workspace: Any, *commands: CommandStatus, count: int = 1) -> Run:
    """A run whose last record is from the time when it was running, and whose processes are gone."""
    workspace.write("list.md", LIST)
    planned = tuple(Command(f"main{at or ''}", ["true"], "true", nproc=2) for at in range(count))
    proposal = Proposal("command", "", (), planned, (Artifact("artifacts/x.json"),), telemetry=False)
    params: dict[str, Any] = {"outputs": {command.label: [] for command in planned}}
    status = {"state": State.RUNNING, "commands": list(commands)}
    run: Run = workspace.run(workspace.context(LIST), proposal, status=status, params=params)
    assert run.state() is State.LOST
    return run


def test_a_missing_file_of_a_lost_run_is_inconclusive(workspace: Any) -> None:
    run = lost(workspace, CommandStatus("main", started_utc="2026-01-02T03:04:05Z"))
    verdict = settle(run, workspace.store)
    assert verdict is not None and verdict.outcome is Outcome.INCONCLUSIVE
    assert "end" in verdict.summary
    (gate,) = [gate for gate in verdict.gates if gate.name.startswith("artifact")]
    assert gate.outcome is Outcome.INCONCLUSIVE and "the command's end was not observed" in gate.reason


def test_a_run_that_was_lost_before_its_first_command_is_inconclusive(workspace: Any) -> None:
    assert judge(lost(workspace)).outcome is Outcome.INCONCLUSIVE


def test_a_failure_that_was_seen_before_the_node_was_lost_stays_a_failure(workspace: Any) -> None:
    seen = CommandStatus("main", exit_code=3, ended_utc="2026-01-02T03:04:06Z")
    assert judge(lost(workspace, seen, count=2)).outcome is Outcome.FAIL
    rank = CommandStatus("main", started_utc="2026-01-02T03:04:05Z", ranks={"0": 0, "1": 1})
    assert judge(lost(workspace, rank)).outcome is Outcome.FAIL


def test_a_run_that_ended_without_its_file_fails_as_before(workspace: Any) -> None:
    run = lost(workspace, CommandStatus("main", exit_code=0, ended_utc="2026-01-02T03:04:06Z"))
    assert judge(run).outcome is Outcome.FAIL
