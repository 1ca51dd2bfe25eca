"""Evidence that a later run overwrites: the archived copies of small files, and their limits."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.settle import settle
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs import evidence
from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.records import Artifact, Command

LIST = "# L\n\n## 1. Part\n- [ ] first\n- [ ] second\n"


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def settled(workspace, files: dict[str, str], number="1.1"):
    """A passed run with these files; `{run_id}` in a name is replaced by its id."""
    if not (workspace.folder / "list.md").exists():
        workspace.write("list.md", LIST)
    command = Command("main", ["true"], "true")
    artifacts = tuple(Artifact(name) for name in files)
    proposal = Proposal("command", "", commands=(command,), artifacts=artifacts, telemetry=False)
    run = workspace.run(workspace.context(LIST, number), proposal)
    for name, text in files.items():
        workspace.write(name.replace("{run_id}", run.id), text)
    verdict = settle(run, workspace.store)
    assert verdict is not None and verdict.outcome.value == "pass"
    return run


def copies(run) -> list[str]:
    return sorted(path.read_text() for path in run.folder.glob("evidence/*"))


def states(workspace) -> dict[str, str]:
    return {finding.number: finding.state for finding in check_ledger(workspace.store)}


def test_a_later_run_that_writes_over_leaves_the_earlier_ticks_evidence(workspace) -> None:
    first = settled(workspace, {"artifacts/today.json": '{"of": 1}'})
    settled(workspace, {"artifacts/today.json": '{"of": 2}'}, "1.2")
    assert states(workspace) == {"1.1": "kept", "1.2": "intact"}
    (kept, intact) = check_ledger(workspace.store)
    assert intact.copy is None
    assert json.loads((workspace.folder / kept.copy).read_text()) == {"of": 1}
    assert copies(first) == ['{"of": 1}']
    (workspace.folder / "artifacts/today.json").unlink()
    assert states(workspace) == {"1.1": "kept", "1.2": "kept"}


def test_a_copy_that_was_edited_backs_nothing(workspace) -> None:
    run = settled(workspace, {"artifacts/today.json": '{"of": 1}'})
    (workspace.folder / "artifacts/today.json").write_text("{}")
    next(run.folder.glob("evidence/*")).write_text("{}")
    assert states(workspace) == {"1.1": "changed"}
    (workspace.folder / "artifacts/today.json").unlink()
    assert states(workspace) == {"1.1": "missing"}


def test_only_small_json_outside_the_run_folder_is_copied(workspace, monkeypatch) -> None:
    monkeypatch.setattr(evidence, "ARCHIVED_BYTES", 30)
    monkeypatch.setattr(evidence, "ARCHIVED_BYTES_OF_RUN", 45)
    files = {
        "a/small.json": json.dumps("s" * 20),
        "a/large.json": json.dumps("l" * 40),
        "a/trace.sqlite": "t",
        "artifacts/runs/{run_id}/own.json": '"o"',
        "a/too many.json": json.dumps("m" * 25),
        "a/still fits.json": json.dumps("f" * 15),
    }
    run = settled(workspace, files)
    assert copies(run) == ['"fffffffffffffff"', '"ssssssssssssssssssss"']


def test_a_file_that_changes_while_it_is_judged_is_not_judged(workspace, monkeypatch) -> None:
    real = evidence.archive

    def late(folder: Path, found, root: Path) -> None:
        workspace.write("artifacts/today.json", '{"of": 2}')
        real(folder, found, root)

    monkeypatch.setattr("llmval_tui.actions.judge.archive", late)
    with pytest.raises(Refused, match=r"today\.json changed while it was judged"):
        settled(workspace, {"artifacts/today.json": '{"of": 1}'})
    (run,) = workspace.store.runs()
    assert run.verdict() is None
    assert copies(run) == []
