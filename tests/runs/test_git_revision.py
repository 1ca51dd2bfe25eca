"""The revision of a checkout is read without starting anything that its configuration names."""

import shutil
import subprocess
from pathlib import Path

import pytest

from llmval_tui.runs.inventory import git_revision

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "sub").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(folder))
    (folder / "a.txt").write_text("a\n")
    git(folder, "add", "a.txt")
    git(folder, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m")
    return folder


def test_commit_and_changes(checkout: Path, tmp_path: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert git_revision(checkout) == git_revision(checkout / "sub") == {"commit": head, "dirty": False}
    (checkout / "new.txt").write_text("untracked")
    assert git_revision(checkout)["dirty"] is False
    git(checkout, "worktree", "add", "-q", str(tmp_path / "second"))
    assert git_revision(tmp_path / "second") == {"commit": head, "dirty": False}
    (checkout / "a.txt").write_text("b\n")
    assert git_revision(checkout) == {"commit": head, "dirty": True}
    assert git_revision(tmp_path) == {}


def test_a_hostile_configuration_starts_nothing(checkout: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\necho $0 $* >> {started}\ncat\n")
    program.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    shutil.copy(program, hooks / "post-index-change")
    for name, value in (
        ("core.fsmonitor", str(program)),
        ("core.hooksPath", str(hooks)),
        ("core.pager", str(program)),
        ("core.sshCommand", str(program)),
        ("filter.evil.clean", str(program)),
        ("diff.external", str(program)),
    ):
        git(checkout, "config", name, value)
    (checkout / ".git/info").mkdir(exist_ok=True)
    (checkout / ".git/info/attributes").write_text("* filter=evil\n")
    (checkout / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (checkout / "a.txt").write_text("c\n")  # the same size: only its content tells
    assert git_revision(checkout)["dirty"] is True
    assert not started.exists()
    git(checkout, "status", "--porcelain")
    assert started.exists()  # plain git does start it
