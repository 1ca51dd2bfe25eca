"""A prompt step's layers as CUDA graphs, one from each attention to the next; attention itself stays eager.

Which sequences a step has, and how long they are, decides which kernels serve its attention. All else depends on the
number of tokens alone, and is some ten launches a layer, of which Transformer Engine's cost the host a tenth of a
millisecond and more: on several GPUs the host took 100 ms for a step that kept each GPU busy for 13. Source of the cut
at attention: vLLM's piecewise CUDA graphs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from llmval_runners.fused import Attend, FusedDecoder, Tokens


class LayerGraphs:
    """`hidden` is `FusedDecoder.hidden` for steps of as many tokens as one of `sizes`."""

    def __init__(
        self, decoder: FusedDecoder, page_table: torch.Tensor, spare_row: int, sizes: list[int], pool: tuple[int, int]
    ) -> None:
        """Runs each piece eagerly and captures it, into memory of `pool`. The spare row's page is written to."""
        model, device, most = decoder.model, page_table.device, max(sizes)
        shape, dtype = model.shape, model.embedding.dtype
        self.sizes, self._decoder, self._page_table = sizes, decoder, page_table
        self._layers = len(model.layers)
        kv_heads = decoder.cache.pool.shape[2]
        self._ids = torch.zeros(most, dtype=torch.int64, device=device)
        self._rows = torch.full((most,), spare_row, dtype=torch.int32, device=device)
        self._positions = torch.zeros(most, dtype=torch.int32, device=device)
        self._x = torch.zeros(most, shape.hidden, dtype=dtype, device=device)
        self._qkv = torch.zeros(most, model.heads + 2 * kv_heads, shape.head_dim, dtype=dtype, device=device)
        self._attended = torch.zeros(most, model.heads * shape.head_dim, dtype=dtype, device=device)
        self._graphs: dict[int, list[torch.cuda.CUDAGraph]] = {}
        stream = torch.cuda.Stream(device)
        for size in sorted(sizes, reverse=True):  # the largest first: the others fit in its memory
            with decoder.running():
                for index in range(self._layers):
                    self._piece(index, size)
                stream.wait_stream(torch.cuda.current_stream(device))
                self._graphs[size] = []
                for index in range(self._layers):
                    with _capture(stream, pool) as graph:
                        self._piece(index, size)
                    self._graphs[size].append(graph)
            torch.cuda.current_stream(device).wait_stream(stream)

    def hidden(
        self, tokens: Tokens, attend: Attend, wanted: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """As `FusedDecoder.hidden`; the residual stream is valid until the next call."""
        decoder, size = self._decoder, len(tokens.ids)
        for kept, given in (
            (self._ids, tokens.ids), (self._rows, tokens.rows), (self._positions, tokens.positions)
        ):  # fmt: skip
            kept[:size].copy_(given)
        attended = self._attended[:size]
        for index, graph in enumerate(self._graphs[size]):
            graph.replay()
            if index == self._layers - 1:
                break
            attended.copy_(attend(self._qkv[:size], *decoder.cache.layer(index)))
        return decoder.end(self._qkv[:size], self._x[:size], attend, wanted)

    def _piece(self, index: int, size: int) -> None:
        """From the attention of the layer before (from the token ids, for the first) to this layer's."""
        decoder, x = self._decoder, self._x[:size]
        tokens = Tokens(self._ids[:size], self._rows[:size], self._positions[:size])
        delta = None
        if index == 0:
            x.copy_(F.embedding(tokens.ids, decoder.model.embedding))
        else:
            delta = decoder.behind_attention(index - 1, x, self._attended[:size])
        self._qkv[:size].copy_(decoder.before_attention(index, x, delta, tokens, self._page_table))


@contextmanager
def _capture(stream: torch.cuda.Stream, pool: tuple[int, int]) -> Iterator[torch.cuda.CUDAGraph]:
    """`torch.cuda.graph` without its garbage collection and synchronisation, which cost seconds for hundreds."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        # NCCL's watchdog thread asks for events meanwhile, which the default mode forbids to all threads.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            yield graph
        finally:
            graph.capture_end()
