"""The open-loop window and its generator: who is late, who waits, when a token counts as there, and how it ends.

All in virtual time, whose steps and gaps are binary fractions: every time below is exact, not near.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from llmval_runners.engine import parallel, scheduler
from llmval_runners.engine.engine import Engine, PlanChannel
from llmval_runners.engine.request import Request
from llmval_runners.engine.step_plan import IDLE, STEP, StepPlan
from llmval_runners.load_test import generator as loadgen
from llmval_runners.load_test import metrics
from llmval_runners.load_test.generator import Arrival, Load, LoadGenerator
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.options import parse
from llmval_runners.load_test.session import LoadTest
from llmval_runners.load_test.window import MeasurementWindow
from llmval_runners.process.events import EventLog
from llmval_runners.process.placement import Placement

from tests.helpers.runners.virtual_time import Clock

STEP_S = 0.5
GAP_S = 0.125  # far below a step: the engine is always busy when a request is due


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loadgen, "time", made)
    monkeypatch.setattr(loadgen, "threading", made)
    return made


@pytest.fixture
def slow_engine(make_engine: Callable[..., Engine], clock: Clock) -> Callable[..., Engine]:
    """A step that gives tokens takes half a second, and the engine waits for work on the same clock."""

    def make(**sizes: int) -> Engine:
        engine = make_engine(**sizes)
        step = engine.step

        def timed() -> list[tuple[Request, int, bool]]:
            found = step()
            clock.sleep(STEP_S if found else 0)
            return found

        setattr(engine, "step", timed)  # noqa: B010  (mypy: a method)
        setattr(engine, "wake", clock.Event())  # noqa: B010
        return engine

    return make


def load(count: int, gap: float = GAP_S, output: int = 3) -> Load:
    return Load([Arrival(i, i * gap, 5, output) for i in range(count)], [], 1 / gap, count * gap, 0)


def window(
    engine: Engine, offered: Load, drain: float = 1000, cap: int | None = None, events: EventLog | None = None
) -> MeasurementWindow:
    return MeasurementWindow(
        engine, offered, events or EventLog(1), lambda engine: engine.step(), vocab=100, drain_timeout_s=drain,
        max_in_flight=cap,
    )  # fmt: skip


def dispatched(requests: list[Request]) -> list[float | None]:
    return [request.dispatch_s for request in requests]


def test_requests_go_out_when_due_however_slow_the_answers_are(slow_engine) -> None:
    """Five are due within the first step alone. A token's time is the end of the step that gave it."""
    measured = window(slow_engine(), load(8))
    measured.measure()
    assert dispatched(measured.sent) == [arrival.intended_s for arrival in measured.load.arrivals]
    assert [list(request.token_times) for request in measured.sent] == [
        [0.5, 1.0, 1.5], *[[1.0, 1.5, 2.0]] * 4, *[[1.5, 2.0, 2.5]] * 3,
    ]  # fmt: skip
    assert (measured.now, measured.measured().duration_s) == (2.5, 2.5)


@pytest.mark.parametrize(
    ("cap", "sent"), [(1, [0, 1.5, 3, 4.5, 6]), (2, [0, 0.125, 1.5, 2, 3]), (5, [0, 0.125, 0.25, 0.375, 0.5])]
)
def test_with_a_cap_the_wait_for_a_place_shows_as_lateness(slow_engine, cap: int, sent: list[float]) -> None:
    """The next goes out when the step that ended an earlier one is over; none is lost."""
    measured = window(slow_engine(), load(5), cap=cap)
    measured.measure()
    assert dispatched(measured.sent) == sent
    assert metrics.peaks(measured.sent)[1] == cap
    assert [request.intended_s for request in measured.sent] == [index * GAP_S for index in range(5)]
    assert all(request.done for request in measured.sent)


def test_a_late_request_is_told_as_late_and_does_not_shift_those_after_it(clock: Clock) -> None:
    """What makes it late is here a `submit` of a second; on a real node it is whoever has the cores."""
    got: list[tuple[int, float]] = []

    def submit(request: Request) -> None:
        got.append((request.index, generator.now()))
        clock.sleep(1.0 if request.index == 2 else 0.0)

    generator = LoadGenerator(load(10, 0.25).arrivals, submit, seed=0, vocab=100)
    generator.start()
    clock.wait(generator.finished.is_set)
    expected = [0, 0.25, 0.5, 1.5, 1.5, 1.5, 1.5, 1.75, 2.0, 2.25]
    assert got == list(enumerate(expected))
    assert dispatched(generator.sent) == expected


@pytest.mark.parametrize("cap", [None, 2])
def test_a_generator_that_is_stopped_sends_nothing_more(clock: Clock, cap: int | None) -> None:
    """Whether it waits for a deadline or, with a cap, for a place."""
    got: list[Request] = []
    generator = LoadGenerator(load(9, 1.0).arrivals, got.append, seed=0, vocab=100, max_in_flight=cap)
    generator.start()
    clock.sleep(3.5)
    generator.stop()
    clock.sleep(60)
    assert [request.index for request in got] == [0, 1, 2, 3][:cap]
    assert not generator._thread.is_alive() and not generator.finished.is_set()


