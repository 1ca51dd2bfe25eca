"""Damaged records and hostile names: one sentence names each, and everything else works."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions import judge as judging
from llmval_tui.actions.settle import settle_all
from llmval_tui.actions.step_state import StepState, step_statuses
from llmval_tui.checklist.model import load
from llmval_tui.cli import main
from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore
from llmval_tui.tui.data.snapshot import Selection
from llmval_tui.tui.data.workspace_view import Workspace
from llmval_tui.tui.settings import LaunchSettings

RECORDS = ("run.json", "status.json", "verdict.json", "ledger.jsonl")
COMMANDS = ("status", "status --json", "verify", "report --format json", "run 1.1 --dry-run")


def damage(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data, (path, old)
    path.write_bytes(data.replace(old, new, 1))


@pytest.fixture
def judged(workspace: Any) -> Any:
    """A workspace whose item 1.1 is ticked by a run; 1.2 failed."""
    workspace.llmval("run", "1.1", "1.2", check=1)
    return workspace


def path_of(workspace: Any, record: str) -> Path:
    run = next(run for run in workspace.store.runs() if run.intent.step.number == "1.2")
    folder: Path = workspace.store.root if record == "ledger.jsonl" else run.folder
    return folder / record


@pytest.fixture
def call(judged: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command in this process; returns its whole output and its exit code."""
    monkeypatch.chdir(judged.folder)

    def run(command: str) -> tuple[str, int]:
        code = main(command.split())
        output = capsys.readouterr()
        return output.out + output.err, code

    return run


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_is_named_and_every_command_works(judged: Any, call: Any, record: str) -> None:
    path = path_of(judged, record)
    for old, new in ((b'"v"', b'"v\\'), (b'"', b"\x80")):
        data = path.read_bytes()
        damage(path, old, new)
        for command in COMMANDS:
            shown, code = call(command)
            assert code in (0, 3), (record, command)
            assert str(path) in shown or "dry-run" in command or record == "status.json", (record, command)
        shown, _ = call("status")
        assert "1.1" in shown and "1.2" in shown
        path.write_bytes(data)


@pytest.mark.parametrize(("record", "old", "new"), [
    ("run.json", b'"order_ns": 1', b'"order_ns": [1],"x": 1'),
    ("run.json", b'"commands": [', b'"commands": "a", "x": ['),
    ("status.json", b'"state": "finished"', b'"state": "finishef"'),
    ("status.json", b'"commands": [', b'"commands": 3, "x": ['),
    ("verdict.json", b'"outcome": "fail"', b'"outcome": "gail"'),
    ("verdict.json", b'"gates": [', b'"gates": {}, "x": ['),
    ("ledger.jsonl", b'"evidence":[', b'"evidence":7,"x":['),
])  # fmt: skip
def test_a_value_of_another_type_is_a_damaged_record(
    judged: Any, call: Any, record: str, old: bytes, new: bytes
) -> None:
    path = path_of(judged, record)
    damage(path, old, new)
    shown, code = call("status")
    assert code == 0
    assert str(path) in shown or record == "status.json"


def test_no_flipped_bit_stops_a_look(judged: Any) -> None:
    chance = random.Random(20)
    for record in RECORDS:
        path = path_of(judged, record)
        data = path.read_bytes()
        for _ in range(150):
            at = chance.randrange(len(data) * 8)
            path.write_bytes(data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :])
            store = RunStore(judged.folder)
            settle_all(store)
            assert len(step_statuses(load(judged.checklist), store)) == len(load(judged.checklist).steps)
            check_ledger(store)
        path.write_bytes(data)
        for extra in judged.store.root.glob("*/verdict.*.json"):
            extra.unlink()


