"""The demo: its workspace is kept as it was left, made new only where that is asked for, and never by `--readonly`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmval_tui.console.demo import prepare
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock
from llmval_tui.runs.store import DEMO_MARKER


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A demo workspace with a tick, a record and a run."""
    folder = prepare(tmp_path / "demo")
    checklist = folder / "docs/llm_validation_checklist.md"
    checklist.write_text(checklist.read_text().replace("- [ ]", "- [x]", 1))
    (folder / "docs/TODO.md").write_text("1.1 is done\n")
    (folder / "artifacts/runs/one").mkdir(parents=True)
    return folder


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_there_is_kept_what_is_missing_comes_and_reset_makes_it_new(left: Path) -> None:
    before = bytes_of(left)
    (left / "docs/TODO.md").rename(left / "aside")
    prepare(left)
    assert (left / "docs/TODO.md").is_file()
    (left / "aside").replace(left / "docs/TODO.md")
    assert bytes_of(left) == before and (left / "artifacts/runs/one").is_dir()
    prepare(left, reset=True)
    assert b"[x]" not in (left / "docs/llm_validation_checklist.md").read_bytes()
    assert (left / "docs/TODO.md").read_text() != "1.1 is done\n" and not (left / "artifacts").exists()


def test_a_reset_spares_what_is_no_demo_and_what_is_at_work(left: Path) -> None:
    plan = left / "artifacts/plans/one"
    plan.mkdir(parents=True)
    (plan / "plan.json").write_text("{}")
    lock = take_lock(plan / "lock")
    before = bytes_of(left)
    with pytest.raises(Refused, match="llmval cancel --workspace"):
        prepare(left, reset=True)
    assert lock is not None and bytes_of(left) == before
    (left / DEMO_MARKER).unlink()
    with pytest.raises(Refused, match="not a demo workspace"):
        prepare(left, reset=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--readonly"], "--readonly was given"),
        (["--readonly", "--headless"], "--readonly was given"),
        (["--workspace", "elsewhere"], "--dir"),
        (["--checklist", "list.md", "--headless"], "--dir"),
    ],
)
def test_it_is_refused_before_anything_is_touched(workspace, left: Path, words: list[str], said: str) -> None:
    before = bytes_of(left)
    done = workspace.llmval("demo", "--dir", str(left), *words, check=2)
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert bytes_of(left) == before


@pytest.mark.parametrize("there", [True, False])
def test_readonly_on_a_terminal_makes_nothing(left: Path, tmp_path: Path, there: bool) -> None:
    folder, before = left if there else tmp_path / "new", bytes_of(tmp_path)
    _, screen = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "llmval_tui", "demo", "--readonly", "--dir", str(folder)],
        stdin=screen, stdout=screen, stderr=subprocess.PIPE, text=True, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 2 and ("without a cursor" if there else "creates none") in done.stderr
    assert bytes_of(tmp_path) == before


def test_the_headless_demo_may_be_repeated(workspace, tmp_path: Path) -> None:
    for _ in range(2):
        workspace.llmval("demo", "--dir", str(tmp_path / "demo"), "--headless", check=0)
    assert (tmp_path / "demo/docs/llm_validation_checklist.md").read_text().count("[x]") == 1
