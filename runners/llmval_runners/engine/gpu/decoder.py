"""The decoder's step on a GPU: the arithmetic of `model.Decoder.hidden` in seven to nine kernels a layer.

Matrix products of 1 to 64 rows stream the weights (`stream_linear`), larger ones are cuBLAS's, and all are Transformer
Engine's where it made the layers. All that a step depends
on is in tensors of fixed size, so the same code runs eagerly and is captured in a CUDA graph.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.kernels import fused_ops as kernels
from llmval_runners.engine.kernels.fused_ops import Rows
from llmval_runners.engine.kernels.small_batch_linear import MOST_ROWS, stream, tiles_for
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder, Linear
from llmval_runners.engine.te_linear import TeLinear

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(qkv [tokens, heads + 2 · KV heads, head dim], keys, values [KV heads, slots, head dim]) → [tokens, heads · dim]."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A step's tokens: all [tokens]."""

    ids: torch.Tensor  # int64
    rows: torch.Tensor  # int32: of the page table
    positions: torch.Tensor  # int32

    def until(self, count: int) -> "Tokens":
        """The first `count`."""
        return Tokens(self.ids[:count], self.rows[:count], self.positions[:count])

    def behind(self, count: int) -> "Tokens":
        """All but the first `count`."""
        return Tokens(self.ids[count:], self.rows[count:], self.positions[count:])


class FusedDecoder:
    """Runs a decoder's weights on the device that they are on."""

    def __init__(self, model: Decoder, cache: PagedKVCache) -> None:
        self.model, self.cache = model, cache
        first = model.layers[0].qkv
        self.fp8 = isinstance(first, Fp8Weight)  # Transformer Engine quantises what it is given itself
        # Entered around a step's products.
        self.running = first.engine.running if isinstance(first, TeLinear) else nullcontext
        device = model.embedding.device
        self._processors = torch.cuda.get_device_properties(device).multi_processor_count
        # Parts of a split product are added by the next kernel here, but an all-reduce wants the sum.
        self._parts_pass = model.parallel.size == 1

    def hidden(
        self, tokens: Tokens, page_table: torch.Tensor, attend: Attend, wanted: torch.Tensor | None = None,
        *, whole: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor] | None:  # fmt: skip
        """The residual stream [tokens, hidden] before the last layer's MLP is added, and that MLP's parts.

        Writes the tokens' keys and values to the cache. Of the last layer nothing but these is needed of a token that
        gives no output token: `wanted` (int64, indices) names those that do, and None comes back where there are none.
        `whole`: `attend` takes the parts of the projection [parts, tokens, …], and rotates and writes itself.
        """
        x = F.embedding(tokens.ids, self.model.embedding)
        delta: torch.Tensor | None = None
        last = len(self.model.layers) - 1

        def before(index: int) -> torch.Tensor:
            if whole:
                return self.projected(index, x, delta)
            return self.before_attention(index, x, delta, tokens, page_table)

        with self.running():
            for index in range(last):
                qkv = before(index)
                delta = self.behind_attention(index, x, attend(qkv, *self.cache.layer(index)))
            qkv = before(last)
        if wanted is not None and not len(wanted):
            return None
        return self.end(x, attend(qkv, *self.cache.layer(last)), wanted)

    def before_attention(
        self, index: int, x: torch.Tensor, delta: torch.Tensor | None, tokens: Tokens, page_table: torch.Tensor
    ) -> torch.Tensor:
        """Layer `index` up to its attention: qkv. Adds `delta`, the last layer's MLP, to `x` and fills the cache."""
        model, (keys, values) = self.model, self.cache.layer(index)
        return kernels.rotate_write(
            self.projected(index, x, delta), model.frequencies, tokens.rows, tokens.positions, page_table, keys, values,
            heads=model.heads, page_size=self.cache.page_size, dtype=x.dtype,
        )  # fmt: skip

    def projected(self, index: int, x: torch.Tensor, delta: torch.Tensor | None) -> torch.Tensor:
        """As `before_attention`, but the parts of the projection as they are: [parts, tokens, …]."""
        layer = self.model.layers[index]
        normed = kernels.norm(x, delta, layer.attention_norm, self.model.shape.norm_eps, self.fp8)
        return self.linear(layer.qkv, normed, split=True)

    def behind_attention(self, index: int, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Layer `index` from its attention on: the parts of its MLP. Adds the attention to `x`."""
        layer, fp8 = self.model.layers[index], self.fp8
        delta = self._reduced(layer.output, kernels.as_rows(attended, fp8))
        gate_up = self.linear(layer.gate_up, kernels.norm(x, delta, layer.mlp_norm, self.model.shape.norm_eps, fp8),
                              split=False)  # fmt: skip
        return self._reduced(layer.down, kernels.silu_mul(gate_up[0], fp8))

    def end(
        self, x: torch.Tensor, attended: torch.Tensor, wanted: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer from its attention on, as `hidden` returns it."""
        if wanted is not None:
            x, attended = x.index_select(0, wanted), attended.index_select(0, wanted)
        with self.running():
            return x, self.behind_attention(len(self.model.layers) - 1, x, attended)

    def finish(self, x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Logits of this rank [rows, vocab / ranks] from what `hidden` gave, or some rows of it."""
        model = self.model
        return self.linear(model.head, kernels.norm(x, delta, model.norm, model.shape.norm_eps, False), split=False)[0]

    def linear(self, layer: Linear | Fp8Weight | TeLinear, x: Rows, *, split: bool) -> torch.Tensor:
        """x · Wᵀ: [parts, rows, out], one part unless `split` lets it be more."""
        if isinstance(layer, TeLinear):
            return layer(x.values)[None]
        rows, weight = len(x.values), layer.weight
        dtype = self.model.embedding.dtype
        scales = layer.scales if isinstance(layer, Fp8Weight) else None
        if rows <= MOST_ROWS and dtype == torch.bfloat16:
            tiles = tiles_for(rows, *weight.shape, scales is not None, self._processors, split)
            if tiles is not None:
                return stream(x, weight, scales, dtype, tiles)
        if scales is None:
            return F.linear(x.values, weight)[None]
        product = torch._scaled_mm(
            x.values, weight.t(), scale_a=x.scales[:, None], scale_b=scales[None], out_dtype=dtype, use_fast_accum=True
        )
        return product[None]

    def _reduced(self, layer: Linear | Fp8Weight | TeLinear, x: Rows) -> torch.Tensor:
        """The product summed over the ranks, each of which holds some of its inputs."""
        parts = self.linear(layer, x, split=self._parts_pass)
        return parts if self._parts_pass else self.model.parallel.all_reduce(parts)
