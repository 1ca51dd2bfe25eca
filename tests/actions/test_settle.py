"""Settling happens once, in any process; after an interruption the next process completes it."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from llmval_tui.actions import settle as settling
from llmval_tui.actions.accept import accept
from llmval_tui.actions.api import Proposal
from llmval_tui.actions.hand_tick import tick_by_hand
from llmval_tui.actions.settle import settle, settle_all
from llmval_tui.actions.step_state import StepState, step_statuses
from llmval_tui.checklist.ledger import key_hash
from llmval_tui.checklist.model import load
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, read_lines, try_lock, write_json
from llmval_tui.runs import client
from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.records import Artifact, Command, Outcome, State
from llmval_tui.runs.store import Run, RunStore, plans_folder

LIST = "# L\n\n## 1. Part\n- [ ] same\n- [ ] same\n"
TRUE = Command("main", ["true"], "true")


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def passing(workspace, number="1.1", artifact=None, **intent):
    """A run of a step in `list.md` that ended well and is not judged yet."""
    if not (workspace.folder / "list.md").exists():
        workspace.write("list.md", LIST)
    name = artifact or f"artifacts/{number}.json"
    workspace.write(name, "{}")
    proposal = Proposal("command", "", commands=(TRUE,), artifacts=(Artifact(name),), telemetry=False)
    return workspace.run(workspace.context(LIST, number), proposal, **intent)


def text(workspace) -> str:
    return (workspace.folder / "list.md").read_text()


def test_a_run_that_is_about_to_start_is_not_lost(workspace) -> None:
    run = passing(workspace, plan_id="20260102T030400Z-abc")
    status = (run.folder / "status.json").read_bytes()
    (run.folder / "status.json").unlink()
    folder = plans_folder(workspace.folder) / "20260102T030400Z-abc"
    folder.mkdir(parents=True)
    lock = try_lock(folder / "lock")
    assert lock is not None
    assert run.state() is State.STARTING
    assert settle(run, workspace.store) is None
    assert run.verdict() is None
    (run.folder / "status.json").write_bytes(status)
    assert outcome_of(run, workspace) is Outcome.PASS
    os.close(lock)


def outcome_of(run: Run, workspace: Any) -> Outcome:
    verdict = settle(run, workspace.store)
    assert verdict is not None
    return verdict.outcome


def test_a_run_whose_plan_died_before_it_started_is_lost(workspace) -> None:
    run = passing(workspace, plan_id="20260102T030400Z-abc")
    (plans_folder(workspace.folder) / "20260102T030400Z-abc").mkdir(parents=True)
    (run.folder / "status.json").unlink()
    assert outcome_of(run, workspace) is not Outcome.PASS


def test_a_copied_run_folder_ticks_nothing(workspace, tmp_path_factory) -> None:
    run = passing(workspace, plan_id="20260102T030400Z-abc")
    (plans_folder(workspace.folder) / "20260102T030400Z-abc").mkdir(parents=True)
    settle(run, workspace.store)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "list.md").write_text(LIST)
    shutil.copytree(run.folder, elsewhere / "artifacts" / "runs" / run.id)
    (problem,) = settle_all(RunStore(elsewhere))
    assert f"it is a copy of {run.folder}" in problem
    shutil.move(workspace.folder, workspace.folder.with_name("gone"))  # or it came from another machine
    (problem,) = settle_all(RunStore(elsewhere))
    assert f"it is a copy of {run.folder} on " in problem
    assert (elsewhere / "list.md").read_text() == LIST


def test_a_copy_under_another_name_ticks_nothing(workspace) -> None:
    run = passing(workspace)
    settle(run, workspace.store)
    workspace.write("list.md", LIST)  # somebody unticked it
    shutil.copytree(run.folder, run.folder.with_name("backup"))
    (problem,) = settle_all(workspace.store)
    assert problem.startswith("backup: it is a copy of ")
    assert text(workspace) == LIST


def test_a_copy_gets_no_supervisor_that_ends_the_processes_of_the_original(workspace, monkeypatch, tmp_path) -> None:
    run = passing(workspace)
    (run.folder / "status.json").unlink()
    started: list[Path] = []
    monkeypatch.setattr(client, "start", lambda one: started.append(one.folder))
    monkeypatch.setattr("llmval_tui.runs.client.RunProcesses.own", lambda _: ["a rank"])
    copy = tmp_path / "copy" / "artifacts" / "runs" / run.id
    shutil.copytree(run.folder, copy)
    client.ensure_supervised(Run(copy))
    assert started == []
    client.ensure_supervised(run)
    assert started == [run.folder]


def test_an_item_that_was_edited_during_its_run_is_not_ticked(workspace) -> None:
    run = passing(workspace, item_fingerprint=load_fingerprint(workspace))
    edited = LIST.replace("- [ ] same\n", '- [ ] same <!-- llmval: expect="exit == 0" -->\n', 1)
    workspace.write("list.md", edited)
    (problem,) = settle_all(workspace.store)
    assert f"item 1.1 was edited after its run {run.id} had begun" in problem
    assert text(workspace) == edited
    again = passing(workspace, item_fingerprint=load_fingerprint(workspace))
    assert settle_all(workspace.store) == []  # the item ran again as it is now, so nothing is left to say of the first
    assert text(workspace) == edited.replace("[ ]", "[x]", 1)
    assert workspace.store.ticks.ticked_by(again.id) and not workspace.store.ticks.ticked_by(run.id)


def load_fingerprint(workspace) -> str:
    if not (workspace.folder / "list.md").exists():
        workspace.write("list.md", LIST)
    return load(workspace.folder / "list.md").steps[0].fingerprint


def test_a_moved_workspace_settles_its_runs(workspace) -> None:
    run = passing(workspace, plan_id="20260102T030400Z-abc")
    (plans_folder(workspace.folder) / "20260102T030400Z-abc").mkdir(parents=True)
    moved = workspace.folder.with_name("moved")
    shutil.move(workspace.folder, moved)
    assert settle_all(RunStore(moved)) == []
    assert "- [x]" in (moved / "list.md").read_text()
    assert RunStore(moved).ticks.ticked_by(run.id)


def test_settling_again_changes_nothing_and_takes_no_lock(workspace) -> None:
    run = passing(workspace)
    settle(run, workspace.store)
    ledger = workspace.store.ledger.read_bytes()
    (run.folder / "settle.lock").unlink()
    settle(run, workspace.store)
    assert workspace.store.ledger.read_bytes() == ledger
    assert not (run.folder / "settle.lock").exists()  # so another user without write access can settle


def test_the_newest_of_two_unsettled_runs_has_the_last_word(workspace) -> None:
    passing(workspace, artifact="artifacts/old.json")
    newer = passing(workspace, artifact="artifacts/new.json")
    assert settle_all(workspace.store) == []
    assert read_lines(workspace.store.ledger)[-1]["run_id"] == newer.id
    assert newer.id in (workspace.folder / "docs/TODO.md").read_text()
    assert [finding.path for finding in check_ledger(workspace.store)] == ["artifacts/new.json"]


def test_a_clean_run_takes_the_deviation_of_the_earlier_one_away(workspace) -> None:
    settle(passing(workspace, deviations=["4 GPUs instead of 8"]), workspace.store)
    assert "deviation: 4 GPUs instead of 8" in text(workspace)
    settle(passing(workspace), workspace.store)
    assert text(workspace) == LIST.replace("[ ]", "[x]", 1)


def test_items_of_the_same_words_are_verified_each(workspace) -> None:
    for number in ("1.1", "1.2"):
        settle(passing(workspace, number, f"artifacts/{number}.txt"), workspace.store)
    (workspace.folder / "artifacts/1.1.txt").write_text("other")
    states = {finding.path: finding.state for finding in check_ledger(workspace.store)}
    assert states == {"artifacts/1.1.txt": "changed", "artifacts/1.2.txt": "intact"}


def test_a_tick_by_hand_replaces_the_tick_of_a_run(workspace) -> None:
    settle(passing(workspace, artifact="artifacts/1.1.txt"), workspace.store)
    (workspace.folder / "artifacts/1.1.txt").unlink()
    assert [finding.state for finding in check_ledger(workspace.store)] == ["missing"]
    tick_by_hand(workspace.folder / "list.md", StepKey("1. Part", "same", 1), "seen by Ada", workspace.store)
    assert check_ledger(workspace.store) == []


def test_a_full_disk_in_the_ledger_is_healed_by_the_next_look(workspace, monkeypatch) -> None:
    run = passing(workspace)
    real, room = os.write, [40]

    def full(descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").resolve() != workspace.store.ledger.resolve():
            return real(descriptor, data)
        if room:
            return real(descriptor, data[: room.pop()])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Refused, match="No space left"):
        settle(run, workspace.store)
    monkeypatch.undo()
    assert workspace.store.ledger.read_bytes() == b""
    settle(run, workspace.store)
    assert [line["run_id"] for line in read_lines(workspace.store.ledger)] == [run.id]
    assert text(workspace).count("[x]") == 1


def test_a_run_is_judged_after_the_cause_of_a_refusal_is_repaired(workspace, monkeypatch) -> None:
    run = passing(workspace)

    def denied(_path: Path, _stop: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("llmval_tui.runs.evidence.sha256_of", denied)
    (problem,) = settle_all(workspace.store)
    assert "cannot be judged yet (PermissionError" in problem
    assert run.verdict() is None
    monkeypatch.undo()
    assert settle_all(workspace.store) == []
    verdict = run.verdict()
    assert verdict is not None and verdict.outcome is Outcome.PASS


def test_an_interrupted_acceptance_is_judged_by_the_next_settling(workspace, monkeypatch) -> None:
    run = passing(workspace)
    workspace.judge(run, Outcome.INCONCLUSIVE, {"kind": "link", "text": "its link?"})
    assert outcome_of(run, workspace) is Outcome.INCONCLUSIVE
    accept(run, "https://example.org/1")  # and the power fails before it is judged again
    assert outcome_of(run, workspace) is Outcome.PASS
    assert (run.folder / "verdict.1.json").exists()
    assert text(workspace).count("[x]") == 1
    assert settling._answered(run, run.verdict()) is False


def test_a_tick_that_nothing_backs_is_not_done(workspace) -> None:
    run = passing(workspace, exit_code=1)
    settle(run, workspace.store)
    workspace.write("list.md", LIST.replace("[ ]", "[x]"))  # in an editor

    def states() -> list[StepState]:
        return [item.state for item in step_statuses(load(workspace.folder / "list.md"), workspace.store)]

    assert states() == [StepState.TICKED, StepState.TICKED]
    for occurrence in (1, 2):
        tick_by_hand(workspace.folder / "list.md", StepKey("1. Part", "same", occurrence), "seen", workspace.store)
    assert states() == [StepState.BY_HAND, StepState.BY_HAND]


def test_a_run_that_may_not_tick_backs_no_tick(workspace) -> None:
    run = passing(workspace)
    workspace.write("list.md", LIST.replace("[ ]", "[x]"))  # in an editor

    def state() -> StepState:
        return step_statuses(load(workspace.folder / "list.md"), RunStore(workspace.folder))[0].state

    for name, value, expected in (
        ("tick", True, StepState.MEASURED), ("tick", False, StepState.TICKED), ("preset", "smoke", StepState.TICKED),
    ):  # fmt: skip
        intent: dict[str, Any] = read_json(run.folder / "run.json") or {}
        write_json(run.folder / "run.json", {**intent, "tick": True, "preset": None, name: value})
        workspace.judge(run, Outcome.PASS)
        assert state() is expected, (name, value)


def test_a_verdict_is_written_once(workspace) -> None:
    run = passing(workspace)
    workspace.judge(run, Outcome.FAIL)
    assert outcome_of(run, workspace) is Outcome.FAIL
    assert text(workspace) == LIST
    write_json(run.folder / "status.json", {})
    assert outcome_of(run, workspace) is Outcome.FAIL


def test_records_of_an_older_llmval_which_kept_secrets_still_back_their_ticks(workspace) -> None:
    items = [f"x `y --api-key {key}`" for key in ("first-key-123", "second-key-45")]
    workspace.write("list.md", "# L\n\n## 1. Part\n" + "".join(f"- [ ] {item}\n" for item in items))
    source = (workspace.folder / "list.md").read_text()
    proposal = Proposal("command", "", commands=(TRUE,), artifacts=(Artifact("artifacts/x.json"),), telemetry=False)
    workspace.write("artifacts/x.json", "{}")
    # `Workspace.run` names a step as the list does, with occurrence 1 for each of the two, as the older one did.
    runs = [workspace.run(workspace.context(source, number), proposal) for number in ("1.1", "1.2")]
    settle(runs[1], workspace.store)
    checklist = load(workspace.folder / "list.md")
    todo = workspace.folder / "docs" / "TODO.md"
    old = [line.replace(key_hash(checklist.steps[1].recorded_key) + "#2", key_hash(checklist.steps[1].key) + "#1")
           for line in todo.read_text().splitlines()]  # fmt: skip
    todo.write_text("\n".join(old) + "\n")
    lines = [line | {"text": items[1], "occurrence": 1} for line in read_lines(workspace.store.ledger)]
    workspace.store.ledger.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))

    store = RunStore(workspace.folder)
    states = [(item.state, item.run and item.run.id) for item in step_statuses(checklist, store)]
    assert states == [(StepState.JUDGING, runs[0].id), (StepState.EXIT_CODE, runs[1].id)]
    # A new record replaces the old line, and neither has a secret.
    tick_by_hand(workspace.folder / "list.md", checklist.steps[1].key, "seen", store)
    settle(runs[0], store)
    assert todo.read_text().count("llmval:item") == 2
    assert not any(key in todo.read_text() for key in ("first-key", "second-key"))
    new = workspace.store.ledger.read_text().splitlines()[len(lines) :]
    assert len(new) == 3 and not any("first-key" in line or "second-key" in line for line in new)
    now = [item.state for item in step_statuses(load(workspace.folder / "list.md"), RunStore(workspace.folder))]
    assert now == [StepState.EXIT_CODE, StepState.BY_HAND]
