"""CUDA graphs for steps with prompt tokens, for a few sizes of step.

Such a step needs ten or more launches a layer. A launch of a Triton kernel or of Transformer Engine costs the host a
tenth of a millisecond or more: on four GPUs the host needed 100 ms for a step that kept each GPU busy for 13 ms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.backend import Attend, CapturableAttention, Prompts, Tokens, split_attention
from llmval_runners.engine.gpu.decoder import FusedDecoder

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as PoolHandle

AttendFor = Callable[[Tokens, int, Prompts], Attend]
"""(the step's tokens, how many of them decode, its prompts) → the step's attention, run eagerly."""
Hidden = tuple[torch.Tensor, torch.Tensor] | None
"""The result of `FusedDecoder.forward`."""


class PrefillGraphs(Protocol):
    """Captured steps whose first `num_decodes` tokens decode; the others are prompt tokens. Both include padding."""

    def has(self, num_decodes: int, prompt_tokens: int) -> bool:
        """Whether there is a graph for a step of this size."""

    def padded_size(self, num_decodes: int, prompt_tokens: int) -> int | None:
        """The number of prompt tokens to pad to; None if any of attention's own sizes will do."""

    def forward(self, tokens: Tokens, num_decodes: int, prompts: Prompts, output_indices: torch.Tensor) -> Hidden:
        """`FusedDecoder.forward` for a step that has a graph. The result is valid until the next call."""


class _Buffers:
    """The tensors that the graphs of all sizes read and write."""

    def __init__(self, decoder: FusedDecoder, page_table: torch.Tensor, padding_row: int, max_tokens: int) -> None:
        model, device = decoder.model, page_table.device
        dtype = model.embedding.dtype
        self.decoder, self.page_table, self.layers = decoder, page_table, len(model.layers)
        self.ids = torch.zeros(max_tokens, dtype=torch.int64, device=device)
        self.rows = torch.full((max_tokens,), padding_row, dtype=torch.int32, device=device)
        self.positions = torch.zeros(max_tokens, dtype=torch.int32, device=device)
        self.x = torch.zeros(max_tokens, model.shape.hidden, dtype=dtype, device=device)
        self.attended = torch.zeros(max_tokens, model.heads * model.shape.head_dim, dtype=dtype, device=device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def tokens(self, size: int) -> Tokens:
        return Tokens(self.ids[:size], self.rows[:size], self.positions[:size])

    def set(self, tokens: Tokens) -> None:
        for buffer, given in ((self.ids, tokens.ids), (self.rows, tokens.rows), (self.positions, tokens.positions)):
            buffer[: len(given)].copy_(given)

    def embed(self, size: int) -> torch.Tensor:
        """Set the residual stream [size, hidden] to the tokens' embeddings, and return it."""
        return self.x[:size].copy_(F.embedding(self.ids[:size], self.decoder.model.embedding))

    def last_layer(self, size: int, output_indices: torch.Tensor) -> Hidden:
        if not len(output_indices):
            return None
        return self.decoder.last_layer(self.x[:size], self.attended[:size], output_indices)

    @contextmanager
    def capture(self, pool: "PoolHandle") -> Iterator[torch.cuda.CUDAGraph]:
        """As `torch.cuda.graph`, but without its garbage collection and synchronisation, which would cost seconds for
        hundreds of graphs.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.x.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            # NCCL's watchdog thread queries events during the capture; the default mode forbids that to all threads.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                yield graph
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)


class PiecewiseGraphs:
    """One graph from each attention to the next, for attention whose kernels depend on the sequences of a step.

    Everything else depends on the number of tokens alone. Source of the cut at attention: vLLM's piecewise CUDA graphs.
    """

    def __init__(
        self, decoder: FusedDecoder, page_table: torch.Tensor, padding_row: int, sizes: list[int],
        pool: "PoolHandle", attend_for: AttendFor,
    ) -> None:  # fmt: skip
        """Run each piece eagerly, then capture it into memory of `pool`. Writes to the padding row's page."""
        self._buffers = buffers = _Buffers(decoder, page_table, padding_row, max(sizes))
        self._sizes, self._attend_for = sizes, attend_for
        heads = decoder.model.heads + 2 * decoder.cache.pool.shape[2]
        self._qkv = buffers.x.new_zeros(max(sizes), heads, decoder.model.shape.head_dim)
        self._graphs: dict[int, list[torch.cuda.CUDAGraph]] = {size: [] for size in sizes}
        for size in sorted(sizes, reverse=True):  # the largest first: the others then fit in its memory
            with decoder.autocast():
                for index in range(buffers.layers):
                    self._piece(index, size)
                for index in range(buffers.layers):
                    with buffers.capture(pool) as graph:
                        self._piece(index, size)
                    self._graphs[size].append(graph)

    def has(self, num_decodes: int, prompt_tokens: int) -> bool:
        return num_decodes + prompt_tokens in self._graphs

    def padded_size(self, num_decodes: int, prompt_tokens: int) -> int | None:
        return next((size - num_decodes for size in self._sizes if size >= num_decodes + prompt_tokens), None)

    def forward(self, tokens: Tokens, num_decodes: int, prompts: Prompts, output_indices: torch.Tensor) -> Hidden:
        buffers, size = self._buffers, len(tokens.ids)
        attend = self._attend_for(tokens, num_decodes, prompts)
        buffers.set(tokens)
        for index, graph in enumerate(self._graphs[size]):
            graph.replay()
            if index < buffers.layers - 1 or len(output_indices):
                buffers.attended[:size].copy_(attend(self._qkv[:size], *buffers.decoder.cache.layer(index)))
        return buffers.last_layer(size, output_indices)

    def _piece(self, index: int, size: int) -> None:
        """From the previous layer's attention (for the first layer: from the token ids) to this layer's attention."""
        buffers, decoder, x = self._buffers, self._buffers.decoder, self._buffers.x[:size]
        residual_update = None
        if index == 0:
            buffers.embed(size)
        else:
            residual_update = decoder.post_attention(index - 1, x, buffers.attended[:size])
        qkv = decoder.pre_attention(index, x, residual_update, buffers.tokens(size), buffers.page_table)
        self._qkv[:size].copy_(qkv)


class FullStepGraphs:
    """One graph per step, up to the last layer's attention, for attention whose inputs are all tensors."""

    def __init__(
        self, decoder: FusedDecoder, page_table: torch.Tensor, padding_row: int, sizes: list[tuple[int, int]],
        pool: "PoolHandle", attend_for: AttendFor, attention: CapturableAttention,
    ) -> None:  # fmt: skip
        """As `PiecewiseGraphs`; `sizes`: (tokens that decode, prompt tokens) of each step."""
        self._buffers = _Buffers(decoder, page_table, padding_row, max(map(sum, sizes)))
        self._attend_for, self._attention = attend_for, attention
        self._steps: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Callable[[Prompts], bool]]] = {}
        for num_decodes, prompt_tokens in sorted(sizes, key=sum, reverse=True):
            tokens = self._buffers.tokens(num_decodes + prompt_tokens).rest(num_decodes)
            prefill, fill = attention.capturable_prefill(tokens, page_table)
            with decoder.autocast():
                self._step(num_decodes, prompt_tokens, prefill)
                with self._buffers.capture(pool) as graph:
                    self._step(num_decodes, prompt_tokens, prefill)
            self._steps[num_decodes, prompt_tokens] = graph, fill

    def has(self, num_decodes: int, prompt_tokens: int) -> bool:
        return (num_decodes, prompt_tokens) in self._steps

    def padded_size(self, num_decodes: int, prompt_tokens: int) -> int | None:
        return None  # this attention pads to a few sizes anyway

    def forward(self, tokens: Tokens, num_decodes: int, prompts: Prompts, output_indices: torch.Tensor) -> Hidden:
        buffers, size = self._buffers, len(tokens.ids)
        graph, fill = self._steps[num_decodes, size - num_decodes]
        if not fill(prompts):
            attend = self._attend_for(tokens, num_decodes, prompts)
            return buffers.decoder.forward(tokens, buffers.page_table, attend, output_indices)
        buffers.set(tokens)
        graph.replay()
        return buffers.last_layer(size, output_indices)

    def _step(self, num_decodes: int, prompt_tokens: int, prefill: Attend) -> None:
        buffers, decoder, size = self._buffers, self._buffers.decoder, num_decodes + prompt_tokens
        tokens, x = buffers.tokens(size), buffers.embed(size)
        residual_update = None
        attend = prefill
        if num_decodes:
            decode = self._attention.decode(tokens.first(num_decodes), buffers.page_table)
            attend = split_attention(decode, prefill, num_decodes)
        for index in range(buffers.layers):
            qkv = decoder.pre_attention(index, x, residual_update, tokens, buffers.page_table)
            attended = attend(qkv, *decoder.cache.layer(index))
            if index < buffers.layers - 1:
                residual_update = decoder.post_attention(index, x, attended)
        buffers.attended[:size].copy_(attended)