def test_the_drain_ends_in_time_and_the_next_window_finds_an_idle_engine(slow_engine) -> None:
    """Pages for one request: three wait. The one that runs is finished unmeasured, those that wait are forgotten."""
    engine, served = slow_engine(pages=6), set[int]()

    def step(engine: Engine) -> list[tuple[Request, int, bool]]:
        tokens = engine.step()
        served.update(request.index for request, *_ in tokens)
        return tokens

    measured = window(engine, load(4, output=40), drain=2.0)
    measured.measure()
    assert measured.now == 3.0, "the first step that ends more than 2 s after the 0.5 s of the load"
    assert [len(request.token_times) for request in measured.sent] == [6, 0, 0, 0]
    assert all(request.error == "not finished 2.5 s after the window closed" for request in measured.sent)
    measured._step = step
    measured.drain()
    assert engine.idle and engine.scheduler.allocator.used == 0
    assert served == {0}
    assert len(measured.sent[0].token_times) == 6


@pytest.mark.parametrize(("misses", "ended"), [(0, 4.5), (1, 8.0), (2, 12.0), (4, 16.0), (None, 16.0)])
def test_with_a_service_level_the_drain_ends_as_soon_as_the_verdict_is_known(
    slow_engine, tmp_path: Path, misses: int | None, ended: float
) -> None:
    """One row: each of four requests takes 4 s, and each misses. The load lasts 4 s, and never ends before its end."""
    events = tmp_path / "events"
    measured = window(slow_engine(max_batch=1), load(4, 1.0, output=8), events=EventLog(0, path=str(events)))
    if misses is None:
        measured.measure()
    else:
        measured.measure(Slo(e2e_ms=1), misses)
    assert dispatched(measured.sent) == [0, 1, 2, 3], "all that is due is sent"
    assert measured.now == ended
    assert [request.done for request in measured.sent] == [4 * (index + 1) <= ended for index in range(4)]
    assert events.read_text().count('"name":"drain"') == 1


def test_nothing_of_the_warm_up_is_kept(slow_engine) -> None:
    engine, offered = slow_engine(), load(2)
    measured = window(engine, Load(offered.arrivals, load(3).arrivals, 8.0, 0.25, 0))
    measured.warm_up()
    assert (measured.sent, measured.now, engine.idle) == ([], 0.0, True)
    measured.measure()
    assert [list(request.token_times) for request in measured.sent] == [[0.5, 1.0, 1.5], [1.0, 1.5, 2.0]]


def test_a_load_tests_cap_and_drain_timeout_are_those_of_its_window(slow_engine) -> None:
    flags = ["--model", "tiny", "--device", "cpu", "--duration", "9", "--max-in-flight", "1", "--drain-timeout", "2"]
    test = LoadTest(parse(flags), EventLog(1), Placement())
    measured = test._window(slow_engine(), load(4, output=40))
    measured.measure()
    assert (dispatched(measured.sent), measured.now) == ([0], 3.0)


def test_followers_hear_of_rank_0_all_the_time_however_long_nobody_asks_for_anything(slow_engine, clock: Clock) -> None:
    """Their collective would time out; and rank 0 hears so of a rank that is gone. An idle plan executes nothing."""
    heard: list[float] = []
    wires: list[torch.Tensor] = []

    def broadcast(wire: torch.Tensor) -> None:
        heard.append(clock.ns / 1e9)
        wires.append(wire)

    engine = slow_engine()
    engine.channel._parallel = SimpleNamespace(size=2, broadcast_plan=broadcast)
    silence = 3 * parallel.TIMEOUT.total_seconds()
    window(engine, load(2, silence, output=2)).measure()
    longest = max(later - earlier for earlier, later in pairwise(heard))
    assert longest < parallel.TIMEOUT.total_seconds() / 10
    plans = [StepPlan.decode(wire).kind for wire in wires]
    assert set(plans) == {STEP, IDLE} and plans.count(STEP) == 4

    ran: list[StepPlan] = []
    peer = SimpleNamespace(size=2, broadcast_plan=lambda empty: empty.copy_(wires.pop(0)))
    follower = PlanChannel(SimpleNamespace(model=SimpleNamespace(parallel=peer), execute=ran.append), max_batch=8)
    assert [follower.receive().kind for _ in plans] == plans
    assert len(ran) == 4


def test_the_wait_for_a_place_in_the_batch_is_recorded(slow_engine, clock: Clock, monkeypatch) -> None:
    """One row, two requests of 1.5 s: the second, 0.125 s later, waits until the first has left its row."""
    monkeypatch.setattr(scheduler, "time", clock)
    measured = window(slow_engine(max_batch=1), load(2))
    measured.measure()
    assert [one.admitted_ns - measured._generator.origin_ns for one in measured.sent] == [0, 1_500_000_000]
    queue = measured.measured().extras["queue"]
    assert queue["mean_wait_s"] == 1.375 / 2
    assert queue["most_running"] <= 1  # sampled with the metrics


def test_the_most_requests_with_a_place_in_the_batch_are_recorded(slow_engine) -> None:
    measured = window(slow_engine(max_batch=2), load(6))
    measured.measure()
    queue = measured.measured().extras["queue"]
    assert queue["most_running"] == 2 and 1 <= queue["most_waiting"] <= 5


def test_without_an_answer_the_wait_is_not_known(slow_engine) -> None:
    measured = window(slow_engine(), load(1, output=40), drain=0.25)
    measured.measure()
    assert measured.measured().extras["queue"]["mean_wait_s"] is None
