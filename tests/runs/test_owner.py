"""The process that owns a run: one at a time, none for a run that is over, one sentence if nothing can be recorded."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.runs.owner import own_run
from llmval_tui.runs.records import Command, Outcome, State, Status, StepRef
from llmval_tui.runs.store import Run
from tests.helpers.workspace import run_id_of, write_run, write_verdict

Make = Callable[[], Run]
SIGNALS = (signal.SIGHUP, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


class Fake:
    def __init__(self, run: Run, refuses: bool = False) -> None:
        self.status = run.status()
        self.stopped: list[int] = []
        self.supervised = False
        self._refuses = refuses

    def supervise(self) -> None:
        self.supervised = True
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        if self._refuses:
            raise Refused("the disk is full.")

    def ask_to_stop(self, number: int, _frame: object) -> None:
        self.stopped.append(number)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes runs that nobody has started: an owner of this process keeps their lock."""
    numbers = itertools.count(1)

    def made() -> Run:
        command = Command("main", ["true"], "true")
        step = StepRef("1.1", "1. A", "Run `true`", 1, "list.md")
        return write_run(tmp_path, run_id_of(next(numbers), "1.1"), step, [command], state=State.RUNNING)

    return made


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def owned(run: Run, refuses: bool = False) -> tuple[int, list[Fake]]:
    made: list[Fake] = []

    def owner_of(run: Run) -> Fake:
        made.append(Fake(run, refuses))
        return made[-1]

    return own_run([str(run.folder)], owner_of, "fake"), made


def test_a_signal_is_given_to_the_owner_and_a_lost_terminal_is_not(make: Make) -> None:
    code, (owner,) = owned(make())
    assert code == 0 and owner.supervised and owner.stopped == [signal.SIGTERM]


def test_a_second_owner_is_turned_away(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = make()
    lock = take_lock(run.supervisor_lock)
    assert lock is not None
    assert owned(run) == (2, []) and capsys.readouterr().err == f"{run.id} already has a fake\n"
    os.close(lock)


def test_a_run_that_is_over_is_left_alone(make: Make) -> None:
    finished, judged = make(), make()
    write_json(finished.folder / "status.json", Status(state=State.FINISHED))
    write_verdict(judged, Outcome.PASS)
    for run in (finished, judged):
        code, (owner,) = owned(run)
        assert code == 0 and not owner.supervised


def test_what_cannot_be_recorded_is_one_sentence(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert owned(make(), refuses=True)[0] == 2
    assert capsys.readouterr().err == "the disk is full.\n"
    damaged = make()
    (damaged.folder / "status.json").write_text("[]")
    assert owned(damaged)[0] == 2
    assert "status.json" in capsys.readouterr().err
