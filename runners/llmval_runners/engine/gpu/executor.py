"""Executes plans on a GPU: decode steps as CUDA graphs, one per batch size, and steps with prompts. Never waits.

The page table, the last sampled tokens and the random state stay on the device. A decode step uploads two numbers per
sequence (its row and its position). Its sampled tokens are copied back asynchronously; only their reader waits.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from llmval_runners.engine.attention.backend import (
    Attend,
    CapturableAttention,
    FlatPrompts,
    GpuAttention,
    Prompts,
    Tokens,
    split_attention,
    upload,
)
from llmval_runners.engine.compiled import CompiledDecoder, CompiledGpuDecoder
from llmval_runners.engine.gpu.decode_graphs import DecodeGraph
from llmval_runners.engine.gpu.decoder import FusedDecoder
from llmval_runners.engine.gpu.prefill_graphs import FullStepGraphs, PiecewiseGraphs, PrefillGraphs
from llmval_runners.engine.gpu.step_sizes import MAX_GRAPH_PROMPT, piece_sizes, prompt_sizes, step_sizes
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder, greedy, gumbel_max
from llmval_runners.engine.step_plan import Decode, Prefill, StepPlan
from llmval_runners.measure.profiler_ranges import DECODE, mark, step_name

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as PoolHandle

_ROWS_MULTIPLE = 16  # FP8 products need a multiple of this many tokens in a prompt step
# With this many decoding sequences or more, a step with prompt tokens is one pass, which reads the weights once. With
# fewer, the decode graph runs separately, so that a sequence's tokens do not depend on the prompts in the same step.
MERGE_FROM = 64


class PendingTokens:
    """Tokens on their way to the host. Iterating waits for them, and sets the executor's `waiting_since` meanwhile."""

    def __init__(self, tokens: list[torch.Tensor], executor: "GpuExecutor") -> None:
        self._executor = executor
        self._hosts = [part.to("cpu", non_blocking=True) for part in tokens]
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._copied.record()

    def __iter__(self) -> Iterator[int]:
        self._executor.waiting_since = time.monotonic()
        self._copied.synchronize()
        self._executor.waiting_since = None
        return (token for host in self._hosts for token in host.tolist())


