"""Executes plans on a GPU: decode steps as CUDA graphs, one a batch size, and prompt chunks eagerly; never waits.

The page table, the last sampled tokens and the random state stay on the device. A step uploads two numbers a sequence
(its row and its position); its sampled tokens come back by themselves, and whoever reads them waits for them.
"""

import gc
import time
from collections.abc import Iterator, Sequence

import torch
from llmval_runners.engine.attention.reference import Span
from llmval_runners.engine.attention.sdpa import GpuAttention, Prompts, beside
from llmval_runners.engine.attention.upload import upload
from llmval_runners.engine.compiled import CompiledDecoder, GpuSteps
from llmval_runners.engine.gpu.decoder import Attend, FusedDecoder, Tokens
from llmval_runners.engine.gpu.prefill_graphs import PieceGraphs, PromptGraphs, StepGraphs
from llmval_runners.engine.gpu.step_sizes import MOST, chunk_sizes, piece_sizes, step_sizes
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder, greedy, sampled
from llmval_runners.engine.profiler_ranges import DECODE, mark, step_name
from llmval_runners.engine.step_plan import Decode, Prefill, StepPlan

_ROWS_MULTIPLE = 16  # of a step of prompt tokens: what FP8 products want
# Sequences decoding from which on a step that also has prompt tokens is one pass, which reads the weights once. Below,
# the decode graph runs by itself, so that a sequence's tokens do not depend on which prompts happen to be beside it.
MERGE_FROM = 64


class Sampled:
    """Tokens on their way to the host: iterating waits for them, and says to `runner` that it does."""

    def __init__(self, tokens: list[torch.Tensor], runner: "GpuRunner") -> None:
        self._runner = runner
        self._hosts = [part.to("cpu", non_blocking=True) for part in tokens]
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def __iter__(self) -> Iterator[int]:
        self._runner.waiting_since = time.monotonic()
        self._arrived.synchronize()
        self._runner.waiting_since = None
        return (token for host in self._hosts for token in host.tolist())


class _DecodeGraph:
    """A decode step for up to `batch` sequences; the rest of the batch is the spare row."""

    def __init__(self, runner: "GpuRunner", batch: int) -> None:
        self.batch = batch
        self._inputs = runner.spare_inputs(batch)  # rows, positions: int32 [2, batch]
        self._runner = runner
        self.graph: torch.cuda.CUDAGraph | None = None
        self.tokens = self._step()  # outside the capture: kernels are compiled, and cuBLAS has its workspace

    def _step(self) -> torch.Tensor:
        runner = self._runner
        rows = self._inputs[0]
        tokens = Tokens(runner.last_token[rows], rows, self._inputs[1])
        hidden = runner.decode(tokens)
        assert hidden is not None  # all tokens are wanted
        self.logits = runner.decoder.finish(*hidden)
        return runner.sample(self.logits, rows)

    def capture(self, pool: tuple[int, int]) -> None:
        self.graph = torch.cuda.CUDAGraph()
        if self._runner.generator is not None:
            self.graph.register_generator_state(self._runner.generator)
        # NCCL's watchdog thread asks for events meanwhile, which the default mode forbids to all threads.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.tokens = self._step()

    def run(self, decodes: list[Decode]) -> torch.Tensor:
        runner, missing = self._runner, self.batch - len(decodes)
        rows = [decode.row for decode in decodes] + [runner.spare_row] * missing
        positions = [decode.position for decode in decodes] + [0] * missing
        self._inputs.copy_(upload([rows, positions], torch.int32, self._inputs.device))
        if self.graph is None:
            self.tokens = self._step()
        else:
            self.graph.replay()
        return self.tokens[: len(decodes)]


