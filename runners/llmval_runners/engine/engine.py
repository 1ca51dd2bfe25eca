"""The engine: rank 0 decides each step and tells it in one small broadcast, and every rank executes it.

No host synchronisation a step: nothing that is decided depends on a sampled value (lengths are known, tokens stay in
the runner's buffer on the device), so a runner with a `lag` of 1 starts a step before the last one's tokens are there.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.reference import AttentionBackend, Span, StepLayout
from llmval_runners.engine.compiled import CompiledDecoder, CpuSteps
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.profiler_ranges import mark, step_name
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.step_plan import IDLE, STEP, STOP, TRACE, StepPlan, head_for

KEEPALIVE_S = 1.0


class Runner:
    """Executes plans on one rank, on a CPU: owns the page table, the last sampled tokens, and the random state."""

    lag = 0  # steps by which the tokens come later than the call that started them

    def __init__(
        self,
        model: Decoder,
        cache: PagedKVCache,
        attention: AttentionBackend,
        *,
        max_batch: int,
        max_pages: int,
        temperature: float = 0.0,
        seed: int = 0,
        compiled: CompiledDecoder | None = None,
    ) -> None:
        """`compiled`: the same model's layers, which then run in place of its own."""
        self.model, self.cache, self.attention, self.compiled = model, cache, attention, compiled
        self._steps = model if compiled is None else CpuSteps(compiled)
        self._device = model.embedding.device
        self._temperature = temperature
        # Each rank perturbs its own slice of the vocabulary, so each needs noise of its own.
        rank_seed = seed * 1024 + model.parallel.rank
        self._generator = torch.Generator(self._device).manual_seed(rank_seed) if temperature > 0 else None
        self._page_table = torch.zeros((max_batch, max_pages), dtype=torch.int64)
        self._last_token = torch.zeros(max_batch, dtype=torch.int64, device=self._device)

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> list[int]:
        """Run a step; the sampled tokens, decodes first, then the prompts that ended."""
        with mark(step_name(decodes=bool(plan.decodes), prefills=bool(plan.prefills))):
            hidden, rows, samples = self.forward(plan)
            if not samples:
                return []
            tokens = self.model.sample(hidden[samples], self._temperature, self._generator)
            self._last_token[rows] = tokens
            return tokens.tolist()

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> tuple[torch.Tensor, list[int], list[int]]:
        """Hidden states [tokens, hidden] of a step; the batch rows that it samples for, and their tokens' indices."""
        for admit in plan.admits:
            self._page_table[admit.row, : len(admit.pages)] = torch.tensor(admit.pages)
        spans, rows, samples, prompt = [], [], [], []
        for decode in plan.decodes:
            rows.append(decode.row)
            samples.append(len(spans))
            spans.append(Span(decode.row, len(spans), 1, decode.position))
        offset = len(spans)
        for prefill in plan.prefills:
            spans.append(Span(prefill.row, offset, len(prefill.tokens), prefill.start))
            offset += len(prefill.tokens)
            prompt += prefill.tokens
            if prefill.last:
                rows.append(prefill.row)
                samples.append(offset - 1)
        positions = torch.cat([torch.arange(span.start, span.start + span.count) for span in spans])
        token_rows = torch.repeat_interleave(
            torch.tensor([span.row for span in spans]), torch.tensor([span.count for span in spans])
        )
        size = self.cache.page_size
        slots = self._page_table[token_rows, positions // size] * size + positions % size
        positions, slots = positions.to(self._device), slots.to(self._device)
        decoding = self._last_token[rows[: len(plan.decodes)]]
        tokens = torch.cat((decoding, torch.tensor(prompt, dtype=torch.int64, device=self._device)))
        layout = StepLayout(spans, len(plan.decodes), positions, self._page_table.to(self._device))
        self.attention.begin(layout, self.cache)
        return self._steps.hidden(tokens, positions, slots, self.cache, self.attention), rows, samples


class Executor(Protocol):
    """One rank's way to run plans: `Runner` on a CPU, `gpu_runner.GpuRunner` on a GPU."""

    lag: int
    model: Decoder
    cache: PagedKVCache

    def execute(self, plan: StepPlan) -> Iterable[int]:
        """Start a step; the sampled tokens, decodes first, then the prompts that ended: iterating may wait for them."""


class Link:
    """Rank 0's plans to the other ranks."""

    def __init__(self, runner: Executor, *, max_batch: int, trace: Callable[[bool], None] = lambda _: None) -> None:
        """`max_batch` must be the same on all ranks. `trace` starts (True) and ends this rank's part of a profile."""
        self.runner = runner
        self._trace = trace
        self._parallel = runner.model.parallel
        self._head = head_for(max_batch)

    def lead(self, plan: StepPlan) -> Iterable[int]:
        """Send a plan and execute it here too; the sampled tokens."""
        if self._parallel.size > 1:
            wire, head = plan.encode(), self._head
            self._parallel.broadcast_plan(F.pad(wire[:head], (0, head - len(wire[:head]))))
            if len(wire) > head:
                self._parallel.broadcast_plan(wire[head:])
        return self._act(plan)

    def receive(self) -> StepPlan:
        """The next plan, executed already; an idle or a stop plan has nothing to execute."""
        wire = self._parallel.broadcast_plan(torch.empty(self._head, dtype=torch.int64))
        if (missing := int(wire[0]) - self._head) > 0:
            wire = torch.cat((wire, self._parallel.broadcast_plan(torch.empty(missing, dtype=torch.int64))))
        plan = StepPlan.decode(wire)
        self._act(plan)
        return plan

    def _act(self, plan: StepPlan) -> Iterable[int]:
        if plan.kind == TRACE:
            self._trace(bool(plan.code))
        return self.runner.execute(plan) if plan.kind == STEP else []


class Engine:
    """Rank 0's loop body. `submit` may be called from any thread, the rest from one."""

    def __init__(self, link: Link, scheduler: Scheduler) -> None:
        self.link, self.scheduler = link, scheduler
        self.wake = threading.Event()
        self._inbox: deque[Request] = deque()
        self._under_way: deque[tuple[Iterable[int], list[tuple[Request, bool]]]] = deque()

    def submit(self, request: Request) -> None:
        """Hand over a request; it is dispatched from here on."""
        self._inbox.append(request)
        self.wake.set()

    @property
    def idle(self) -> bool:
        return not self._inbox and self.scheduler.idle and not self._under_way

    @property
    def queued(self) -> int:
        return len(self._inbox) + len(self.scheduler.waiting)

    def forget_waiting(self) -> None:
        """Drop the requests that no step has begun; what runs goes on. Not while anybody submits."""
        self._inbox.clear()
        self.scheduler.waiting.clear()

    def step(self) -> list[tuple[Request, int, bool]]:
        """Start one step, or wait for work, at most a second.

        Returns (request, token, whether it ended) of each token whose value is on the host now: those of this step, or,
        where the runner lags, of the one before.

        Raises:
            RankLost: another rank ended.
        """
        self.wake.clear()
        while self._inbox:
            self.scheduler.add(self._inbox.popleft())
        plan = self.scheduler.next_plan()
        if plan is None:
            if self._under_way:
                return self._arrived()
            if not self.wake.wait(KEEPALIVE_S):
                self.link.lead(StepPlan(kind=IDLE))  # notices a dead rank, and keeps the others from timing out
            return []
        tokens = self.link.lead(plan)
        self._under_way.append((tokens, self.scheduler.complete(plan)))
        return self._arrived() if len(self._under_way) > self.link.runner.lag else []

    def _arrived(self) -> list[tuple[Request, int, bool]]:
        tokens, sampled = self._under_way.popleft()
        return [(request, token, ended) for token, (request, ended) in zip(tokens, sampled, strict=True)]

    def trace(self, on: bool) -> None:
        """Tell every rank to start or end its part of a profile."""
        self.link.lead(StepPlan(kind=TRACE, code=int(on)))

    def end(self, code: int) -> None:
        """Tell the other ranks to end with exit code `code`."""
        self.link.lead(StepPlan(kind=STOP, code=code))