@pytest.mark.parametrize("record", RECORDS)
def test_the_dashboard_shows_the_list_and_names_the_record(judged: Any, record: str) -> None:
    path = path_of(judged, record)
    damage(path, b'"', b"\x80")
    if record == "status.json":
        path.with_name("verdict.json").unlink()  # it is read only until the run is judged
    view = Workspace(LaunchSettings(judged.folder, judged.checklist), lambda _context: pytest.fail("no step is chosen"))
    snapshot = view.snapshot(Selection())
    assert len(snapshot.steps) == len(load(judged.checklist).steps)
    assert snapshot.problem is None
    assert any(str(path) in sentence for sentence in snapshot.unreadable)
    if record == "verdict.json":
        assert snapshot.steps[1].state is StepState.UNREADABLE


def test_a_damaged_plan_is_named_and_the_last_good_one_is_shown(judged: Any, call: Any) -> None:
    judged.llmval("run", "1.1", check=0)
    newest = sorted((judged.folder / "artifacts/plans").glob("*/plan.json"))[-1]
    damage(newest, b'"v"', b'"w"')
    for command in ("status", "cancel", "watch"):
        call(command)
    shown, code = call("attach")
    assert str(newest) in shown and code == 1  # the plan before it failed


def test_artifacts_with_names_that_are_not_utf8_are_hashed_and_found_again(workspace: Any) -> None:
    program = (
        "import os; os.makedirs('artifacts/out', exist_ok=True); open(b'artifacts/out/caf\\xe9.txt', 'w').write('1')"
    )
    (workspace.folder / "names.py").write_text(program)
    workspace.checklist.write_text("## 1. Part\n- [ ] Run: `python names.py --output-dir artifacts/out`\n")
    workspace.llmval("run", "1.1", check=0)
    (run,) = workspace.store.runs()
    verdict = run.verdict()
    assert verdict is not None and verdict.outcome is Outcome.PASS
    (item,) = verdict.evidence
    assert item.path == "file:artifacts/out/caf%E9.txt"
    assert item.at(workspace.folder).read_text() == "1"
    assert workspace.llmval("verify", check=0).stdout.startswith("intact")
    for words in (["status"], ["report", "--format", "json"], ["report", "--format", "md"]):
        workspace.llmval(*words, check=0)
    assert "caf%E9.txt" in (workspace.folder / "docs/TODO.md").read_text()
    os.unlink(os.path.join(os.fsencode(workspace.folder), b"artifacts/out/caf\xe9.txt"))  # noqa: PTH108, PTH118
    assert workspace.llmval("verify", check=1).stdout.startswith("missing")


def test_a_defect_of_one_run_does_not_keep_the_others_from_being_judged(judged: Any, monkeypatch: Any) -> None:
    for run in judged.store.runs():
        (run.folder / "verdict.json").unlink()
    bad = judged.store.runs()[-1].id

    def broken(run: Any) -> Any:
        if run.id == bad:
            raise RuntimeError("a defect")
        return judging.judge(run)

    monkeypatch.setattr(judging, "judged", broken)
    problems = settle_all(RunStore(judged.folder))
    assert [problem for problem in problems if bad in problem and "a defect" in problem]
    assert all(run.verdict() is not None for run in judged.store.runs() if run.id != bad)


@pytest.mark.parametrize("option", ["--workspace", "--checklist"])
@pytest.mark.parametrize("path", ["~nosuchuser/x", "loop", "caf\udce9", "a\udcffb/c"])
def test_a_path_that_cannot_be_used_is_one_sentence(workspace: Any, option: str, path: str) -> None:
    (workspace.folder / "loop").symlink_to("loop")
    os.mkdir(os.path.join(os.fsencode(workspace.folder), b"caf\xe9"))  # noqa: PTH102, PTH118
    done = subprocess.run(
        [sys.executable, "-m", "llmval_tui", "status", option, path],
        cwd=workspace.folder, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"llmval: ") and done.stderr.count(b"\n") == 1


def test_a_working_folder_whose_name_is_not_utf8_is_one_sentence(workspace: Any) -> None:
    folder = os.path.join(os.fsencode(workspace.folder), b"caf\xe9")  # noqa: PTH118
    os.makedirs(folder + b"/docs")  # noqa: PTH103
    done = subprocess.run(
        [sys.executable, "-m", "llmval_tui", "run", "--all"], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"llmval: ") and done.stderr.count(b"\n") == 1