class GpuRunner:
    """One rank's executor, as `engine.Runner` is on a CPU. Tokens are one step behind (`lag`)."""

    lag = 1
    waiting_since: float | None = None  # monotonic, while somebody waits for a step's tokens

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
        """Compiles what decoding needs and captures its graphs (`graphs`: or runs it eagerly).

        `compiled`: the same model's layers, which then run in place of the fused kernels. `prompt_chunk`: the most
        prompt tokens of a step whose layers are captured too (`layer_graphs`); 0: none are.
        """
        self.model, self.cache, self.attention, self.compiled = model, cache, attention, compiled
        self.decoder = FusedDecoder(model, cache) if compiled is None else GpuSteps(compiled)
        self._device = model.embedding.device
        self._temperature = temperature
        self.generator: torch.Generator | None = None
        if temperature > 0:  # each rank perturbs its own slice of the vocabulary, so each needs noise of its own
            self.generator = torch.Generator(self._device).manual_seed(seed * 1024 + model.parallel.rank)
        self.spare_row = max_batch  # a batch is filled up with this row, whose page no request owns
        table = (max_batch + 1, max_pages)
        self.page_table = torch.full(table, cache.spare_page, dtype=torch.int32, device=self._device)
        self.last_token = torch.zeros(max_batch + 1, dtype=torch.int64, device=self._device)
        self._pages: dict[int, list[int]] = {}
        batches = [size for size in [*attention.batches, *range(384, max_batch, 128)] if size < max_batch]
        self._decodes: dict[int, _DecodeGraph] = {}
        self._captured = graphs
        with torch.inference_mode():
            for size in sorted({*batches, max_batch}, reverse=True):  # the largest first: the others fit in its memory
                self._decodes[size] = _DecodeGraph(self, size)
            gc.collect()  # a graph of an earlier engine that is freed during a capture would break it
            torch.cuda.synchronize(self._device)
            pool = torch.cuda.graph_pool_handle()
            for decode in self._decodes.values() if graphs else ():
                decode.capture(pool)
            self._sizes = sorted(self._decodes)
            self._prompt_graphs: PromptGraphs | None = None
            if graphs and prompt_chunk and isinstance(self.decoder, FusedDecoder):
                self._prompt_graphs = self._capture_prompts(self.decoder, prompt_chunk, pool)

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> Sampled:
        """Start a step; the sampled tokens, decodes first, then the prompts that ended."""
        self._admit(plan)
        tokens = []
        together = len(plan.decodes) >= MERGE_FROM and bool(plan.prefills)
        if plan.decodes and not together:
            with mark(DECODE):
                tokens.append(self._decode(plan.decodes).run(plan.decodes))
        if plan.prefills:
            with mark(step_name(decodes=together, prefills=True)):
                ended = self.prefill(plan.prefills, decodes=plan.decodes if together else [])
                if ended is not None:
                    tokens.append(self.sample(*ended))
        return Sampled(tokens, self)

    @torch.inference_mode()
    def decode_logits(self, plan: StepPlan) -> torch.Tensor:
        """Logits [decodes, vocab / ranks] of a step that only decodes."""
        self._admit(plan)
        step = self._decode(plan.decodes)
        step.run(plan.decodes)
        return step.logits[: len(plan.decodes)].clone()

    @torch.inference_mode()
    def prefill(
        self, prefills: list[Prefill], *, decodes: Sequence[Decode] = (), every: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Logits and page-table rows of `decodes`, in the same pass, and of the prompts that end here; None for none.

        With `every`, logits of all tokens of the prompts.
        """
        ids: list[int] = []
        spans, ends, rows = [], [], [decode.row for decode in decodes]
        for chunk in prefills:
            spans.append(Span(chunk.row, len(ids), len(chunk.tokens), chunk.start))
            ids += chunk.tokens
            if chunk.last:
                ends.append(len(ids) - 1)
                rows.append(chunk.row)
        used, lead, count = len(ids), self.batch_for(len(decodes)), len(decodes)
        host = torch.zeros(3, lead + self._filled(used, lead), dtype=torch.int32)
        host[1] = self.spare_row
        host[1, :count] = torch.tensor(rows[:count], dtype=torch.int32)
        host[2, :count] = torch.tensor([decode.position for decode in decodes], dtype=torch.int32)
        host[0, lead : lead + used] = torch.tensor(ids, dtype=torch.int32)
        for span in spans:
            here = slice(lead + span.offset, lead + span.offset + span.count)
            host[1, here] = span.row
            host[2, here] = torch.arange(span.start, span.start + span.count, dtype=torch.int32)
        step = upload(host, torch.int32, self._device)
        tokens = Tokens(step[0].long(), step[1], step[2])
        tokens.ids[:count] = self.last_token[tokens.rows[:count]]
        prompts = Prompts(spans, [self._pages[span.row] for span in spans])
        wanted = [*range(count), *(lead + index for index in (range(used) if every else ends))]
        given, captured = upload(wanted, torch.int64, self._device), self._prompt_graphs
        if captured is not None and captured.takes(lead, len(tokens.ids) - lead):
            hidden = captured.hidden(tokens, lead, prompts, given)
        else:
            hidden = self.decoder.hidden(tokens, self.page_table, self._attend(tokens, lead, prompts), given)
        if hidden is None:
            return None
        return self.decoder.finish(*hidden), upload(rows, torch.int32, self._device)

    def decode(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor] | None:
        """`FusedDecoder.hidden` of a step that only decodes. Only device work."""
        decoder, attention, table = self.decoder, self.attention, self.page_table
        if isinstance(decoder, FusedDecoder):
            whole = attention.whole(tokens, table, self.model.frequencies)
            if whole is not None:
                return decoder.hidden(tokens, table, whole, whole=True)
        return decoder.hidden(tokens, table, attention.decode(tokens, table))

    def sample(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """One token a row of `logits`, kept as the last token of the page table's `rows`."""
        if self._temperature > 0:
            tokens = sampled(logits.float(), self._temperature, self.generator, self.model.parallel)
        else:
            tokens = greedy(logits, self.model.parallel)
        self.last_token[rows] = tokens
        return tokens

    def spare_inputs(self, batch: int) -> torch.Tensor:
        """Rows and positions of a batch that is all spare: int32 [2, batch]."""
        inputs = torch.zeros(2, batch, dtype=torch.int32, device=self._device)
        inputs[0] = self.spare_row
        return inputs

    def _capture_prompts(self, decoder: FusedDecoder, chunk: int, pool: tuple[int, int]) -> PromptGraphs | None:
        """Graphs of steps with at most `chunk` prompt tokens; for larger ones, what attention compiles."""
        leads = [0, *(size for size in self._sizes if size >= MERGE_FROM)]
        attention, common = self.attention, (decoder, self.page_table, self.spare_row)
        if attention.chunks is None:
            return PieceGraphs(*common, piece_sizes(leads, chunk, _ROWS_MULTIPLE), pool, self._attend)
        self._compile_prompts([size for size in {*chunk_sizes(attention.chunks, chunk), chunk} if size > MOST])
        sizes = step_sizes(leads, attention.chunks, chunk)
        return StepGraphs(*common, sizes, pool, self._attend, attention) if sizes else None

    def _compile_prompts(self, sizes: list[int]) -> None:
        """Run prompts of each size in all in the spare row: what attention compiles for it takes seconds, once.

        None is longer than the page table is wide: what is behind a row is another's memory.
        """
        width, longest = self.page_table.shape[1], self.page_table.shape[1] * self.cache.page_size
        self._pages[self.spare_row] = [self.cache.spare_page] * width
        for size in sizes:
            lengths = [min(longest, size - start) for start in range(0, size, longest)]
            self.prefill([Prefill(self.spare_row, 0, [0] * length, True) for length in lengths])
        self._pages.pop(self.spare_row, None)

    def _admit(self, plan: StepPlan) -> None:
        if not plan.admits:
            return
        width = self.page_table.shape[1]
        pages = [admit.pages + [self.cache.spare_page] * (width - len(admit.pages)) for admit in plan.admits]
        rows = upload([admit.row for admit in plan.admits], torch.int64, self._device)
        self.page_table.index_copy_(0, rows, upload(pages, torch.int32, self._device))
        self._pages |= {admit.row: admit.pages for admit in plan.admits}

    def _attend(self, tokens: Tokens, lead: int, prompts: Prompts) -> Attend:
        """Decoding for the first `lead` tokens, prompt chunks for the rest."""
        chunks = self.attention.prefill(tokens.behind(lead), self.page_table, prompts)
        if not lead:
            return chunks
        return beside(self.attention.decode(tokens.until(lead), self.page_table), chunks, lead)

    def batch_for(self, count: int) -> int:
        """The decode batch that `count` sequences are filled up to; 0 for none."""
        return next(size for size in self._sizes if size >= count) if count else 0

    def _decode(self, decodes: list[Decode]) -> _DecodeGraph:
        return self._decodes[self.batch_for(len(decodes))]

    def _filled(self, tokens: int, lead: int) -> int:
        """What `tokens` of prompts behind `lead` decodes are filled up to."""
        if self._prompt_graphs is not None and (filled := self._prompt_graphs.filled(lead, tokens)) is not None:
            return filled
        sizes = self.attention.chunks
        fits = [size for size in sizes or () if size >= tokens]
        multiple = sizes[0] if sizes else _ROWS_MULTIPLE
        return fits[0] if fits else -(-tokens // multiple) * multiple
