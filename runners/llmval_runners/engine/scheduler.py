"""Continuous batching on rank 0: which sequences run or wait, and what the next step does.

Each step decodes one token of every running sequence, and adds prompt chunks up to a fixed number of tokens, first
come, first served (as Sarathi-Serve, arXiv:2403.02310). So a long prompt delays the other sequences' next tokens by no
more than one chunk.
"""

import time
from collections import deque
from dataclasses import dataclass

from llmval_runners.engine.kv_cache import PageAllocator, refuse_longer
from llmval_runners.engine.request import Request
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan


@dataclass(slots=True, eq=False)
class _Sequence:
    request: Request
    row: int
    pages: list[int]
    position: int = 0  # tokens in the cache
    produced: int = 0


class Scheduler:
    """A sequence gets its row and pages at admission and keeps them to its end. No decision needs a token's value."""

    def __init__(
        self, shape: ModelShape, allocator: PageAllocator, *, max_batch: int, chunk: int, element_bytes: int
    ) -> None:
        self.allocator = allocator
        self.waiting: deque[Request] = deque()
        self._shape, self._element_bytes = shape, element_bytes
        self._chunk = chunk
        self._rows = list(range(max_batch - 1, -1, -1))
        self._refill = max(1, max_batch // 32)
        self._prefilling: deque[_Sequence] = deque()
        self._decoding: dict[int, _Sequence] = {}  # by row, in the order of their first tokens

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            CacheTooSmall: it could never be admitted; the message states the bytes that it would need.
        """
        refuse_longer(request.context, self._shape, self._element_bytes, self.allocator.pages, self.allocator.page_size)
        self.waiting.append(request)

    def next_plan(self) -> StepPlan | None:
        """Decide the next step; None if nothing waits or runs. Call `complete` with it before the next call."""
        admits = self._admit()
        decodes = [Decode(row, sequence.position) for row, sequence in self._decoding.items()]
        prefills: list[Prefill] = []
        budget = self._chunk
        for sequence in self._prefilling:
            if budget == 0:
                break
            prompt = sequence.request.prompt
            tokens = prompt[sequence.position : sequence.position + budget]
            prefills.append(
                Prefill(sequence.row, sequence.position, tokens, sequence.position + len(tokens) == len(prompt))
            )
            budget -= len(tokens)
        return StepPlan(admits=admits, decodes=decodes, prefills=prefills) if decodes or prefills else None

    def complete(self, plan: StepPlan) -> list[tuple[Request, bool]]:
        """Account for a step: (request, whether it ended) for each sampled token, in the order of the samples."""
        sampled = []
        for decode in plan.decodes:
            sequence = self._decoding[decode.row]
            sequence.position += 1
            sampled.append(self._add_token(sequence))
        for prefill in plan.prefills:
            sequence = self._prefilling[0]  # first come, first served: only the newest chunk can be unfinished
            sequence.position += len(prefill.tokens)
            if prefill.last:
                self._prefilling.popleft()
                self._decoding[sequence.row] = sequence
                sampled.append(self._add_token(sequence))
        return sampled

    def _add_token(self, sequence: _Sequence) -> tuple[Request, bool]:
        sequence.produced += 1
        ended = sequence.produced == sequence.request.output_tokens
        if ended:
            del self._decoding[sequence.row]
            self._rows.append(sequence.row)
            self.allocator.release(sequence.pages)
        return sequence.request, ended

    def _admit(self) -> list[Admit]:
        admits: list[Admit] = []
        # A full batch with a queue refills several rows at a time: each prompt step costs a pass over all weights, and
        # waiting a few steps adds little to the time in the queue.
        if self.running and len(self._rows) < self._refill and len(self.waiting) > len(self._rows):
            return admits
        while self.waiting and self._rows:
            pages = self.allocator.allocate(self.waiting[0].context)
            if pages is None:  # the first request waits for pages; no other overtakes it, or a long one would starve
                break
            request = self.waiting.popleft()
            request.admitted_ns = time.perf_counter_ns()
            sequence = _Sequence(request, self._rows.pop(), pages)
            self._prefilling.append(sequence)
            admits.append(Admit(sequence.row, pages))
        return admits
