"""Executes plans on a CPU."""

import torch
from llmval_runners.engine.attention.backend import CpuAttention, FlatPrompts, StepLayout, TokenSpan
from llmval_runners.engine.compiled import CompiledCpuDecoder, CompiledDecoder
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.step_plan import StepPlan
from llmval_runners.measure.profiler_ranges import mark, step_name


class CpuExecutor:
    """One rank's executor. Owns the page table, the last sampled tokens, and the random state."""

    lag = 0
    waiting_since: float | None = None

    def __init__(
        self,
        model: Decoder,
        cache: PagedKVCache,
        attention: CpuAttention,
        *,
        max_batch: int,
        max_pages: int,
        temperature: float = 0.0,
        seed: int = 0,
        compiled: CompiledDecoder | None = None,
    ) -> None:
        """`compiled`: the same model's layers; they replace the model's own."""
        self.model, self.cache, self.attention, self.compiled = model, cache, attention, compiled
        self._decoder = model if compiled is None else CompiledCpuDecoder(compiled)
        self._device = model.embedding.device
        self._temperature = temperature
        # Each rank perturbs its own slice of the vocabulary, so each needs its own noise.
        rank_seed = seed * 1024 + model.parallel.rank
        self._generator = torch.Generator(self._device).manual_seed(rank_seed) if temperature > 0 else None
        self._page_table = torch.zeros((max_batch, max_pages), dtype=torch.int64)
        self.last_token = torch.zeros(max_batch, dtype=torch.int64, device=self._device)

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> list[int]:
        """Run a step; the sampled tokens: first the decodes', then those of the prompts that ended."""
        with mark(step_name(decodes=bool(plan.decodes), prefills=bool(plan.prefills))):
            hidden, rows, outputs = self.forward(plan)
            if not outputs:
                return []
            tokens = self.model.sample(hidden[outputs], self._temperature, self._generator)
            self.last_token[rows] = tokens
            sampled: list[int] = tokens.tolist()
            return sampled

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> tuple[torch.Tensor, list[int], list[int]]:
        """Hidden states [tokens, hidden] of a step; the batch rows that get a token, and their indices in the step."""
        for admit in plan.admits:
            self._page_table[admit.row, : len(admit.pages)] = torch.tensor(admit.pages)
        decodes = len(plan.decodes)
        prompts = FlatPrompts.of(plan.prefills, first=decodes)
        spans = [TokenSpan(decode.row, index, 1, decode.position) for index, decode in enumerate(plan.decodes)]
        spans += prompts.spans
        rows = [decode.row for decode in plan.decodes] + prompts.rows
        positions = torch.cat([torch.arange(span.start, span.start + span.count) for span in spans])
        token_rows = torch.repeat_interleave(
            torch.tensor([span.row for span in spans]), torch.tensor([span.count for span in spans])
        )
        size = self.cache.page_size
        slots = self._page_table[token_rows, positions // size] * size + positions % size
        positions, slots = positions.to(self._device), slots.to(self._device)
        tokens = torch.cat(
            (self.last_token[rows[:decodes]], torch.tensor(prompts.ids, dtype=torch.int64, device=self._device))
        )
        layout = StepLayout(spans, decodes, positions, self._page_table.to(self._device))
        self.attention.begin(layout, self.cache)
        hidden = self._decoder.forward(tokens, positions, slots, self.cache, self.attention)
        return hidden, rows, [*range(decodes), *prompts.output_indices]
