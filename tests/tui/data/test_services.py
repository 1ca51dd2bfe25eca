"""The lines of servers in the snapshot: starting, serving, dead, and gone with their plan."""

import os
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.foundation.files import take_lock
from llmval_tui.foundation.process import Identity
from llmval_tui.runs.records import Command, CommandStatus, ServerSpec, ServerStatus, State, StepRef
from llmval_tui.tui.data.services import service_lines
from tests.helpers.workspace import run_id_of, write_run

STEP = StepRef("2.1", "2. Serve", "Start", 1, "list.md")
SPEC = ServerSpec("http://127.0.0.1:8300", 60.0)
HERE = Identity.of(os.getpid())


def line(folder: Path, server: ServerStatus, *, alive: bool, plan_id: str | None = "plan") -> list[tuple[str, str]]:
    command = CommandStatus("main", HERE, ended_utc=None if alive else "2026-01-02T03:05:00Z")
    status: dict[str, Any] = {"server": server, "commands": [command]}
    run = write_run(
        folder, run_id_of(1, "2.1"), STEP, [Command("main", ["serve"], "serve")], status=status, action="server",
        state=State.RUNNING if alive else State.FINISHED, plan_id="plan", server=SPEC,
    )  # fmt: skip
    lock = take_lock(run.supervisor_lock) if alive else None
    try:
        return [(one.text, one.role) for one in service_lines([run], plan_id)]
    finally:
        if lock is not None:
            os.close(lock)


@pytest.mark.parametrize(
    ("server", "alive", "expected"),
    [
        (ServerStatus(waits_for="/health (HTTP 503)"), True,
         ("server of 2.1: starting on http://127.0.0.1:8300, waits for /health (HTTP 503)", "busy")),
        (ServerStatus(ready_s=61.2, model="tiny"), True,
         ("server of 2.1: serving tiny, ready in 61 s, on http://127.0.0.1:8300", "good")),
        (ServerStatus(ready_s=61.2, stopped="the end of its section"), True,
         ("server of 2.1: ending by the end of its section", "busy")),
        (ServerStatus(problem="it ended before it was ready (exit 1): \x1b[31mno\x1b[0m"), False,
         ("server of 2.1: dead: it ended before it was ready (exit 1): no", "bad")),
        (ServerStatus(ready_s=61.2, stopped="item 2.4"), False, ("server of 2.1: ended by item 2.4", "muted")),
    ],
)  # fmt: skip
def test_a_server_has_a_line_while_its_plan_runs(
    tmp_path: Path, server: ServerStatus, alive: bool, expected: tuple[str, str]
) -> None:
    assert line(tmp_path, server, alive=alive) == [expected]


def test_a_dead_server_goes_with_its_plan_and_a_living_one_stays(tmp_path: Path) -> None:
    assert line(tmp_path / "dead", ServerStatus(problem="x"), alive=False, plan_id=None) == []
    assert len(line(tmp_path / "alive", ServerStatus(ready_s=1.0, model="m"), alive=True, plan_id=None)) == 1
