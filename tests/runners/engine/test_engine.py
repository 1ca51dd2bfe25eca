"""Paging, chunking and batching change when a token arrives, but never which token."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llmval_runners.engine.engine import Engine, PlanChannel
from llmval_runners.engine.kv_cache import CacheTooSmall, PageAllocator
from llmval_runners.engine.request import Request
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan, head_size

MakeEngine = Callable[..., Engine]


def run(engine: Engine, requests: list[Request], arrivals: list[int] | None = None) -> list[list[int]]:
    """Submit each request before its step in `arrivals`; returns the tokens of each request."""
    arrivals = arrivals or [0] * len(requests)
    step, waiting = 0, sorted(zip(arrivals, requests, strict=True), key=lambda item: item[0])
    while waiting or not engine.idle:
        while waiting and (waiting[0][0] <= step or engine.idle):
            engine.submit(waiting.pop(0)[1])
        for request, token, ended in engine.step():
            request.tokens.append(token)
            assert ended == (len(request.tokens) == request.output_tokens)
        step += 1
    return [request.tokens for request in requests]


def requests(sizes: list[tuple[int, int]]) -> list[Request]:
    source = torch.Generator().manual_seed(9)
    return [
        Request(index, torch.randint(2048, (prompt,), generator=source).tolist(), output)
        for index, (prompt, output) in enumerate(sizes)
    ]


SIZES = [
    (1, 9),
    (8, 8),
    (7, 3),
    (9, 1),
    (50, 12),
    (24, 5),
    (25, 2),
    (16, 17),
]  # with pages of 8 and chunks of 24: at, below and above each


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_batching_paging_and_chunking_keep_every_token(make_engine: MakeEngine, backend: str) -> None:
    alone = [run(make_engine("sdpa", chunk=64, page_size=64, pages=2), [request])[0] for request in requests(SIZES)]
    together = make_engine(backend)
    assert run(together, requests(SIZES), [0, 0, 1, 2, 2, 5, 6, 9]) == alone
    assert together.scheduler.allocator.used == 0
    cramped = make_engine(backend, pages=9, max_batch=3)  # requests wait for rows and for pages
    assert run(cramped, requests(SIZES)) == alone


def test_a_full_cache_serves_a_request_that_just_fits(make_engine: MakeEngine) -> None:
    engine = make_engine(pages=4, page_size=8)
    assert len(run(engine, requests([(20, 13)]))[0]) == 13  # 32 tokens of context, 32 slots


def test_a_request_longer_than_the_cache_is_refused_with_its_bytes(make_engine: MakeEngine) -> None:
    engine = make_engine(pages=4, page_size=8)
    engine.submit(requests([(21, 13)])[0])  # 33 tokens: 5 pages · 8 · 2 · 2 layers · 4 heads · 16 · 4 bytes
    with pytest.raises(CacheTooSmall, match="40,960 bytes"):
        engine.step()


def test_a_long_prompt_does_not_stop_the_others_decoding(make_engine: MakeEngine) -> None:
    engine = make_engine(chunk=8)
    short, long = requests([(4, 12), (64, 1)])
    engine.submit(short)
    engine.step()
    engine.submit(long)
    steps = [engine.step() for _ in range(8)]
    assert all(step[0][0] is short for step in steps)
    assert [request for step in steps for request, *_ in step].index(long) == 8


def test_no_step_exceeds_the_chunk(make_engine: MakeEngine) -> None:
    scheduler = make_engine(chunk=24, max_batch=8, pages=32).scheduler
    for request in requests([(40, 3), (9, 3), (30, 3), (24, 3), (1, 3)]):
        scheduler.add(request)
    sizes = []
    while (plan := scheduler.next_plan()) is not None:
        sizes.append(sum(len(prefill.tokens) for prefill in plan.prefills))
        scheduler.complete(plan)
    assert sizes[:5] == [24, 24, 24, 24, 8]  # full while prompts are left


def test_a_full_batch_refills_several_rows_at_once(make_engine: MakeEngine) -> None:
    """If there is a queue, rows that become free one by one wait for each other. An idle engine never waits."""
    engine = make_engine(max_batch=64, pages=640, chunk=512)
    served = requests([(3, 2 + index % 60) for index in range(150)])
    for request in served:
        engine.submit(request)
    admitted = []
    while not engine.idle:
        before = len(engine.scheduler.waiting) or len(engine._inbox)
        queue = bool(before) and engine.scheduler.running > 0
        engine.step()
        if queue and (taken := before - len(engine.scheduler.waiting)):
            admitted.append(taken)
    assert len(admitted) > 5 and min(admitted[:-1]) >= 2  # the last of the queue may be one
    assert engine.scheduler.allocator.used == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    admits=st.lists(st.tuples(st.integers(0, 7), st.lists(st.integers(0, 30), max_size=4)), max_size=3),
    decodes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 999)), max_size=8),
    prefills=st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 99), st.lists(st.integers(0, 2047), max_size=8), st.booleans()),
        max_size=3,
    ),
    code=st.integers(0, 255),
)
def test_a_plan_survives_encoding(admits, decodes, prefills, code) -> None:
    plan = StepPlan(
        0,
        [Admit(*item) for item in admits],
        [Decode(*item) for item in decodes],
        [Prefill(*item) for item in prefills],
        code,
    )
    wire = plan.encode()
    assert wire[0] == len(wire)
    assert StepPlan.decode(wire) == StepPlan.decode(torch.cat((wire, torch.full((3,), 7)))) == plan


@pytest.mark.parametrize(("decodes", "admits", "rest"), [(8, [], 0), (7, [Admit(7, [3])], 1), (8, [Admit(8, [])], 2)])
def test_a_decode_step_is_one_broadcast_and_a_larger_plan_two(tiny, monkeypatch, decodes, admits, rest) -> None:
    """Another rank that receives rank 0's tensors in order decodes the same plan."""
    plan = StepPlan(admits=admits, decodes=[Decode(row, 5 + row) for row in range(decodes)])
    sent: list[torch.Tensor] = []
    executor: Any = SimpleNamespace(model=SimpleNamespace(parallel=tiny.parallel), execute=lambda plan: [plan])
    channel = PlanChannel(executor, max_batch=8)
    monkeypatch.setattr(tiny.parallel, "size", 2)
    monkeypatch.setattr(tiny.parallel, "broadcast_plan", sent.append)
    returned: list[Any] = list(channel.broadcast(plan))
    assert returned == [plan]
    assert [len(wire) for wire in sent] == [head_size(8), rest][: 1 + bool(rest)]
    monkeypatch.setattr(tiny.parallel, "broadcast_plan", lambda empty: empty.copy_(sent.pop(0)))
    assert channel.receive() == plan
    assert not sent


@given(st.lists(st.integers(1, 70), max_size=30), st.randoms(use_true_random=False))
def test_no_page_has_two_owners(sizes: list[int], source) -> None:
    allocator = PageAllocator(20, 8)
    allocated: list[list[int]] = []
    for size in sizes:
        if allocated and source.random() < 0.4:
            allocator.release(allocated.pop(source.randrange(len(allocated))))
        if (pages := allocator.allocate(size)) is not None:
            allocated.append(pages)
        owned = [page for pages in allocated for page in pages]
        assert len(owned) == len(set(owned)) == allocator.used
    if allocated:
        allocator.release(allocated[0])
        with pytest.raises(ValueError, match="twice"):
            allocator.release(allocated[0])
