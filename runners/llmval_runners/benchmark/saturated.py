"""The saturated row: scheduler and engine with a queue that is never empty, compared with the engine's own figures."""

import random
import time
from dataclasses import dataclass, field
from typing import Any

from llmval_runners.benchmark.bench import STEPS, Bench
from llmval_runners.engine.engine import Engine
from llmval_runners.engine.kv_cache import PageAllocator
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.step_plan import STOP

PREFILL_STEPS = 8  # of the prefill measurement for the comparison
_NOT_RANK_0 = 2**40  # above any value of rank 0, so that the minimum over the ranks is rank 0's value


@dataclass(slots=True)
class SaturatedWindow:
    """The tokens of the window that opens when all rows are in use and closes when no request waits any more."""

    batch: int
    opened_s: float = 0.0
    closed_s: float = 0.0
    first: int = 0  # tokens sampled by the last chunk of a prompt
    decoded: int = 0  # tokens sampled by decode steps
    prompt: int = 0  # tokens of the prompts that have a first token
    context: int = 0  # sum of the context lengths of the decoded tokens
    seen: dict[int, int] = field(default_factory=dict)  # tokens of each request, by its index

    def step(self, tokens: list[Request], now: float, waiting: bool) -> None:
        """Count the tokens of a step that ended at `now`. `tokens`: their requests. `waiting`: other requests wait."""
        for request in tokens:
            before = self.seen.get(request.index, 0)
            self.seen[request.index] = before + 1
            if self.opened_s and waiting:
                if before:
                    self.decoded += 1
                    self.context += len(request.prompt) + before
                else:
                    self.first += 1
                    self.prompt += len(request.prompt)
        if not self.opened_s and len(self.seen) >= self.batch:
            self.opened_s = now
        if waiting:
            self.closed_s = now

    @property
    def seconds(self) -> float:
        return self.closed_s - self.opened_s


def requests(bench: Bench) -> list[Request]:
    """Requests with prompts of `short` ± 50 % tokens and outputs of `output` ± 50 % tokens."""
    sizes, source = bench.sizes, random.Random(bench.seed)
    made = []
    for index in range(sizes.requests):
        prompt, output = (source.randint(size // 2, size + size // 2) for size in (sizes.short, sizes.output))
        made.append(Request(index, source.choices(range(bench.shape.vocab), k=prompt), output))
    return made


def saturated(bench: Bench) -> dict[str, Any]:
    """Serve more requests than fit at once, and measure tokens/s while all rows are in use and others wait.

    `modelled` is the rate for the same tokens by the engine's own figures. A decoded token costs its share of a full
    decode step at the window's mean context. A prompt costs its share of a full prefill step, which also gives its
    first token. A step with both reads the weights only once, so `of_modelled` can be a little above 1.
    """
    sizes, batch = bench.sizes, max(bench.sizes.batches)
    # Several steps in a row: a single one ends before the power limit lowers the clocks.
    prompts = min(batch, max(1, PREFILL_STEPS * sizes.chunk // sizes.short))
    prefill = bench.prefill(prompts, sizes.short)["tokens_per_s"]
    window = SaturatedWindow(batch)
    if bench.parallel.rank == 0:
        _lead(bench, window)
        if not window.seconds > 0 or not window.decoded:
            raise ValueError(f"{sizes.requests} requests are too few to keep {batch} rows full")
        mean = round(window.context / window.decoded)
    else:
        while bench.channel.receive().kind != STOP:
            pass
        mean = _NOT_RANK_0
    context = max(STEPS // 2 + 1, bench.parallel.min_over_ranks(mean))
    step = bench.decode(batch, context)["value"] / 1e3
    if bench.parallel.rank != 0:
        return {}
    tokens = window.first + window.decoded
    rate = tokens / window.seconds
    modelled = tokens / (window.decoded * step / batch + window.prompt / prefill)
    return bench.row(
        "saturated", rate, "tokens/s", batch=batch, context=context, tokens_per_s=rate, modelled=modelled,
        of_modelled=rate / modelled, window_s=window.seconds, output_tokens=tokens, prompt_tokens=window.prompt,
        decode_step_ms=step * 1e3, prefill_tokens_per_s=prefill,
    )  # fmt: skip


def _lead(bench: Bench, window: SaturatedWindow) -> None:
    cache = bench.runner.cache
    scheduler = Scheduler(
        bench.shape, PageAllocator(cache.pages, cache.page_size), max_batch=window.batch, chunk=bench.sizes.chunk,
        element_bytes=cache.dtype.itemsize,
    )  # fmt: skip
    engine = Engine(bench.channel, scheduler)
    for request in requests(bench):
        engine.submit(request)
    while not engine.idle:
        tokens = [request for request, _, _ in engine.step()]
        window.step(tokens, time.perf_counter(), bool(scheduler.waiting))
    engine.end(0)
