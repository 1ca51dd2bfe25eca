"""A workspace with a small checklist of real commands, in which tests run the real `llmval`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmval_tui.plans.records import active_plan
from llmval_tui.runs import client
from llmval_tui.runs.store import RunStore
from tests.helpers.trusted import trust

CHECKLIST = """# List

## 1. First
- [ ] Run: `python ok.py --output-json artifacts/ok.json`
- [ ] Run: `python broken.py`
- [ ] Run: `python slow.py --output artifacts/slow.txt`
- [ ] Ask the network team whether the cables are labelled.
"""

PROGRAMS = Path(__file__).with_name("programs")


class Workspace:
    """A workspace folder; runs `llmval` in it as an operator would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checklist = folder / "docs" / "llm_validation_checklist.md"
        self.store = RunStore(folder)

    def llmval(
        self, *arguments: str, check: int | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmval_tui", *arguments],
            cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False,
        )  # fmt: skip
        if check is not None:
            assert done.returncode == check, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "llmval_tui", *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "ws"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "llm_validation_checklist.md").write_text(CHECKLIST)
    trust(folder / "docs" / "llm_validation_checklist.md")
    for program in ("ok.py", "broken.py", "slow.py"):
        shutil.copy(PROGRAMS / program, folder)
    (folder / "artifacts").mkdir()
    made = Workspace(folder)
    yield made
    plan = active_plan(folder)
    if plan is not None and (identity := plan.status().identity):
        os.kill(identity.pid, 9)
    for run in made.store.active():
        client.request_cancel(run, "end of test")
        client.wait(run, 180)
