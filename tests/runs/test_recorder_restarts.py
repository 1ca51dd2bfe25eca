"""The supervisor's recorder: started again later and later, and in the end left alone."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest

from llmval_tui.runs import run_recorder, supervisor
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.recorder_process import RESTART_DELAYS_S


class Clock:
    """`time` with a monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_recorder, "time", clock)
    return clock


def keep(owner: supervisor.Supervisor, clock: Clock, seconds: float) -> None:
    """What the supervisor's loop does for so long."""
    for _ in range(round(seconds / 0.2)):
        clock.now += 0.2
        owner._recorder.ensure()


def test_a_recorder_that_dies_is_started_later_and_later(
    make_run: Callable[..., Run], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[float] = []
    owner = supervisor.Supervisor(make_run("true", telemetry=True))

    def start() -> SimpleNamespace:
        starts.append(clock.now)
        return SimpleNamespace(poll=lambda: -11, returncode=-11)

    monkeypatch.setattr(owner._recorder, "_start", start)
    keep(owner, clock, 600)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert len(starts) == 1 + len(RESTART_DELAYS_S)
    for gap, pause in zip(gaps, RESTART_DELAYS_S, strict=True):
        assert pause <= gap < pause + 0.5
    assert "ended with code -11; it is started again in 1 s" in owner.status.notes[0]
    assert "it is not started again" in owner.status.notes[-1]
    assert len(owner.status.notes) == len(starts)


def test_a_recorder_that_recorded_for_long_begins_anew(
    make_run: Callable[..., Run], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[float] = []
    owner = supervisor.Supervisor(make_run("true", telemetry=True))

    def start() -> SimpleNamespace:
        began.append(clock.now)
        return SimpleNamespace(poll=lambda: -11 if clock.now > began[-1] + 100 else None, returncode=-11)

    monkeypatch.setattr(owner._recorder, "_start", start)
    keep(owner, clock, 1500)
    assert len(began) > 10
    assert all("again in 1 s" in note for note in owner.status.notes)


def test_one_that_cannot_be_started_is_tried_again_as_late(
    make_run: Callable[..., Run], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    owner = supervisor.Supervisor(make_run("true", telemetry=True))

    def start() -> None:
        tried.append(clock.now)
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(owner._recorder, "_start", start)
    keep(owner, clock, 20)
    assert len(tried) == 5  # at 0, 1, 3, 8 and 18 s
    assert all("could not be started" in note for note in owner.status.notes)


@pytest.mark.parametrize(("good", "late"), [(2, False), (9, True)])
def test_the_command_waits_for_the_recorder_after_a_killed_one(
    good: int, late: bool, make_run: Callable[..., Run], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a command of one second whose recorder was killed has no telemetry, and is inconclusive."""
    owner = supervisor.Supervisor(make_run("true", telemetry=True))
    starts: list[float] = []

    def start() -> SimpleNamespace:
        starts.append(clock.now)
        if len(starts) < good:
            return SimpleNamespace(poll=lambda: -9, returncode=-9)
        owner.run.telemetry.write_bytes(b"{}\n")
        return SimpleNamespace(poll=lambda: None)

    monkeypatch.setattr(owner._recorder, "_start", start)
    began = clock.now
    owner._recorder.wait_for_first_sample()
    assert clock.now - began <= run_recorder.FIRST_SAMPLE_S + 0.1
    assert any("no telemetry sample came within 5 s" in note for note in owner.status.notes) is late
    assert len(starts) >= 2
