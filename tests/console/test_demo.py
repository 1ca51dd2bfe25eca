"""The demo: its workspace is kept, replaced only by `--reset`, and never created by `--readonly`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmval_tui.console.demo import prepare
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock
from llmval_tui.plans.records import workspace_lock
from llmval_tui.runs.store import DEMO_MARKER


@pytest.fixture
def used_demo(tmp_path: Path) -> Path:
    """A demo workspace with a tick, a record and a run."""
    folder = prepare(tmp_path / "demo")
    checklist = folder / "docs/llm_validation_checklist.md"
    checklist.write_text(checklist.read_text().replace("- [ ]", "- [x]", 1))
    (folder / "docs/TODO.md").write_text("1.1 is done\n")
    (folder / "artifacts/runs/one").mkdir(parents=True)
    return folder


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_existing_documents_are_kept_missing_ones_are_added_and_reset_replaces_all(used_demo: Path) -> None:
    before = bytes_of(used_demo)
    (used_demo / "docs/TODO.md").rename(used_demo / "aside")
    prepare(used_demo)
    assert (used_demo / "docs/TODO.md").is_file()
    (used_demo / "aside").replace(used_demo / "docs/TODO.md")
    assert bytes_of(used_demo) == before and (used_demo / "artifacts/runs/one").is_dir()
    prepare(used_demo, reset=True)
    assert b"[x]" not in (used_demo / "docs/llm_validation_checklist.md").read_bytes()
    assert (used_demo / "docs/TODO.md").read_text() != "1.1 is done\n" and not (used_demo / "artifacts").exists()


def test_a_reset_is_refused_for_other_folders_and_while_something_runs(used_demo: Path) -> None:
    plan = used_demo / "artifacts/plans/one"
    plan.mkdir(parents=True)
    (plan / "plan.json").write_text("{}")
    locks = [take_lock(workspace_lock(used_demo)), take_lock(plan / "lock")]
    before = bytes_of(used_demo)
    with pytest.raises(Refused, match="llmval cancel --workspace"):
        prepare(used_demo, reset=True)
    assert None not in locks and bytes_of(used_demo) == before
    (used_demo / DEMO_MARKER).unlink()
    with pytest.raises(Refused, match="not a demo workspace"):
        prepare(used_demo, reset=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--readonly"], "--readonly was given"),
        (["--readonly", "--headless"], "--readonly was given"),
        (["--workspace", "elsewhere"], "--dir"),
        (["--checklist", "list.md", "--headless"], "--dir"),
    ],
)
def test_a_refusal_changes_nothing(workspace, used_demo: Path, words: list[str], message: str) -> None:
    before = bytes_of(used_demo)
    done = workspace.llmval("demo", "--dir", str(used_demo), *words, check=2)
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert bytes_of(used_demo) == before


@pytest.mark.parametrize("exists", [True, False])
def test_readonly_on_a_terminal_creates_nothing(used_demo: Path, tmp_path: Path, exists: bool) -> None:
    folder, before = used_demo if exists else tmp_path / "new", bytes_of(tmp_path)
    _, screen = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "llmval_tui", "demo", "--readonly", "--dir", str(folder)],
        stdin=screen, stdout=screen, stderr=subprocess.PIPE, text=True, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 2 and ("without a cursor" if exists else "creates none") in done.stderr
    assert bytes_of(tmp_path) == before


def test_the_headless_demo_may_be_repeated(workspace, tmp_path: Path) -> None:
    for _ in range(2):
        workspace.llmval("demo", "--dir", str(tmp_path / "demo"), "--headless", check=0)
    assert (tmp_path / "demo/docs/llm_validation_checklist.md").read_text().count("[x]") == 1
