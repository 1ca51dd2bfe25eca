"""Many at once: an editor that saves while llmval ticks, ten plans, two dashboards."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from faults.report import Finding, Row
from faults.scenes import scratch
from faults.terminals import Dashboard
from llmval_tui.runs.store import RunStore
from tests.helpers.second_editor import WAYS, lost_edits

PLANS = 10
_LIST = "# List\n\n## 1. Part\n- [ ] Run: `python work.py --output-json artifacts/ok.json`\n"
_WORK = (
    "import pathlib, sys, time\ntime.sleep(1)\nwith open('starts', 'a') as file:\n    file.write('x')\n"
    "pathlib.Path(sys.argv[-1]).write_text('{}')\n"
)


def second_editor(row: Row, every: int = 1) -> None:
    """Another program saves the list 2,500 times in each of four ways, while llmval ticks it."""
    scratch = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(scratch)
    try:
        for way in WAYS:
            count = 2500 // every
            lost, ticks = lost_edits(scratch, way, count)
            for number in range(count):
                row.add(Finding(f"{way}, {number}", ["an edit is lost"] if number < lost else []))
            row.note += f"{way}: {ticks:,} ticks; "
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before
        shutil.rmtree(scratch, ignore_errors=True)


def plans_at_once(row: Row, every: int = 1) -> None:
    """Ten plans of one item start at once, before two open dashboards: one works, the item is ticked once."""
    for number in range(max(1, 5 // every)):
        row.add(Finding(f"round {number}", _plans_at_once()))


def _start(argv: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def _plans_at_once() -> list[str]:
    folder, workspace, environment = scratch(_LIST, _WORK)
    options = ["--workspace", str(workspace), "--checklist", "list.md"]
    dashboards: list[Dashboard] = []
    found = []
    try:
        dashboards = [Dashboard(options, workspace, environment) for _ in range(2)]
        argv = [sys.executable, "-m", "llmval_tui", "run", "1.1", *options]
        plans = [_start(argv, workspace, environment) for _ in range(PLANS)]
        outputs = []
        for plan in plans:
            while plan.poll() is None:
                for dashboard in dashboards:
                    dashboard.read()
                time.sleep(0.05)
            outputs.append(plan.communicate()[0])
        codes = [plan.returncode for plan in plans]
        if any("Traceback" in output for output in outputs):
            found.append("a traceback")
        if 0 not in codes or not set(codes) <= {0, 2}:
            found.append(f"exit codes {codes}")
        starts = (workspace / "starts").read_text() if (workspace / "starts").exists() else ""
        passes = [run for run in RunStore(workspace).runs() if run.verdict() is not None]
        if len(starts) != len(passes) or "- [x]" not in (workspace / "list.md").read_text():
            found.append(f"{len(starts)} starts, {len(passes)} verdicts")
        ticks = RunStore(workspace).ticks.lines()
        if len({line.run_id for line in ticks}) != len(ticks):
            found.append("a run is recorded twice")
        for dashboard in dashboards:
            if dashboard.process.poll() is not None:
                found.append("a dashboard has ended")
            elif not dashboard.shows("measured", "exit code", "ticked", seconds=60):
                found.append("a dashboard does not show the tick")
    finally:
        for dashboard in dashboards:
            dashboard.close()
        with suppress(OSError):
            shutil.rmtree(folder)
    return found
