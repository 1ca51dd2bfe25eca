"""SIGKILL of runner, watchdog or both at any moment: the files remain readable and say that they are partial."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.compile_study.watch.processes import descendants
from llmval_runners.process.files import read_json

from llmval_tui.actions.judges.compile_bundle import packed
from tests.helpers.runners.study_process import LIMIT_S, start, valid, wait_for

pytestmark = pytest.mark.slow
SEED, MOMENTS, LONGEST_S = 6, 4, 16.0  # the study takes about as long, from its first file to its archive


def watchdog_of(layout: Layout) -> int | None:
    path = layout.watch / "watchdog.pid"
    return int(path.read_text()) if path.exists() else None


def kill(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def everything_of(study: "subprocess.Popen[bytes]", layout: Layout) -> set[int]:
    """The pids below the runner, and the watchdog, which gets another parent when the runner is gone."""
    return {process.pid for process in descendants(study.pid)} | {watchdog_of(layout) or study.pid}


def moments() -> list[tuple[str, float]]:
    numbers = random.Random(SEED)
    victims = ["runner", "watchdog", "both"]
    return [(victims[index % 3], round(numbers.uniform(0.0, LONGEST_S), 2)) for index in range(MOMENTS)]


@pytest.mark.parametrize(("victim", "after_s"), moments())
def test_the_files_are_readable_and_say_that_they_are_partial(victim: str, after_s: float, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    study = start(
        layout.root, "--backend", "eager", "--compile-mode", "smart", "--timeout", "900", "--stall-after", "600"
    )
    wait_for(layout.run.exists)
    assert layout.partial.exists(), "it calls itself partial from the first file on"
    time.sleep(after_s)
    if victim in ("runner", "both"):
        study.send_signal(signal.SIGSTOP)  # so that it starts no other watchdog, nor any rank, meanwhile
    below = everything_of(study, layout) if study.poll() is None else set()
    if victim in ("watchdog", "both"):
        kill(watchdog_of(layout))
    if victim in ("runner", "both"):
        study.kill()
    study.wait(LIMIT_S)
    wait_for(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in below))  # /cwd: a zombie has none
    for path in layout.root.rglob("*.json"):
        json.loads(path.read_bytes())
    if layout.partial.exists():
        assert victim != "watchdog", "a watchdog that is killed is replaced, and the runner ends its work"
        assert "partial" in layout.partial.read_text()
        repacked = subprocess.run(
            [sys.executable, str(SCRIPT), "--repack", str(layout.root)], capture_output=True, text=True, check=False
        )
        assert repacked.returncode == 0, repacked.stderr
        assert any("--repack" in note for note in valid(layout)["notes"])
    assert not layout.partial.exists()
    assert valid(layout)["outcome"] in ("did_not_reproduce", "interrupted", "failed")
    assert not packed(layout.root).problem
    with tarfile.open(layout.archive) as archive:
        names = archive.getnames()
    assert {"study/run.json", "study/result.json", "study/repro.py", "study/bug_report.md"} <= set(names)
    assert read_json(layout.run) is not None


def test_a_study_that_still_runs_is_not_packed(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    study = start(layout.root, "--inject-hang", "blocked_read", "--stall-after", "600", "--timeout", "900")
    try:
        wait_for(lambda: layout.beat(0).exists() and layout.beat(1).exists())
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "--repack", str(layout.root)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and "still runs" in done.stderr and layout.partial.exists()
    finally:
        study.send_signal(signal.SIGTERM)
        study.wait(LIMIT_S)