class GpuExecutor:
    """One rank's executor on a GPU, as `CpuExecutor` on a CPU. Tokens arrive one step later (`lag`)."""

    lag = 1
    waiting_since: float | None = None

    def __init__(
        self,
        model: Decoder,
        cache: PagedKVCache,
        attention: GpuAttention,
        *,
        max_batch: int,
        max_pages: int,
        temperature: float = 0.0,
        seed: int = 0,
        graphs: bool = True,
        compiled: CompiledDecoder | None = None,
        prompt_chunk: int = 0,
    ) -> None:
        """Compile all kernels for decoding, and capture the graphs.

        Args:
            model: this rank's weights.
            cache: with a padding page.
            attention: the backend.
            max_batch: the most sequences.
            max_pages: the most pages of a sequence.
            temperature: 0 for greedy sampling.
            seed: of the sampling noise.
            graphs: capture graphs; False: run every step eagerly.
            compiled: the same model's layers; they replace the fused kernels.
            prompt_chunk: the most prompt tokens of a step; 0: capture no steps with prompts.
        """
        self.model, self.cache, self.attention, self.compiled = model, cache, attention, compiled
        self.decoder = FusedDecoder(model, cache) if compiled is None else CompiledGpuDecoder(compiled)
        self._device = model.embedding.device
        self._temperature = temperature
        self.generator: torch.Generator | None = None
        if temperature > 0:  # each rank perturbs its own slice of the vocabulary, so each needs its own noise
            self.generator = torch.Generator(self._device).manual_seed(seed * 1024 + model.parallel.rank)
        self.padding_row = max_batch  # pads batches; no request owns its page
        table = (max_batch + 1, max_pages)
        self.page_table = torch.full(table, cache.padding_page, dtype=torch.int32, device=self._device)
        self.last_token = torch.zeros(max_batch + 1, dtype=torch.int64, device=self._device)
        self._pages: dict[int, list[int]] = {}
        batches = [size for size in [*attention.decode_sizes, *range(384, max_batch, 128)] if size < max_batch]
        self._decodes: dict[int, DecodeGraph] = {}
        with torch.inference_mode():
            for size in sorted({*batches, max_batch}, reverse=True):  # the largest first: the others fit in its memory
                self._decodes[size] = DecodeGraph(self, size)
            gc.collect()  # if a graph of an earlier engine were freed during a capture, the capture would fail
            torch.cuda.synchronize(self._device)
            pool = torch.cuda.graph_pool_handle()
            for decode in self._decodes.values() if graphs else ():
                decode.capture(pool)
            self._sizes = sorted(self._decodes)
            self._prefill_graphs: PrefillGraphs | None = None
            if graphs and prompt_chunk and isinstance(self.decoder, FusedDecoder):
                self._prefill_graphs = self._capture_prefill(self.decoder, prompt_chunk, pool)

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> PendingTokens:
        """Start a step; the sampled tokens: first the decodes', then those of the prompts that ended."""
        self._admit(plan)
        tokens = []
        mixed_step = len(plan.decodes) >= MERGE_FROM and bool(plan.prefills)
        if plan.decodes and not mixed_step:
            with mark(DECODE):
                tokens.append(self._decode_graph(plan.decodes).run(plan.decodes))
        if plan.prefills:
            with mark(step_name(decodes=mixed_step, prefills=True)):
                ended = self.prefill(plan.prefills, decodes=plan.decodes if mixed_step else [])
                if ended is not None:
                    tokens.append(self.sample(*ended))
        return PendingTokens(tokens, self)

    @torch.inference_mode()
    def decode_logits(self, plan: StepPlan) -> torch.Tensor:
        """Logits [decodes, vocab / ranks] of a step that only decodes."""
        self._admit(plan)
        step = self._decode_graph(plan.decodes)
        step.run(plan.decodes)
        return step.logits[: len(plan.decodes)].clone()

    @torch.inference_mode()
    def prefill(
        self, prefills: list[Prefill], *, decodes: Sequence[Decode] = (), all_logits: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Run a step with prompt chunks, and `decodes` in the same pass.

        Returns:
            Logits [outputs, vocab / ranks] and page-table rows [outputs] of the decodes and of the prompts that end
            here; None if there are no outputs. With `all_logits`, logits of the decodes and of all prompt tokens.
        """
        flat = FlatPrompts.of(prefills)
        rows = [decode.row for decode in decodes] + flat.rows
        used, num_decodes, count = len(flat.ids), self.batch_for(len(decodes)), len(decodes)
        host = torch.zeros(3, num_decodes + self._padded_size(used, num_decodes), dtype=torch.int32)
        host[1] = self.padding_row
        host[1, :count] = torch.tensor(rows[:count], dtype=torch.int32)
        host[2, :count] = torch.tensor([decode.position for decode in decodes], dtype=torch.int32)
        host[0, num_decodes : num_decodes + used] = torch.tensor(flat.ids, dtype=torch.int32)
        for span in flat.spans:
            chunk = slice(num_decodes + span.offset, num_decodes + span.offset + span.count)
            host[1, chunk] = span.row
            host[2, chunk] = torch.arange(span.start, span.start + span.count, dtype=torch.int32)
        step = upload(host, torch.int32, self._device)
        tokens = Tokens(step[0].long(), step[1], step[2])
        tokens.ids[:count] = self.last_token[tokens.rows[:count]]
        prompts = Prompts(flat.spans, [self._pages[span.row] for span in flat.spans])
        outputs = range(used) if all_logits else flat.output_indices
        output_indices = upload([*range(count), *(num_decodes + index for index in outputs)], torch.int64, self._device)
        graphs = self._prefill_graphs
        if graphs is not None and graphs.has(num_decodes, len(tokens.ids) - num_decodes):
            hidden = graphs.forward(tokens, num_decodes, prompts, output_indices)
        else:
            hidden = self.decoder.forward(
                tokens, self.page_table, self._attend(tokens, num_decodes, prompts), output_indices
            )
        if hidden is None:
            return None
        return self.decoder.logits(*hidden), upload(rows, torch.int32, self._device)

    def decode(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor] | None:
        """`FusedDecoder.forward` of a step that only decodes. Only device work."""
        decoder, attention, table = self.decoder, self.attention, self.page_table
        if isinstance(decoder, FusedDecoder):
            attend = attention.decode_with_rope(tokens, table, self.model.frequencies)
            if attend is not None:
                return decoder.forward(tokens, table, attend, fused_rope=True)
        return decoder.forward(tokens, table, attention.decode(tokens, table))

    def logits(self, x: torch.Tensor, residual_update: torch.Tensor) -> torch.Tensor:
        """This rank's logits [rows, vocab / ranks] from the result of `decode`."""
        return self.decoder.logits(x, residual_update)

    def sample(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """One token per row of `logits`, stored as the last token of the page table's `rows`."""
        if self._temperature > 0:
            tokens = gumbel_max(logits.float(), self._temperature, self.generator, self.model.parallel)
        else:
            tokens = greedy(logits, self.model.parallel)
        self.last_token[rows] = tokens
        return tokens

    def batch_for(self, count: int) -> int:
        """The batch size to which `count` decoding sequences are padded; 0 for none."""
        return next(size for size in self._sizes if size >= count) if count else 0

    def _capture_prefill(self, decoder: FusedDecoder, chunk: int, pool: "PoolHandle") -> PrefillGraphs | None:
        """Capture the steps with at most `chunk` prompt tokens. For larger ones, compile attention's kernels."""
        decode_sizes = [0, *(size for size in self._sizes if size >= MERGE_FROM)]
        attention, common = self.attention, (decoder, self.page_table, self.padding_row)
        if attention.prefill_sizes is None:
            return PiecewiseGraphs(*common, piece_sizes(decode_sizes, chunk, _ROWS_MULTIPLE), pool, self._attend)
        compiled = {*prompt_sizes(attention.prefill_sizes, chunk), chunk}
        self._compile_prompts([size for size in compiled if size > MAX_GRAPH_PROMPT])
        sizes = step_sizes(decode_sizes, attention.prefill_sizes, chunk)
        # A backend with fixed sizes can be captured.
        capturable = cast("CapturableAttention", attention)
        return FullStepGraphs(*common, sizes, pool, self._attend, capturable) if sizes else None

    def _compile_prompts(self, sizes: list[int]) -> None:
        """Run prompts with `sizes` tokens in total in the padding row, so that attention compiles, which takes seconds.

        No prompt is longer than the page table is wide: beyond a row's end lies another row.
        """
        width, longest = self.page_table.shape[1], self.page_table.shape[1] * self.cache.page_size
        self._pages[self.padding_row] = [self.cache.padding_page] * width
        for size in sizes:
            lengths = [min(longest, size - start) for start in range(0, size, longest)]
            self.prefill([Prefill(self.padding_row, 0, [0] * length, True) for length in lengths])
        self._pages.pop(self.padding_row, None)

    def _admit(self, plan: StepPlan) -> None:
        if not plan.admits:
            return
        width = self.page_table.shape[1]
        pages = [admit.pages + [self.cache.padding_page] * (width - len(admit.pages)) for admit in plan.admits]
        rows = upload([admit.row for admit in plan.admits], torch.int64, self._device)
        self.page_table.index_copy_(0, rows, upload(pages, torch.int32, self._device))
        self._pages |= {admit.row: admit.pages for admit in plan.admits}

    def _attend(self, tokens: Tokens, num_decodes: int, prompts: Prompts) -> Attend:
        """Attention of a step whose first `num_decodes` tokens decode; the others are prompt tokens."""
        prefill = self.attention.prefill(tokens.rest(num_decodes), self.page_table, prompts)
        if not num_decodes:
            return prefill
        decode = self.attention.decode(tokens.first(num_decodes), self.page_table)
        return split_attention(decode, prefill, num_decodes)

    def _decode_graph(self, decodes: list[Decode]) -> DecodeGraph:
        return self._decodes[self.batch_for(len(decodes))]

    def _padded_size(self, tokens: int, num_decodes: int) -> int:
        """The number of prompt tokens to which `tokens` are padded in a step with `num_decodes` decodes."""
        if self._prefill_graphs is not None:
            padded = self._prefill_graphs.padded_size(num_decodes, tokens)
            if padded is not None:
                return padded
        sizes = self.attention.prefill_sizes
        fits = [size for size in sizes or () if size >= tokens]
        multiple = sizes[0] if sizes else _ROWS_MULTIPLE
        return fits[0] if fits else -(-tokens // multiple) * multiple
