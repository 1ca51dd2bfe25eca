"""The engine for this runner: weights once, then a cache and an executor for each length.

This is the only module of the runner that builds engine parts. Every rank makes the same plans from the same options,
so nothing is broadcast.
"""

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.kv_cache import pages_for
from llmval_runners.engine.loader import fp8_kernel, load_model, make_executor, new_cache
from llmval_runners.engine.model import Decoder, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.engine.weights import Source
from llmval_runners.long_context.setup import Setup

if TYPE_CHECKING:
    pass  # needs Triton, which torch for CPUs lacks

DTYPES = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "fp8": torch.float8_e4m3fn
}  # fmt: skip
Sequences = Sequence[list[int]]  # the prompts, one for each row of the batch


class Weights:
    """One rank's weights on its device."""

    def __init__(self, setup: Setup, source: Source, parallel: Parallel) -> None:
        self.setup, self.parallel = setup, parallel
        self.model: Decoder = load_model(setup.shape, source, parallel, DTYPES[setup.dtype], setup.fp8_mode)
        release(parallel.device)

    def tensors(self) -> Iterable[torch.Tensor]:
        """Every tensor of the model that has its own storage."""
        model = self.model
        yield from (model.embedding, model.norm, model.frequencies)
        if not self.setup.shape.tied_embeddings:
            yield model.head.weight
        for layer in model.layers:
            yield from (layer.attention_norm, layer.mlp_norm)
            small = (layer.qkv_bias, layer.output_bias, layer.gate_up_bias, layer.down_bias, layer.query_norm,
                     layer.key_norm)  # fmt: skip
            yield from (tensor for tensor in small if tensor is not None)
            for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down):
                yield matrix.weight
                if not isinstance(matrix, Linear):
                    yield matrix.scales

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def matrix_dtype(self) -> str:
        """The actual dtype of the layers' matrices; several names, joined by "+", if they differ."""
        kinds = Counter(
            str(matrix.weight.dtype).removeprefix("torch.")
            for layer in self.model.layers
            for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down)
        )
        return "+".join(sorted(kinds))

    def fp8_kernel(self) -> str | None:
        """The kernel of FP8 products; None if the matrices are not FP8."""
        return fp8_kernel(self.model)


class Context:
    """A cache for `length` prompt tokens and the decoded ones, with its executor."""

    def __init__(self, weights: Weights, length: int, backend: str) -> None:
        """Raises torch.OutOfMemoryError (RuntimeError on a CPU), or Refused if the backend cannot use this cache."""
        setup, parallel = weights.setup, weights.parallel
        self.setup, self.device, self.model = setup, parallel.device, weights.model
        self.pages_per_row = pages_for(length + setup.decode_tokens, setup.page_size)
        self.cache = new_cache(
            setup.shape, parallel, pages=self.pages_per_row * setup.batch, page_size=setup.page_size,
            dtype=DTYPES[setup.kv_dtype],
        )  # fmt: skip
        self.executor = make_executor(
            weights.model,
            self.cache,
            backend,
            max_batch=setup.batch,
            max_pages=self.pages_per_row,
            prefill_attention=setup.prefill_attention,
        )
        self.attention = self.executor.attention
        self._admitted: set[int] = set()

    def prefill(self, row: int, start: int, tokens: list[int], last: bool) -> Iterable[int]:
        """Start one chunk of a prompt. After the last chunk, iterating over the result waits for the sampled token."""
        plan = StepPlan(admits=self._admits([row]), prefills=[Prefill(row, start, tokens, last)])
        return self.executor.execute(plan)

    @contextmanager
    def first_layer_alone(self) -> Iterator[None]:
        """Run only the first layer inside: it uses the same kernels and plans, for a fraction of the work."""
        layers, self.model.layers = self.model.layers, self.model.layers[:1]
        try:
            yield
        finally:
            self.model.layers = layers

    def decode(self, position: int) -> Iterable[int]:
        """Start one decode step of the whole batch. Each row's input is its last sampled token, at `position`."""
        plan = StepPlan(decodes=[Decode(row, position) for row in range(self.setup.batch)])
        return self.executor.execute(plan)

    @torch.inference_mode()
    def window_logits(self, start: int, tokens: list[int]) -> torch.Tensor:
        """Compute this rank's logits of row 0's `tokens` from `start` on again: [tokens - start, vocab / ranks].

        If the attention under test has a minimum chunk, the tokens are computed as part of such a chunk.
        """
        count = len(tokens) - start
        start = max(0, min(start, len(tokens) - getattr(self.attention, "min_chunk_tokens", 0)))
        chunk = Prefill(0, start, tokens[start:], False)
        if isinstance(self.executor, CpuExecutor):
            hidden, _, _ = self.executor.forward(StepPlan(prefills=[chunk]))
            return self.model.logits(hidden)[-count:]
        prefilled = self.executor.prefill([chunk], all_logits=True)
        assert prefilled is not None  # all logits were requested
        return prefilled[0][-count:]

    def prefill_attention(self) -> str | None:
        """The precision of prompt attention so far; None if an FP8 backend has not computed a chunk in FP8 yet."""
        count = getattr(self.attention, "chunks_in_fp8", None)
        return "bf16" if count is None else "fp8" if count else None

    @torch.inference_mode()
    def forced_logits(self, position: int, token: int) -> torch.Tensor:
        """This rank's logits [1, vocab / ranks] of a decode step of row 0 with the input `token`."""
        plan = StepPlan(decodes=[Decode(0, position)])
        if isinstance(self.executor, CpuExecutor):
            self.executor.last_token[0] = token
            hidden, _, _ = self.executor.forward(plan)
            return self.model.logits(hidden)
        self.executor.last_token[0] = token
        return self.executor.decode_logits(plan)

    def kv_dtype(self) -> str:
        return str(self.cache.pool.dtype).removeprefix("torch.")

    def _admits(self, rows: list[int]) -> list[Admit]:
        new = [row for row in rows if row not in self._admitted]
        self._admitted.update(new)
        # Shuffled as in a running server, so that no kernel profits from adjacent pages.
        return [Admit(row, _shuffled_pages(self.pages_per_row, row)) for row in new]


def _shuffled_pages(count: int, row: int) -> list[int]:
    """The row's `count` pages in a shuffled order, the same on every rank."""
    generator = torch.Generator().manual_seed(row)
    return [row * count + page for page in torch.randperm(count, generator=generator).tolist()]


def release(device: torch.device) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
