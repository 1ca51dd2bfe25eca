"""When the load test traces itself, and the ranges in a trace."""

from pathlib import Path

import pytest
import torch
from llmval_runners.engine.step_plan import TRACE, StepPlan
from llmval_runners.load_test.options import ProfileOptions
from llmval_runners.load_test.profiler import MOST_STEPS, Profiler
from llmval_runners.measure import profiler_ranges as ranges
from llmval_runners.process.errors import Refused


def profiler_of(kind: str = "torch", seconds: float | None = None, output: Path | None = Path("t.json.gz")) -> Profiler:
    return Profiler(ProfileOptions(kind, seconds, output), 10.0, torch.device("cpu"), 0)


def test_the_traced_part_is_the_end_of_the_window() -> None:
    profiler = profiler_of()
    moments = [(now, profiler.due(now, True)) for now in (0.0, 6.9, 7.0, 8.0, 10.0, 11.0)]
    assert [now for now, due in moments if due is True] == [7.0]
    assert [now for now, due in moments if due is False] == [10.0]
    assert profiler.record is not None
    assert (profiler.record["seconds"], profiler.record["steps"]) == (3.0, 2)
    assert profiler.cut(12.0) is None
    assert profiler_of(kind="none").due(9.0, True) is None


def test_a_trace_is_bounded_in_steps_and_ends_with_the_load() -> None:
    profiler = profiler_of(seconds=10.0)
    due = [profiler.due(0.001 * step, True) for step in range(MOST_STEPS + 5)]
    assert due.index(False) == MOST_STEPS
    assert profiler.record is not None
    assert str(MOST_STEPS) in profiler.record["ended_by"]
    short = profiler_of(seconds=10.0)
    assert short.due(1.0, True) is True
    assert short.cut(4.0) is False
    assert short.record is not None
    assert short.record["seconds"] == 3.0


def test_refusals_of_the_load_tests_own_flags() -> None:
    with pytest.raises(Refused, match="--profile torch"):
        profiler_of(kind="nsys")
    with pytest.raises(Refused, match=r"NAME\.json\.gz"):
        profiler_of(output=None)


def test_ranges_cost_nothing_unless_they_are_on() -> None:
    assert ranges.mark("a") is ranges.mark("b")
    opened: list[str] = []

    class Opened:
        def __init__(self, name: str) -> None:
            opened.append(name)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    ranges.use(Opened)
    try:
        with ranges.mark(ranges.step_name(decodes=True, prefills=False)):
            pass
    finally:
        ranges.use(None)
    assert opened == ["decode step"]
    assert ranges.step_name(decodes=True, prefills=True) == ranges.MIXED
    assert ranges.step_name(decodes=False, prefills=True) == ranges.PREFILL


def test_every_rank_receives_when_to_trace() -> None:
    plan = StepPlan.decode(StepPlan(kind=TRACE, code=1).encode())
    assert (plan.kind, plan.code) == (TRACE, 1)
