"""The rows of the engine's table: what is run for each, and what it says of the hardware."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.ceilings import seconds
from llmval_runners.engine import Engine, Link
from llmval_runners.kv_cache import PageAllocator, pages_for
from llmval_runners.plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.request import Request
from llmval_runners.scheduler import Scheduler
from llmval_runners.shapes import ModelShape

STEPS = 32  # of a decode measurement: its context moves by as many tokens around the one that is named


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the rows are run at."""

    batches: list[int]
    context: int
    prompts: int
    prompt: int
    chunk: int
    long: int
    requests: int  # of the saturated row, with `short` ± half prompt and `output` ± half output tokens
    short: int
    output: int


@dataclass(slots=True)
class Bench:
    """A loaded engine, and what its rows are compared with. Rows are plain dictionaries, for the table and the JSON."""

    runner: Any
    shape: ModelShape
    sizes: Sizes
    label: dict[str, str]  # backend, precision
    weight_bytes: int  # read by each step
    ceilings: dict[str, float]
    repeats: int
    seed: int = 0

    @property
    def device(self) -> torch.device:
        return self.runner.cache.pool.device

    def decode(self, batch: int, context: int, row: str = "decode") -> dict[str, Any]:
        """One step for `batch` sequences of about `context` tokens, host work included, as the engine runs it."""
        per = pages_for(context + STEPS, self.runner.cache.page_size)
        pages = self._pages(batch * per)
        self._drain(StepPlan(admits=[Admit(i, pages[i * per : (i + 1) * per]) for i in range(batch)]))
        first = context - STEPS // 2

        def run() -> None:
            before: Any = ()
            for step in range(STEPS):
                tokens = self.runner.execute(StepPlan(decodes=[Decode(i, first + step - 1) for i in range(batch)]))
                list(before)
                before = tokens
            list(before)

        taken = seconds(run, self.device, self.repeats) / STEPS
        kv = self._kv_bytes(context) * batch
        return self._row(
            row, taken * 1e3, "ms a step", batch=batch, context=context, tokens_per_s=batch / taken,
            of_copy=(self.weight_bytes + kv) / taken / self.ceilings["copy_bytes_per_s"],
        )  # fmt: skip

    def prefill(self, prompts: int, length: int, row: str = "prefill") -> dict[str, Any]:
        """`prompts` of `length` tokens, in steps of at most `chunk` tokens, to the last one's first token."""
        per = pages_for(length, self.runner.cache.page_size)
        pages = self._pages(prompts * per)
        self._drain(StepPlan(admits=[Admit(i, pages[i * per : (i + 1) * per]) for i in range(prompts)]))
        plans = list(self._chunks(prompts, length))

        def run() -> None:
            for plan in plans:
                tokens = self.runner.execute(plan)
            list(tokens)

        taken = seconds(run, self.device, self.repeats)
        linear = 2 * (self.shape.parameters - 2 * self.shape.vocab * self.shape.hidden)
        flops = prompts * length * linear + self._attention_flops(prompts, length)
        return self._row(
            row, taken, "s", batch=prompts, context=length, tokens_per_s=prompts * length / taken,
            of_gemm=flops / taken / self.ceilings["gemm_flops"],
        )  # fmt: skip

    def saturated(self) -> dict[str, Any]:
        """More requests than fit at once, through scheduler and engine; tokens/s from when all rows decode to when the
        queue is empty.

        `modelled` is what the table's own figures make of the same tokens: each output token its share of a full decode
        step, each prompt token that was processed meanwhile its share of `prefill`, both measured at these lengths.
        """
        sizes, batch = self.sizes, max(self.sizes.batches)
        step = self.decode(batch, sizes.short + sizes.output // 2)["value"] / 1e3
        per_prompt = self.prefill(min(batch, max(1, sizes.chunk // sizes.short)), sizes.short)
        cache = self.runner.cache
        scheduler = Scheduler(
            self.shape, PageAllocator(cache.pages, cache.page_size), max_batch=batch, chunk=sizes.chunk,
            element_bytes=cache.dtype.itemsize,
        )  # fmt: skip
        engine = Engine(Link(self.runner, max_batch=batch, chunk=sizes.chunk), scheduler)
        source = random.Random(self.seed)
        for index in range(sizes.requests):
            lengths = (source.randint(size // 2, size + size // 2) for size in (sizes.short, sizes.output))
            prompt, output = lengths
            engine.submit(Request(index, source.choices(range(self.shape.vocab), k=prompt), output))
        begun: set[int] = set()
        opened = closed = 0.0
        outputs = prompts = 0
        while not engine.idle:
            for request, _, _ in engine.step():
                first = request.index not in begun
                begun.add(request.index)
                if opened and scheduler.waiting:
                    outputs += 1
                    prompts += len(request.prompt) if first else 0
            if not opened and len(begun) >= batch:
                opened = time.perf_counter()
            if scheduler.waiting:
                closed = time.perf_counter()
        window = closed - opened
        rate = outputs / window
        modelled = outputs / (outputs * step / batch + prompts / per_prompt["tokens_per_s"])
        return self._row(
            "saturated", rate, "tokens/s", batch=batch, context=sizes.short + sizes.output // 2, tokens_per_s=rate,
            modelled=modelled, of_modelled=rate / modelled, window_s=window,
        )  # fmt: skip

    def attention(self, batch: int, context: int) -> dict[str, Any]:
        """The decode attention kernel alone, in a graph over all layers: the bandwidth at which it reads the cache."""
        from llmval_runners.fused import Tokens

        runner, shape = self.runner, self.shape
        per = pages_for(context, runner.cache.page_size)
        pages = self._pages(batch * per)
        self._drain(StepPlan(admits=[Admit(i, pages[i * per : (i + 1) * per]) for i in range(batch)]))
        rows = torch.arange(batch, dtype=torch.int32, device=self.device)
        tokens = Tokens(rows.long(), rows, torch.full_like(rows, context - 1))
        qkv = torch.randn(batch, shape.heads + 2 * shape.kv_heads, shape.head_dim, device=self.device).bfloat16()

        def layers() -> None:
            attend = runner.attention.decode(tokens, runner.page_table)
            for index in range(shape.layers):
                attend(qkv, *runner.cache.layer(index))

        with torch.inference_mode():
            layers()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                layers()
        taken = seconds(graph.replay, self.device, self.repeats)
        rate = self._kv_bytes(context) * batch / taken
        return self._row(
            "attention", taken / shape.layers * 1e6, "us a layer", batch=batch, context=context,
            of_copy=rate / self.ceilings["copy_bytes_per_s"],
        )  # fmt: skip

    def _row(self, row: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
        return {"row": row, **self.label, "value": value, "unit": unit, **more}

    def _drain(self, plan: StepPlan) -> None:
        """Admit, which by itself samples nothing."""
        last = plan.admits[-1]
        list(self.runner.execute(StepPlan(admits=plan.admits, prefills=[Prefill(last.row, 0, [1], False)])))

    def _pages(self, count: int) -> list[int]:
        """Pages in arbitrary order, as a cache that has served for a while gives them."""
        if count > self.runner.cache.pages:
            raise ValueError(f"{count} pages are more than the cache's {self.runner.cache.pages}")
        return random.Random(self.seed).sample(range(self.runner.cache.pages), count)

    def _chunks(self, prompts: int, length: int) -> Any:
        source, budget, prefills = random.Random(self.seed), self.sizes.chunk, []
        for row in range(prompts):
            ids = source.choices(range(self.shape.vocab), k=length)
            start = 0
            while start < length:
                part = ids[start : start + budget]
                prefills.append(Prefill(row, start, part, start + len(part) == length))
                start, budget = start + len(part), budget - len(part)
                if not budget:
                    yield StepPlan(prefills=prefills)
                    budget, prefills = self.sizes.chunk, []
        if prefills:
            yield StepPlan(prefills=prefills)

    def _kv_bytes(self, tokens: int) -> int:
        return self.shape.kv_bytes_per_token(self.runner.cache.dtype.itemsize) * tokens

    def _attention_flops(self, prompts: int, length: int) -> int:
        """Causal: half of 4 · queries · keys · width a layer."""
        return 2 * prompts * length * length * self.shape.heads * self.shape.head_dim * self.shape.layers


def rows_of(bench: Bench, chosen: list[str], done: Callable[[dict[str, Any]], None]) -> None:
    """Measure the chosen rows, one after the other."""
    sizes = bench.sizes
    if "decode" in chosen:
        for batch in sizes.batches:
            done(bench.decode(batch, sizes.context))
    if "prefill" in chosen:
        done(bench.prefill(sizes.prompts, sizes.prompt))
    if "long" in chosen:
        done(bench.prefill(1, sizes.long, "long prefill"))
        done(bench.decode(1, sizes.long, "long decode"))
    if "attention" in chosen and bench.device.type == "cuda":
        done(bench.attention(max(sizes.batches), sizes.context))
        done(bench.attention(1, sizes.long))
    if "saturated" in chosen:
        done(bench.saturated())
