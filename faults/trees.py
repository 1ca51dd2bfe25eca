"""SIGKILL of any process of the whole tree at a random moment, and again while the first kill is being recovered."""

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from faults.injection import run
from faults.report import Finding, Row
from faults.scenes import scratch
from faults.terminals import Dashboard
from llmval_tui.cli import main
from llmval_tui.foundation.process import processes_with
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore

TREES = 200
_WANTED = ("any", "any", "plan", "supervisor", "recorder", "agent", "rank")
_LIST = "# List\n\n## 1. Part\n- [ ] Run: `{item}`\n- [ ] Look at the cables\n"
# An agent and two ranks, each in a session of its own as torchrun starts them.
_AGENT = """
import pathlib, subprocess, sys, time
if len(sys.argv) == 2:
    with open(f"started{sys.argv[1]}", "a") as file:
        file.write("x")
    time.sleep(1)
    sys.exit(0)
ranks = [subprocess.Popen([sys.executable, __file__, str(rank)], start_new_session=True) for rank in range(2)]
if any([rank.wait() for rank in ranks]):
    sys.exit(1)
pathlib.Path(sys.argv[-1]).write_text('{"ok": true}')
"""
# A rank of torchrun, whose agent is the real one.
_RANK = """
import os, pathlib, sys, time
with open("started" + os.environ["RANK"], "a") as file:
    file.write("x")
time.sleep(2)
if os.environ["RANK"] == "0":
    pathlib.Path(sys.argv[-1]).write_text('{"ok": true}')
"""
AGENTS = 20
_AGENT_LIFE_S = 6.0  # the agent imports torch, starts its ranks, and waits for them


