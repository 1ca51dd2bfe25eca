"""The engine: rank 0 decides each step and broadcasts its plan, and every rank executes it.

A step needs no host synchronisation. No decision depends on a sampled value: lengths are known, and tokens stay in the
executor's buffer on the device. So an executor with a `lag` of 1 starts a step before the previous step's tokens are on
the host.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.step_plan import IDLE, STEP, STOP, TRACE, StepPlan, head_size

KEEPALIVE_S = 1.0


class Executor(Protocol):
    """Runs plans on one rank: `cpu_executor.CpuExecutor` or `gpu.executor.GpuExecutor`."""

    lag: int  # how many steps later than its call a step's tokens arrive
    model: Decoder
    cache: PagedKVCache
    waiting_since: float | None  # monotonic, while a reader waits for a step's tokens

    def execute(self, plan: StepPlan) -> Iterable[int]:
        """Start a step; the sampled tokens: first the decodes', then those of the prompts that ended.

        Iterating may wait for the device.
        """


class PlanChannel:
    """Sends rank 0's plans to the other ranks, and executes each plan on this rank."""

    def __init__(self, executor: Executor, *, max_batch: int, trace: Callable[[bool], None] = lambda _: None) -> None:
        """`max_batch` must be equal on all ranks. `trace` starts (True) and ends (False) this rank's profile."""
        self.executor = executor
        self._trace = trace
        self._parallel = executor.model.parallel
        self._head = head_size(max_batch)

    def broadcast(self, plan: StepPlan) -> Iterable[int]:
        """Rank 0: send a plan and execute it here too; the sampled tokens."""
        if self._parallel.size > 1:
            wire, head = plan.encode(), self._head
            self._parallel.broadcast_plan(F.pad(wire[:head], (0, head - len(wire[:head]))))
            if len(wire) > head:
                self._parallel.broadcast_plan(wire[head:])
        return self._execute(plan)

    def receive(self) -> StepPlan:
        """Other ranks: receive the next plan and execute it. Idle and stop plans have nothing to execute."""
        wire = self._parallel.broadcast_plan(torch.empty(self._head, dtype=torch.int64))
        if (missing := int(wire[0]) - self._head) > 0:
            wire = torch.cat((wire, self._parallel.broadcast_plan(torch.empty(missing, dtype=torch.int64))))
        plan = StepPlan.decode(wire)
        self._execute(plan)
        return plan

    def _execute(self, plan: StepPlan) -> Iterable[int]:
        if plan.kind == TRACE:
            self._trace(bool(plan.code))
        return self.executor.execute(plan) if plan.kind == STEP else []


class Engine:
    """Rank 0's loop body. Call `submit` from any thread, everything else from one thread."""

    def __init__(self, channel: PlanChannel, scheduler: Scheduler) -> None:
        self.channel, self.scheduler = channel, scheduler
        self.wake = threading.Event()
        self._inbox: deque[Request] = deque()
        # For each started step: its tokens, and the requests that they belong to.
        self._in_flight: deque[tuple[Iterable[int], list[tuple[Request, bool]]]] = deque()

    def submit(self, request: Request) -> None:
        """Hand over a request. Its dispatch time is the time of this call."""
        self._inbox.append(request)
        self.wake.set()

    @property
    def idle(self) -> bool:
        return not self._inbox and self.scheduler.idle and not self._in_flight

    @property
    def queued(self) -> int:
        return len(self._inbox) + len(self.scheduler.waiting)

    def drop_waiting(self) -> None:
        """Drop the requests that no step has begun; running ones continue. Do not submit meanwhile."""
        self._inbox.clear()
        self.scheduler.waiting.clear()

    def step(self) -> list[tuple[Request, int, bool]]:
        """Start one step; without work, wait for a request for up to a second.

        Returns:
            (request, token, whether the request ended) for each token that is now on the host: the tokens of this step,
            or of the previous one if the executor lags.

        Raises:
            RankLost: another rank ended.
        """
        self.wake.clear()
        while self._inbox:
            self.scheduler.add(self._inbox.popleft())
        plan = self.scheduler.next_plan()
        if plan is None:
            if self._in_flight:
                return self._collect()
            if not self.wake.wait(KEEPALIVE_S):
                self.keep_alive()
            return []
        tokens = self.channel.broadcast(plan)
        self._in_flight.append((tokens, self.scheduler.complete(plan)))
        return self._collect() if len(self._in_flight) > self.channel.executor.lag else []

    def _collect(self) -> list[tuple[Request, int, bool]]:
        tokens, sampled = self._in_flight.popleft()
        return [(request, token, ended) for token, (request, ended) in zip(tokens, sampled, strict=True)]

    def keep_alive(self) -> None:
        """Send a plan without work: it shows a dead rank, and keeps the other ranks from timing out."""
        self.channel.broadcast(StepPlan(kind=IDLE))

    def trace(self, on: bool) -> None:
        """Start or end the profile on every rank."""
        self.channel.broadcast(StepPlan(kind=TRACE, code=int(on)))

    def end(self, code: int) -> None:
        """Tell the other ranks to end with exit code `code`."""
        self.channel.broadcast(StepPlan(kind=STOP, code=code))
