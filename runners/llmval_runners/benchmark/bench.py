"""The measurement of each row of the engine's table, and its comparison with the limits of the hardware.

With several ranks, each calls the same methods in the same order. Rank 0 makes the plan of a step and sends it, as the
engine does. Bytes, FLOPs and shares of a ceiling are those of one rank.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.benchmark import collectives
from llmval_runners.engine.attention.backend import Tokens
from llmval_runners.engine.engine import PlanChannel
from llmval_runners.engine.kv_cache import pages_for
from llmval_runners.engine.loader import fp8_kernel
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.measure.ceilings import seconds

STEPS = 32  # of a decode measurement: the context grows by as many tokens, centred on the named one


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes at which the rows are measured; lengths in tokens."""

    batches: list[int]
    context: int
    prompts: int
    prompt: int
    chunk: int
    long: int
    requests: int  # requests of the saturated row: prompts of `short` ± 50 % tokens, outputs of `output` ± 50 %
    short: int
    output: int


@dataclass(slots=True)
class Bench:
    """A loaded engine and the ceilings for its rows. Rows are plain dictionaries, for the table and the JSON."""

    channel: PlanChannel
    parallel: Parallel
    shape: ModelShape
    sizes: Sizes
    label: dict[str, str]  # backend, precision
    weight_bytes: int  # read by each step, on each rank
    ceilings: dict[str, float]
    repeats: int
    seed: int = 0

    @property
    def runner(self) -> Any:
        return self.channel.executor

    @property
    def device(self) -> torch.device:
        return self.parallel.device

    def step(self, plan: StepPlan) -> Iterable[int]:
        """Start a step on every rank. Returns the sampled tokens on rank 0, nothing on the others."""
        if self.parallel.rank == 0:
            return self.channel.broadcast(plan)
        self.channel.receive()
        return ()

    def decode(self, batch: int, context: int, row: str = "decode") -> dict[str, Any]:
        """Time a decode step of the engine, with the host's work, for `batch` sequences of about `context` tokens."""
        per = pages_for(context + STEPS, self.runner.cache.page_size)
        pages = self.pages(batch * per)
        self.admit(StepPlan(admits=[Admit(i, pages[i * per : (i + 1) * per]) for i in range(batch)]))
        first = context - STEPS // 2

        def run() -> None:
            before: Any = ()
            for step in range(STEPS):
                tokens = self.step(StepPlan(decodes=[Decode(i, first + step - 1) for i in range(batch)]))
                list(before)
                before = tokens
            list(before)

        taken = seconds(run, self.device, self.repeats) / STEPS
        kv, rate = self._kv_bytes(context) * batch, self.ceilings["copy_bytes_per_s"]
        found = self.row(
            row, taken * 1e3, "ms a step", batch=batch, context=context, tokens_per_s=batch / taken,
            of_copy=(self.weight_bytes + kv) / taken / rate,
        )  # fmt: skip
        return found | self._roofline(batch, kv, rate, taken) if self.parallel.size > 1 else found

    def _roofline(self, batch: int, kv_bytes: int, bytes_per_s: float, taken: float) -> dict[str, Any]:
        """The modelled time of a decode step of several ranks, and the share of the measured time that it explains."""
        on_cuda, dtype, shape = self.device.type == "cuda", self.runner.model.embedding.dtype, self.shape
        rows = self.runner.batch_for(batch) if on_cuda else batch  # a graph's batch is filled up
        summed = torch.empty(rows, shape.hidden, dtype=dtype, device="meta")
        ran = self.parallel.all_reduce_for(summed)
        model = collectives.roofline(
            self.parallel, ran=ran, weight_bytes=self.weight_bytes, kv_bytes=kv_bytes, bytes_per_s=bytes_per_s,
            all_reduces=2 * shape.layers, all_reduce_bytes=summed.nbytes, dtype=dtype, repeats=self.repeats,
        )  # fmt: skip
        bound = collectives.BOUNDS.get(self.parallel.size) if on_cuda else None
        more = {"all_reduce": ran, "roofline": model, "of_roofline": model["step_ms"] / 1e3 / taken}
        return more if bound is None else more | {"bound": bound}

    def prefill(self, prompts: int, length: int, row: str = "prefill") -> dict[str, Any]:
        """Time `prompts` prompts of `length` tokens until all have a first token, at most `chunk` tokens per step."""
        per = pages_for(length, self.runner.cache.page_size)
        pages = self.pages(prompts * per)
        self.admit(StepPlan(admits=[Admit(i, pages[i * per : (i + 1) * per]) for i in range(prompts)]))
        plans = list(self._chunks(prompts, length))

        def run() -> None:
            for plan in plans:
                tokens = self.step(plan)
            list(tokens)

        taken = seconds(run, self.device, self.repeats)
        linear = 2 * (self.shape.parameters - 2 * self.shape.vocab * self.shape.hidden)
        flops = (prompts * length * linear + self._attention_flops(prompts, length)) / self.parallel.size
        fp8 = fp8_kernel(self.runner.model) is not None and "gemm_fp8_flops" in self.ceilings
        ceiling = "gemm_fp8" if fp8 else "gemm"
        share = {f"of_{ceiling}": flops / taken / self.ceilings[f"{ceiling}_flops"]}
        return self.row(row, taken, "s", batch=prompts, context=length, tokens_per_s=prompts * length / taken, **share)

    def attention(self, batch: int, context: int) -> dict[str, Any]:
        """Time only the decode attention of all layers, in a CUDA graph. `of_copy` is its bandwidth on the cache."""
        runner, shape = self.runner, self.shape
        per = pages_for(context, runner.cache.page_size)
        pages = self.pages(batch * per)
        self.admit(StepPlan(admits=[Admit(i, pages[i * per : (i + 1) * per]) for i in range(batch)]))
        rows = torch.arange(batch, dtype=torch.int32, device=self.device)
        tokens = Tokens(rows.long(), rows, torch.full_like(rows, context - 1))
        heads = shape.heads // self.parallel.size + 2 * shape.kv_heads_on(self.parallel.size)
        qkv = torch.randn(batch, heads, shape.head_dim, device=self.device).bfloat16()

        def layers() -> None:
            attend = runner.attention.decode(tokens, runner.page_table)
            for index in range(shape.layers):
                attend(qkv, *runner.cache.layer(index))

        with torch.inference_mode():
            layers()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # as in gpu/decode_graphs.py
                layers()
        taken = seconds(graph.replay, self.device, self.repeats)
        rate = self._kv_bytes(context) * batch / taken
        return self.row(
            "attention", taken / shape.layers * 1e6, "us a layer", batch=batch, context=context,
            of_copy=rate / self.ceilings["copy_bytes_per_s"],
        )  # fmt: skip

    def row(self, row: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
        return {"row": row, **self.label, "value": value, "unit": unit, **more}

    def admit(self, plan: StepPlan) -> None:
        """Admit the requests of `plan`, in a step that samples nothing."""
        last = plan.admits[-1]
        list(self.step(StepPlan(admits=plan.admits, prefills=[Prefill(last.row, 0, [1], False)])))

    def pages(self, count: int) -> list[int]:
        """`count` pages in random order, as from a cache that has served requests for a while."""
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
        return self.shape.kv_bytes_per_token_on(self.parallel.size, self.runner.cache.dtype.itemsize) * tokens

    def _attention_flops(self, prompts: int, length: int) -> int:
        """FLOPs of causal attention: half of 4 · queries · keys · width per layer."""
        return 2 * prompts * length * length * self.shape.heads * self.shape.head_dim * self.shape.layers
