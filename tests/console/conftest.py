"""A workspace with a small checklist of real commands, and the real `llmval` beside it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmval_tui.plans.records import active_plan
from llmval_tui.runs import client
from llmval_tui.runs.store import RunStore

CHECKLIST = """# List

## 1. First
- [ ] Run: `python ok.py --output-json artifacts/ok.json`
- [ ] Run: `python broken.py`
- [ ] Run: `python slow.py --output artifacts/slow.txt`
- [ ] Ask the network team whether the cables are labelled.
"""

OK = """import pathlib, sys
path = pathlib.Path(sys.argv[-1]); path.parent.mkdir(parents=True, exist_ok=True)
path.write_text('{"value": 1}')
print("\\x1b[31m[/red] done\\x1b[0m")
"""

SLOW = """import pathlib, sys, time
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
pathlib.Path(sys.argv[-1]).write_text("slow")
"""


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


class Workspace:
    """The folder, and `llmval` started in it as an operator would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checklist = folder / "docs" / "llm_validation_checklist.md"
        self.store = RunStore(folder)

    def llmval(self, *arguments: str, check: int | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmval_tui", *arguments],
            cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
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
    (folder / "ok.py").write_text(OK)
    (folder / "broken.py").write_text("raise SystemExit('boom')\n")
    (folder / "slow.py").write_text(SLOW)
    (folder / "artifacts").mkdir()
    made = Workspace(folder)
    yield made
    plan = active_plan(folder)
    if plan is not None and (identity := plan.status().identity):
        os.kill(identity.pid, 9)
    for run in made.store.active():
        client.request_cancel(run, "end of test")
        client.wait(run, 40)
