"""What a tick rests on: recorded when it is made, compared with files, list and newer runs at each look."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.groups import tick_groups
from llmval_tui.actions.hand_tick import tick_by_hand
from llmval_tui.actions.rests_on import rests_on, verdict_rests_on
from llmval_tui.actions.settle import settle
from llmval_tui.actions.step_state import StepState, StepStatus, step_statuses, tick_counts
from llmval_tui.checklist.ledger import entries
from llmval_tui.checklist.model import load
from llmval_tui.foundation.files import read_json, read_lines, to_json, write_json
from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.records import Artifact, Command, Gate, Outcome, RestsOn
from llmval_tui.runs.store import Run, RunStore

LIST = "# L\n\n## 1. Part\n- [ ] first\n- [ ] second\n"
FILE = "artifacts/one.txt"


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def run_of(workspace: Any, number: str = "1.1", *, exit_code: int = 0, **intent: Any) -> Run:
    path = workspace.folder / "list.md"
    if not path.exists():
        workspace.write("list.md", LIST)
    if exit_code == 0:
        workspace.write(FILE, f"{workspace.count}")
    proposal = Proposal("command", "", (), (Command("main", ["true"], "true"),), (Artifact(FILE),), telemetry=False)
    step = load(path).step(number)
    context = replace(workspace.context(path.read_text(), number), step=step)
    run: Run = workspace.run(context, proposal, exit_code=exit_code, item_fingerprint=step.fingerprint, **intent)
    return run


def ticked(workspace: Any, number: str = "1.1", **intent: Any) -> Run:
    run = run_of(workspace, number, **intent)
    settle(run, workspace.store)
    return run


def failed(workspace: Any, number: str = "1.1", **intent: Any) -> Run:
    run = run_of(workspace, number, exit_code=1, **intent)
    settle(run, workspace.store)
    return run


def status(workspace: Any, number: str = "1.1") -> StepStatus:
    store = RunStore(workspace.folder)
    found = step_statuses(load(workspace.folder / "list.md"), store)
    return next(item for item in found if item.step.number == number)


def by_hand(workspace: Any, note: str, number: str = "1.1") -> None:
    path = workspace.folder / "list.md"
    if not path.exists():
        workspace.write("list.md", LIST)
    tick_by_hand(path, load(path).step(number).key, note, RunStore(workspace.folder))


def gate(name: str, outcome: Outcome = Outcome.PASS) -> Gate:
    return Gate(name, outcome, "1", "2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["exit: main", "artifact: x.json", "as written"], RestsOn.EXIT_CODE),
        (["exit: main", "telemetry.throttling", "telemetry.xid", "evidence"], RestsOn.EXIT_CODE),
        (["exit: main", "cells"], RestsOn.MEASURED),
        (["exit: main", "p99 <= 200 ms"], RestsOn.MEASURED),
        ([], RestsOn.EXIT_CODE),
    ],
)
def test_general_gates_measure_nothing(names: list[str], expected: RestsOn) -> None:
    assert rests_on([gate(name) for name in names]) is expected


def test_a_gate_that_did_not_pass_and_an_unmeasured_run_below_measure_nothing() -> None:
    assert rests_on([gate("exit: main"), gate("cells", Outcome.INCONCLUSIVE)]) is RestsOn.EXIT_CODE
    assert rests_on([gate("run a")], [RestsOn.MEASURED, RestsOn.EXIT_CODE]) is RestsOn.EXIT_CODE
    assert rests_on([gate("run a")], [RestsOn.MEASURED]) is RestsOn.MEASURED


def test_a_tick_on_the_exit_code_alone_says_so_everywhere(workspace: Any) -> None:
    run = ticked(workspace)
    verdict = run.verdict()
    assert verdict is not None and verdict.rests_on is RestsOn.EXIT_CODE
    assert verdict.summary.startswith("exit code only")
    assert (read_json(run.folder / "verdict.json") or {})["rests_on"] == "exit code"
    (line,) = read_lines(workspace.store.ledger)
    assert line["rests_on"] == "exit code"
    (entry,) = entries(workspace.folder / "docs/TODO.md")
    assert entry.rests_on == "exit code only"
    item = status(workspace)
    assert item.state is StepState.EXIT_CODE
    assert item.basis is not None and item.basis.phrase == "exit code only"


def test_an_old_verdict_is_read_by_its_gates(workspace: Any) -> None:
    run = ticked(workspace)
    for name, expected in (("cells", StepState.MEASURED), ("artifact: x", StepState.EXIT_CODE)):
        value = read_json(run.folder / "verdict.json") or {}
        value["gates"] = [{"name": name, "outcome": "pass", "measured": "1", "bound": "2"}]
        value.pop("rests_on", None)
        write_json(run.folder / "verdict.json", value)
        (line,) = read_lines(workspace.store.ledger)
        line.pop("rests_on", None)
        workspace.store.ledger.write_bytes(to_json(line))
        verdict = run.verdict()
        assert verdict is not None and verdict.rests_on is None
        assert str(verdict_rests_on(verdict)) == expected
        assert status(workspace).state is expected


@pytest.mark.parametrize("change", ["changed", "same size and time", "missing"])
def test_evidence_that_changed_makes_the_tick_stale(workspace: Any, change: str) -> None:
    ticked(workspace)
    path: Path = workspace.folder / FILE
    before = path.stat()
    if change == "missing":
        path.unlink()
    elif change == "changed":
        path.write_text("another")
    else:
        path.write_text("7")  # one byte, as before
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    item = status(workspace)
    assert item.state is StepState.STALE
    assert item.basis is not None
    assert item.basis.stale == (f"{FILE} {'is missing' if change == 'missing' else 'changed since it was judged'}",)


def test_evidence_that_nobody_here_may_read_is_unreadable_and_not_stale(workspace: Any, monkeypatch: Any) -> None:
    ticked(workspace)
    closed = workspace.folder / FILE
    stat = Path.stat

    def denied(path: Path, **how: Any) -> os.stat_result:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", denied)
    item = status(workspace)
    assert item.state is StepState.UNREADABLE and item.basis is not None
    assert item.basis.stale == () and item.basis.unreadable == (f"{FILE} cannot be read by you",)
    assert item.basis.phrase.startswith(f"{FILE} cannot be read by you; ")
    assert "1 unreadable" in tick_counts([item])
    monkeypatch.setattr(Path, "stat", stat)
    closed.unlink()
    assert status(workspace).state is StepState.STALE


def test_a_look_reads_no_evidence_and_verify_remembers_what_it_hashed(workspace: Any, monkeypatch: Any) -> None:
    ticked(workspace)
    path: Path = workspace.folder / FILE
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)  # restored from a backup: other inode, other time
    with monkeypatch.context() as patch:
        patch.setattr("llmval_tui.runs.evidence.sha256_of", lambda _path: pytest.fail("a look hashed a file"))
        assert status(workspace).state is StepState.STALE
    store = RunStore(workspace.folder)
    assert [finding.state for finding in check_ledger(store)] == ["intact"]
    assert status(workspace).state is StepState.STALE
    check_ledger(store, remember=True)
    assert status(workspace).state is StepState.EXIT_CODE
    path.write_bytes(b"8")
    assert status(workspace).state is StepState.STALE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("first", "first, and more"),
        ("## 1. Part", "## 1. Another part"),
        ("- [x] first\n", "- [x] first\n  <!-- llmval: label=other -->\n"),
        ("- [x] first\n", "- [x] first\n\n  ```\n  another command\n  ```\n"),
    ],
)
def test_an_item_that_was_edited_is_stale(workspace: Any, before: str, after: str) -> None:
    ticked(workspace)
    path = workspace.folder / "list.md"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    item = status(workspace)
    assert item.state is StepState.STALE
    assert item.basis is not None and item.basis.was_edited


def test_an_edit_of_another_item_changes_nothing(workspace: Any) -> None:
    ticked(workspace)
    path = workspace.folder / "list.md"
    path.write_text(path.read_text().replace("# L\n", "# L\n\nprose\n\n- [ ] zero\n").replace("second", "2nd"))
    (item,) = [item for item in step_statuses(load(path), RunStore(workspace.folder)) if item.step.text == "first"]
    assert item.state is StepState.EXIT_CODE


def test_a_newer_run_that_failed_contradicts(workspace: Any) -> None:
    ticked(workspace)
    newer = failed(workspace)
    item = status(workspace)
    assert item.state is StepState.CONTRADICTED
    assert item.basis is not None and item.basis.contradicted_by == newer.id
    run_of(workspace, exit_code=1, status={"cancelled": "ops"})
    settle(RunStore(workspace.folder).runs()[0], workspace.store)  # proves nothing, so the failure still counts
    assert status(workspace).state is StepState.CONTRADICTED
    ticked(workspace)
    assert status(workspace).state is StepState.EXIT_CODE


def test_a_failed_trial_and_an_older_failure_contradict_nothing(workspace: Any) -> None:
    failed(workspace)
    ticked(workspace)
    failed(workspace, preset="smoke")
    assert status(workspace).state is StepState.EXIT_CODE


def test_a_tick_by_hand_says_who_when_and_why_and_a_second_note_adds(workspace: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("llmval_tui.actions.hand_tick.user_name", lambda: "ops")
    by_hand(workspace, "seen on the console")
    by_hand(workspace, "seen again by Ada")
    item = status(workspace)
    assert item.state is StepState.BY_HAND
    assert item.basis is not None
    assert [note.text for note in item.basis.notes] == ["seen on the console", "seen again by Ada"]
    assert {note.by for note in item.basis.notes} == {"ops"}
    (entry,) = entries(workspace.folder / "docs/TODO.md")
    assert entry.outcome == "by hand" and entry.by == "ops" and entry.host
    assert [note.rpartition(", ")[2] for note in entry.notes] == ["seen on the console", "seen again by Ada"]
    done = [line for line in read_lines(workspace.store.ledger) if line["kind"] == "operator"]
    assert [line["note"] for line in done] == ["seen on the console", "seen again by Ada"]


def test_a_tick_by_hand_on_an_item_that_failed_names_the_run(workspace: Any) -> None:
    run = failed(workspace)
    by_hand(workspace, "known defect")
    item = status(workspace)
    assert item.state is StepState.BY_HAND
    assert item.basis is not None and item.basis.contradicts == run.id
    assert f"contradicts run {run.id}" in item.basis.phrase
    assert f"contradicts run {run.id}" in (workspace.folder / "docs/TODO.md").read_text()
    newer = failed(workspace)
    item = status(workspace)
    assert item.state is StepState.CONTRADICTED
    assert item.basis is not None and item.basis.contradicted_by == newer.id


def test_other_bounds_beside_the_list_make_a_tick_stale(workspace: Any) -> None:
    criterion = {"text": "stdout /(\\d+)/ >= 4", "stated_by": "settings", "source": "stdout", "comparison": ">="}
    run_of(workspace, params={"criteria": [], "outputs": {"main": []}})
    settle(RunStore(workspace.folder).runs()[0], workspace.store)
    assert status(workspace).state is StepState.EXIT_CODE
    path = workspace.folder / "list.llmval.toml"
    path.write_text("[[bounds]]\nitem = 'first'\nexpect = ['stdout /(\\d+)/ >= 4']\n")
    item = status(workspace)
    assert item.state is StepState.STALE
    assert item.basis is not None and item.basis.stale == ("its bounds in list.llmval.toml were changed since",)
    run = RunStore(workspace.folder).runs()[0]
    intent = read_json(run.folder / "run.json") or {}
    write_json(run.folder / "run.json", {**intent, "params": {"criteria": [criterion]}})
    assert status(workspace).state is StepState.EXIT_CODE
    path.write_text("no TOML [")
    assert status(workspace).state is StepState.EXIT_CODE


def test_a_group_is_as_good_as_the_ticks_below_it(workspace: Any) -> None:
    text = "# L\n\n## 1. Part\n- [ ] all of these\n  - [ ] first\n  - [ ] second\n"
    workspace.write("list.md", text)
    ticked(workspace, "1.2")
    by_hand(workspace, "seen", "1.3")
    path = workspace.folder / "list.md"
    assert tick_groups(path, RunStore(workspace.folder))
    item = status(workspace, "1.1")
    assert item.state is StepState.BY_HAND
    assert item.basis is not None and "1.2 (exit code only)" in item.basis.notes[0].text
    failed(workspace, "1.2")
    item = status(workspace, "1.1")
    assert item.state is StepState.CONTRADICTED
    assert item.basis is not None and item.basis.contradicted == "item 1.2 below it is contradicted"
    ticked(workspace, "1.2")
    (workspace.folder / FILE).unlink()
    assert status(workspace, "1.1").state is StepState.STALE


def test_the_counts_name_every_kind(workspace: Any) -> None:
    ticked(workspace)
    by_hand(workspace, "seen", "1.2")
    found = step_statuses(load(workspace.folder / "list.md"), RunStore(workspace.folder))
    assert tick_counts(found) == "2 of 2 items are ticked: 1 exit code only, 1 by hand."