def kind_of(process: psutil.Process) -> str | None:
    """Which part of the tree a process is; None: it has ended."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    line = " ".join(words)
    if "llmval_tui.telemetry.recorder" in line and "--out -" in line:
        return "dashboard"  # its own recorder, which ends with it
    for word, kind in (
        ("llmval_tui.plans.process", "plan"),
        ("llmval_tui.runs.supervisor", "supervisor"),
        ("llmval_tui.telemetry.recorder", "recorder"),
        ("llmval_tui run", "llmval run"),
        ("llmval_tui --workspace", "dashboard"),
    ):
        if word in line:
            return kind
    if "work.py" in line:
        return "rank" if len(words) == 3 or "--output" not in line or "RANK" in _environment(process) else "agent"
    return None


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def tree(folder: Path) -> list[tuple[psutil.Process, str]]:
    """The processes that belong to this scratch folder."""
    mark = f"FAULT_FOLDER={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():  # psutil would open five files for each process of the machine
        if not entry.name.isdecimal():
            continue
        with suppress(OSError, psutil.Error):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                process = psutil.Process(int(entry.name))
                if kind := kind_of(process):
                    found.append((process, kind))
    return found


def _case(seed: str, *, second: bool, torchrun: bool = False) -> tuple[str, list[str]]:
    """What was killed, and what was wrong. With `torchrun`, it is its agent."""
    chance = random.Random(seed)
    item = f"{'torchrun --nproc_per_node=2' if torchrun else 'python'} work.py --output-json artifacts/ok.json"
    folder, workspace, environment = scratch(_LIST.format(item=item), _RANK if torchrun else _AGENT)
    environment["FAULT_FOLDER"] = str(folder)
    options = ["--workspace", str(workspace), "--checklist", "list.md"]
    dashboard = None
    killed: list[str] = []
    try:
        if chance.random() < 0.25:
            dashboard = Dashboard(options, workspace, environment)
        started = subprocess.Popen(
            [sys.executable, "-m", "llmval_tui", "run", "1.1", *options], cwd=workspace, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wanted = "agent" if torchrun else chance.choice(_WANTED)
        spread_s = _AGENT_LIFE_S if torchrun else 0.3
        _kill_one(folder, chance, wanted, killed, dashboard, started, spread_s)
        if second:
            recovery = subprocess.Popen(
                [sys.executable, "-m", "llmval_tui", "status", *options], cwd=workspace, env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(chance.uniform(0, 1.5))
            if chance.random() < 0.5:
                _kill_one(folder, chance, "any", killed, dashboard, started)
            elif recovery.poll() is None:
                recovery.kill()
                killed.append("llmval status")
            recovery.wait()
        wrong = _recovered(folder, options, environment, dashboard)
        refused = started.poll() == 2 and not killed
        started.kill()
        started.wait()
        if refused:
            wrong.append("the plan was refused, so nothing was tried")
        return ", ".join(killed) or "nothing", wrong + _wrong(workspace, item, killed)
    finally:
        if dashboard is not None:
            dashboard.close()
        for process, _ in tree(folder):
            with suppress(psutil.Error):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _kill_one(
    folder: Path,
    chance: random.Random,
    wanted: str,
    killed: list[str],
    dashboard: Dashboard | None,
    started: subprocess.Popen[bytes],
    spread_s: float = 0.3,
) -> None:
    """Wait for a process of the wanted kind, or a random time, and then up to `spread_s`; kill one."""
    deadline = time.monotonic() + 60
    due = time.monotonic() + chance.uniform(0.0, 5.0)
    while time.monotonic() < deadline:
        found = tree(folder)
        of_kind = [process for process, kind in found if wanted in ("any", kind)]
        if of_kind and (wanted != "any" or time.monotonic() >= due):
            time.sleep(chance.uniform(0.0, spread_s))
            process = chance.choice(of_kind)
            kind = kind_of(process)
            with suppress(psutil.Error):
                process.kill()
                killed.append(kind or "an ended process")
            return
        if not found and (killed or started.poll() is not None):
            return
        if wanted not in ("any",) and any((folder / "ws/artifacts/runs").glob("*/verdict.json")):
            return  # it came and went
        if dashboard is not None:
            dashboard.read()
        time.sleep(0.05)


def _recovered(folder: Path, options: list[str], environment: dict[str, str], dashboard: Dashboard | None) -> list[str]:
    """Look until nothing runs and everything is judged; what was wrong on the way."""
    deadline = time.monotonic() + 240
    os.environ.update(environment)
    os.chdir(folder / "ws")
    while time.monotonic() < deadline:
        ended = run(lambda: main(["status", *options]))
        if ended.has_traceback:
            return [f"llmval status: {ended.output.strip().splitlines()[-1]}"]
        if dashboard is not None:
            dashboard.read()
        runs = RunStore(folder / "ws").runs()
        left = [kind for _, kind in tree(folder) if kind not in ("dashboard",)]
        if not left and all(one.judged() for one in runs):
            return []
        time.sleep(0.2)
    return [f"after 240 s there are still {sorted(kind for _, kind in tree(folder))}"]


def _wrong(workspace: Path, item: str, killed: list[str]) -> list[str]:
    store = RunStore(workspace)
    plain = _LIST.format(item=item)
    marked = plain.replace("- [ ] Run", "- [x] Run")
    text = (workspace / "list.md").read_text()
    found = []
    if text not in (plain, marked):
        found.append("the list is damaged")
    runs = store.runs()
    passed = [one for one in runs if (verdict := one.verdict()) and verdict.outcome is Outcome.PASS]
    ticks = store.ticks.lines()
    todo = workspace / "docs/TODO.md"
    todo_text = todo.read_text() if todo.exists() else ""
    lines = [line for line in todo_text.splitlines() if any(one.id in line for one in runs)]
    if (text == marked) != bool(passed) or len(ticks) != len(passed) or len(lines) > 1 or bool(lines) != bool(passed):
        found.append(f"{len(passed)} runs passed, {len(ticks)} ticks are recorded, {len(lines)} lines in TODO.md")
    if passed and not (workspace / "artifacts/ok.json").exists():
        found.append("a false pass: the artifact is not there")
    harmless = {"plan", "recorder", "dashboard", "llmval run", "llmval status", "an ended process"}
    starts = [path.read_text() for path in workspace.glob("started*")]
    # A plan that is killed between making a run and starting its supervisor leaves a run that nobody starts.
    if runs and set(killed) <= harmless and not passed and (starts or "plan" not in killed):
        found.append("nothing of the run was killed, and it did not pass")
    found += [f"orphans: {left}" for one in runs if (left := processes_with("LLMVAL_RUN_ID", one.id))]
    if any(len(one) > len(runs) for one in starts):
        found.append(f"{len(runs)} runs, and a rank was started {max(map(len, starts))} times")
    leftovers = [path.name for path in workspace.rglob("*llmval-new*")]
    if leftovers:
        found.append(f"left behind: {leftovers}")
    return found


def _trees(row: Row, every: int, *, second: bool) -> None:
    for number in range(max(1, TREES // (2 if second else 1) // every)):
        if row.tried(case := f"seed {number}"):
            continue
        killed, wrong = _case(f"{number} {second}", second=second)
        row.add(Finding(case, wrong, seen=killed))


def whole_trees(row: Row, every: int = 1) -> None:
    """One process of a running tree is killed."""
    _trees(row, every, second=False)


def whole_trees_twice(row: Row, every: int = 1) -> None:
    """And one more during the recovery."""
    _trees(row, every, second=True)


def launch_agents(row: Row, every: int = 1) -> None:
    """The agent of torchrun is killed at any time of its life: its ranks live in sessions of their own."""
    for number in range(max(1, AGENTS // every)):
        if row.tried(case := f"seed {number}"):
            continue
        killed, wrong = _case(f"agent {number}", second=False, torchrun=True)
        row.add(Finding(case, wrong, seen=killed))
