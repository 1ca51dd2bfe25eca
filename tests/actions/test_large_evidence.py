"""Evidence that takes long to hash: nobody waits for it, and a cancel still wins."""

import os
from pathlib import Path

import pytest

from llmval_tui.actions import settle as settling
from llmval_tui.actions.judge import judge
from llmval_tui.actions.settle import settle, settle_all
from llmval_tui.foundation.files import sha256_of, take_lock
from llmval_tui.runs import client
from llmval_tui.runs.records import Artifact, Outcome
from llmval_tui.runs.store import Run


def ended_run(workspace) -> Run:
    workspace.write("list.md", "# List\n\n## 1. Part\n- [ ] text\n")
    workspace.write("artifacts/large.bin", b"x" * (130 << 20))
    return workspace.run(workspace.context("text"), artifacts=[Artifact("artifacts/large.bin")], telemetry=False)


def test_a_cancel_ends_the_hashing_and_prevents_the_tick(workspace) -> None:
    run = ended_run(workspace)
    assert client.cancel_judging(run, "llmval cancel")
    verdict = settle(run, workspace.store)
    assert verdict is not None and verdict.outcome is Outcome.INCONCLUSIVE
    assert "cancelled (llmval cancel)" in verdict.summary
    assert "[x]" not in (workspace.folder / "list.md").read_text()
    assert not client.cancel_judging(run, "again")


def test_hashing_asks_whether_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 130 << 20)
    with pytest.raises(InterruptedError):
        sha256_of(path, lambda: True)
    assert sha256_of(path, lambda: False) == sha256_of(path)


def test_nobody_waits_for_a_process_that_judges(workspace) -> None:
    run = ended_run(workspace)
    lock = take_lock(run.folder / "settle.lock")
    assert lock is not None
    assert settle(run, workspace.store, wait=False) is None
    os.close(lock)
    assert settle(run, workspace.store, wait=False) is not None


def test_much_evidence_is_hashed_by_another_process(workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ended_run(workspace)
    started: list[list[str]] = []
    monkeypatch.setattr(settling, "INLINE_BYTES", 100 << 20)
    monkeypatch.setattr(settling, "_bytes_promised", lambda run: 130 << 20)
    monkeypatch.setattr(client, "spawn_detached", lambda argv, log: started.append(argv))
    settle_all(workspace.store, wait=False)
    assert run.verdict() is None and started[0][-1] == str(run.folder)
    settle_all(workspace.store)
    assert run.verdict() is not None
    assert judge(run).outcome is Outcome.PASS
