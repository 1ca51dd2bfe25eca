"""Runs made from plain shell commands, so that the life of a run is tested with real processes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import client
from llmval_tui.runs.create import create_run, new_run_id
from llmval_tui.runs.records import Command, Intent, StepRef
from llmval_tui.runs.store import Run, RunStore

MakeRun = Callable[..., Run]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def make_run(store: RunStore) -> Iterator[MakeRun]:
    """`make_run(script, …)`: a run of one bash script a command; what is left of it at the end is stopped.

    A script may also be a `Command`; `settings` are fields of all the others. `servers` are the ids of runs that it
    rests on.
    """
    made: list[Run] = []

    def make(*scripts: str | Command, telemetry: bool = False, servers: Sequence[str] = (), **settings: Any) -> Run:
        commands = [
            script if isinstance(script, Command) else Command(f"c{number}", ["bash", "-c", script], script, **settings)
            for number, script in enumerate(scripts)
        ]
        step = StepRef("1.1", "1. Section", "text", 1, "list.md")
        intent = Intent(
            1, new_run_id("1.1"), "command", step, commands, str(store.workspace), utc_iso(), telemetry=telemetry,
            servers=list(servers),
        )  # fmt: skip
        made.append(create_run(store, intent))
        return made[-1]

    yield make
    for run in made:
        if client.request_cancel(run, "end of test"):
            client.wait(run, 180)
