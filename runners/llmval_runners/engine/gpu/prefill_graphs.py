"""Steps with prompt tokens as CUDA graphs, for steps of few sizes.

Such a step is ten launches a layer and more, of which a Triton kernel's or Transformer Engine's cost the host a tenth
of a millisecond and more: on four GPUs the host took 100 ms for a step that kept each GPU busy for 13.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.sdpa import CapturedAttention, Prompts, beside
from llmval_runners.engine.gpu.decoder import Attend, FusedDecoder, Tokens

AttendFor = Callable[[Tokens, int, Prompts], Attend]
"""(the step's tokens, how many of them decode, its prompts) → its attention, run eagerly."""
Hidden = tuple[torch.Tensor, torch.Tensor] | None


class PromptGraphs(Protocol):
    """`hidden` is `FusedDecoder.hidden` for the steps that `takes` names; what it gives is valid until the next call.

    `lead` of a step's tokens decode, the others are its prompts, filled up.
    """

    def takes(self, lead: int, tokens: int) -> bool: ...

    def filled(self, lead: int, tokens: int) -> int | None:
        """What so many prompt tokens are to be filled up to; None where it does not matter here."""

    def hidden(self, tokens: Tokens, lead: int, prompts: Prompts, wanted: torch.Tensor) -> Hidden: ...


class _Fixed:
    """The tensors that graphs of all sizes read and write."""

    def __init__(self, decoder: FusedDecoder, page_table: torch.Tensor, spare_row: int, most: int) -> None:
        model, device = decoder.model, page_table.device
        dtype = model.embedding.dtype
        self.decoder, self.page_table, self.layers = decoder, page_table, len(model.layers)
        self.ids = torch.zeros(most, dtype=torch.int64, device=device)
        self.rows = torch.full((most,), spare_row, dtype=torch.int32, device=device)
        self.positions = torch.zeros(most, dtype=torch.int32, device=device)
        self.x = torch.zeros(most, model.shape.hidden, dtype=dtype, device=device)
        self.attended = torch.zeros(most, model.heads * model.shape.head_dim, dtype=dtype, device=device)
        self._stream = torch.cuda.Stream(device)

    def tokens(self, size: int) -> Tokens:
        return Tokens(self.ids[:size], self.rows[:size], self.positions[:size])

    def set(self, tokens: Tokens) -> None:
        for kept, given in ((self.ids, tokens.ids), (self.rows, tokens.rows), (self.positions, tokens.positions)):
            kept[: len(given)].copy_(given)

    def embed(self, size: int) -> torch.Tensor:
        """The residual stream [size, hidden], set to the tokens' embeddings."""
        return self.x[:size].copy_(F.embedding(self.ids[:size], self.decoder.model.embedding))

    def end(self, size: int, wanted: torch.Tensor) -> Hidden:
        return self.decoder.end(self.x[:size], self.attended[:size], wanted) if len(wanted) else None

    @contextmanager
    def capture(self, pool: tuple[int, int]) -> Iterator[torch.cuda.CUDAGraph]:
        """`torch.cuda.graph` without its garbage collection and synchronisation: seconds, for hundreds of graphs."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.x.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            # NCCL's watchdog thread asks for events meanwhile, which the default mode forbids to all threads.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                yield graph
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)


class PieceGraphs:
    """A graph from each attention to the next: for attention whose kernels depend on the sequences of a step.

    All else depends on the number of tokens alone. Source of the cut at attention: vLLM's piecewise CUDA graphs.
    """

    def __init__(
        self, decoder: FusedDecoder, page_table: torch.Tensor, spare_row: int, sizes: list[int],
        pool: tuple[int, int], attend_for: AttendFor,
    ) -> None:  # fmt: skip
        """Runs each piece eagerly and captures it, into memory of `pool`. The spare row's page is written to."""
        self._fixed = fixed = _Fixed(decoder, page_table, spare_row, max(sizes))
        self._sizes, self._attend_for = sizes, attend_for
        heads = decoder.model.heads + 2 * decoder.cache.pool.shape[2]
        self._qkv = fixed.x.new_zeros(max(sizes), heads, decoder.model.shape.head_dim)
        self._graphs: dict[int, list[torch.cuda.CUDAGraph]] = {size: [] for size in sizes}
        for size in sorted(sizes, reverse=True):  # the largest first: the others fit in its memory
            with decoder.running():
                for index in range(fixed.layers):
                    self._piece(index, size)
                for index in range(fixed.layers):
                    with fixed.capture(pool) as graph:
                        self._piece(index, size)
                    self._graphs[size].append(graph)

    def takes(self, lead: int, tokens: int) -> bool:
        return lead + tokens in self._graphs

    def filled(self, lead: int, tokens: int) -> int | None:
        return next((size - lead for size in self._sizes if size >= lead + tokens), None)

    def hidden(self, tokens: Tokens, lead: int, prompts: Prompts, wanted: torch.Tensor) -> Hidden:
        fixed, size = self._fixed, len(tokens.ids)
        attend = self._attend_for(tokens, lead, prompts)
        fixed.set(tokens)
        for index, graph in enumerate(self._graphs[size]):
            graph.replay()
            if index < fixed.layers - 1 or len(wanted):
                fixed.attended[:size].copy_(attend(self._qkv[:size], *fixed.decoder.cache.layer(index)))
        return fixed.end(size, wanted)

    def _piece(self, index: int, size: int) -> None:
        """From the attention of the layer before (from the token ids, for the first) to this layer's."""
        fixed, decoder, x, delta = self._fixed, self._fixed.decoder, self._fixed.x[:size], None
        if index == 0:
            fixed.embed(size)
        else:
            delta = decoder.behind_attention(index - 1, x, fixed.attended[:size])
        qkv = decoder.before_attention(index, x, delta, fixed.tokens(size), fixed.page_table)
        self._qkv[:size].copy_(qkv)


class StepGraphs:
    """A step up to the last layer's attention as one graph: for attention that reads what is in a step from tensors."""

    def __init__(
        self, decoder: FusedDecoder, page_table: torch.Tensor, spare_row: int, sizes: list[tuple[int, int]],
        pool: tuple[int, int], attend_for: AttendFor, attention: CapturedAttention,
    ) -> None:  # fmt: skip
        """As `PieceGraphs`; `sizes`: (tokens that decode, tokens of prompts) of each step."""
        self._fixed = _Fixed(decoder, page_table, spare_row, max(map(sum, sizes)))
        self._attend_for, self._attention = attend_for, attention
        self._steps: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Callable[[Prompts], bool]]] = {}
        for lead, count in sorted(sizes, key=sum, reverse=True):
            chunks, fill = attention.captured(self._fixed.tokens(lead + count).behind(lead), page_table)
            with decoder.running():
                self._step(lead, count, chunks)
                with self._fixed.capture(pool) as graph:
                    self._step(lead, count, chunks)
            self._steps[lead, count] = graph, fill

    def takes(self, lead: int, tokens: int) -> bool:
        return (lead, tokens) in self._steps

    def filled(self, lead: int, tokens: int) -> int | None:
        return None  # attention has few sizes anyway

    def hidden(self, tokens: Tokens, lead: int, prompts: Prompts, wanted: torch.Tensor) -> Hidden:
        fixed, size = self._fixed, len(tokens.ids)
        graph, fill = self._steps[lead, size - lead]
        if not fill(prompts):
            return fixed.decoder.hidden(tokens, fixed.page_table, self._attend_for(tokens, lead, prompts), wanted)
        fixed.set(tokens)
        graph.replay()
        return fixed.end(size, wanted)

    def _step(self, lead: int, count: int, chunks: Attend) -> None:
        fixed, decoder, size = self._fixed, self._fixed.decoder, lead + count
        tokens, x, delta = fixed.tokens(size), fixed.embed(size), None
        attend = chunks
        if lead:
            attend = beside(self._attention.decode(tokens.until(lead), fixed.page_table), chunks, lead)
        for index in range(fixed.layers):
            qkv = decoder.before_attention(index, x, delta, tokens, fixed.page_table)
            attended = attend(qkv, *decoder.cache.layer(index))
            if index < fixed.layers - 1:
                delta = decoder.behind_attention(index, x, attended)
        fixed.attended[:size].copy_(attended)
