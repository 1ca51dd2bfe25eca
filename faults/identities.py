"""Clocks that jump, pids that are used again, and records of another boot."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime as real_datetime
from datetime import timedelta
from pathlib import Path
from typing import Any

from faults.injection import Ended, run
from faults.report import Finding, Row
from faults.scenes import ITEM, LIST, SCENES, Scene, llmval
from llmval_tui.foundation import text
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.runs.create import create_run
from llmval_tui.runs.records import Command, CommandStatus, Intent, Outcome, State, Status, StepRef
from llmval_tui.runs.store import RunStore
from llmval_tui.telemetry.process_ownership import ProcessRecord
from tests.helpers.workspace import run_id_of, write_run

JUMPS_S = {"a year back": -31_536_000, "an hour back": -3_600, "an hour on": 3_600, "a year on": 31_536_000}


def _at(offset_s: float, work: Callable[[], int]) -> int:
    """Do the work in this process with the wall clock set off; the monotonic clock goes on as it does."""
    plain, plain_ns = time.time, time.time_ns

    class Shifted(real_datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Shifted":
            return super().now(tz) + timedelta(seconds=offset_s)

    time.time = lambda: plain() + offset_s
    time.time_ns = lambda: plain_ns() + round(offset_s * 1e9)
    setattr(text, "datetime", Shifted)  # noqa: B010  (what utc_iso and utc_stamp ask)
    return work()


def _case(scene: Scene, before_s: float, after_s: float) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    try:
        scene.prepare(folder)
        ended = [
            run(lambda: _at(before_s, lambda: scene.act(folder))),
            run(lambda: _at(after_s, lambda: scene.recover(folder))),
        ]
        wrong = [f"a traceback: {one.output.strip().splitlines()[-1]}" for one in ended if one.has_traceback]
        return wrong + scene.check(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _newest(offset_s: float) -> list[str]:
    """A run made after the jump is the newest, and its verdict counts."""
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    try:
        workspace = folder / "ws"
        (workspace / "artifacts").mkdir(parents=True)
        store = RunStore(workspace)
        ids: list[str] = []
        for shift in (0.0, offset_s):

            def make(shift: float = shift) -> int:
                step = StepRef("1.1", "1. Part", ITEM, 1, "list.md")
                run_id = f"{text.utc_stamp()}-1.1-{len(ids):06x}"
                command = Command("main", ["true"], "true")
                create_run(store, Intent(1, run_id, "command", step, [command], str(workspace), text.utc_iso()))
                return 0

            ended = run(lambda shift=shift, make=make: _at(shift, make))  # type: ignore[misc]
            if ended.has_traceback:
                return [ended.output.strip().splitlines()[-1]]
            ids.append(max(path.name for path in store.root.iterdir() if path.name not in ids))
        newest = RunStore(workspace).runs()[0].id
        return [] if newest == ids[1] else [f"the newest run is {newest}, not {ids[1]}"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clock_jumps(row: Row, every: int = 1) -> None:
    """The wall clock jumps before an operation, or between it and the look after it."""
    cases = [
        (scene, name, *pair) for scene in SCENES for name, jump in JUMPS_S.items() for pair in ((jump, 0), (0, jump))
    ]
    for scene, name, before_s, after_s in cases[::every]:
        row.add(Finding(f"{scene.name}, {name}, {'before' if before_s else 'after'}", _case(scene, before_s, after_s)))
    for name, jump in list(JUMPS_S.items())[:: max(1, every // 4)]:
        row.add(Finding(f"a second run, {name}", _newest(jump)))


def _reused(field: str, change: str, commands: tuple[tuple[str, ...], ...]) -> list[str]:
    """A record names the pid of a stranger: the run is lost, and the stranger is left alone."""
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        workspace = folder / "ws"
        (workspace / "docs").mkdir(parents=True)
        (workspace / "list.md").write_text(LIST)
        identity = Identity.of(stranger.pid)
        assert identity is not None
        old = replace(identity, start_ticks=identity.start_ticks - 1000)
        if change == "boot":
            old = replace(identity, boot_id="00000000-0000-4000-8000-000000000000")
        status = Status(state=State.RUNNING, started_utc="2026-01-02T03:04:05Z", commands=[CommandStatus("main")])
        if field == "supervisor":
            status.supervisor = old
        if field == "command":
            status.commands[0].identity = old
        step = StepRef("1.1", "1. Part", ITEM, 1, "list.md")
        run_id = run_id_of(1, "1.1")
        made = write_run(
            workspace, run_id, step, [Command("main", ["true"], "true")], state=State.RUNNING, telemetry=False
        )
        write_json(made.folder / "status.json", status)
        if field == "processes":
            write_json(made.folder / "processes.json", ProcessRecord(1, old, [old]))
        wrong = []
        for command in commands:
            ended: Ended = run(lambda command=command: llmval(folder, *command))  # type: ignore[misc]
            if ended.has_traceback:
                wrong.append(f"{command[0]}: {ended.output.strip().splitlines()[-1]}")
        if stranger.poll() is not None:
            wrong.append("the stranger was signalled")
        run(lambda: llmval(folder, "status"))
        verdict = made.verdict()
        if verdict is None or verdict.outcome is not Outcome.INCONCLUSIVE:
            wrong.append(f"the run is {verdict.outcome if verdict else 'not judged'}")
        return wrong
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()
        shutil.rmtree(folder, ignore_errors=True)


def reused_pids(row: Row, every: int = 1) -> None:
    """Records with a pid that a stranger has now, or that are of another boot."""
    commands = ((("status",),), (("cancel",),), (("status",), ("cancel", run_id_of(1, "1.1")), ("status", "--json")))
    cases = [
        (f, c, n) for f in ("supervisor", "command", "processes") for c in ("start time", "boot") for n in commands
    ]
    for field, change, names in cases[::every]:
        row.add(Finding(f"{field}, {change}, {names}", _reused(field, change, names)))
