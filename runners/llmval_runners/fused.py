"""The decoder's step on a GPU: the arithmetic of `model.Decoder.hidden` in eight or nine kernels a layer.

Matrix products of 1 to 64 rows stream the weights (`stream_linear`), larger ones are cuBLAS's, and all are Transformer
Engine's where it made the layers. All that a step depends
on is in tensors of fixed size, so the same code runs eagerly and is captured in a CUDA graph.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from llmval_runners import kernels
from llmval_runners.fp8 import Fp8Weight
from llmval_runners.kernels import Rows
from llmval_runners.kv_cache import PagedKVCache
from llmval_runners.model import Decoder, Linear
from llmval_runners.stream_linear import MOST_ROWS, stream, tiles_for
from llmval_runners.te_linear import TeLinear

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
        self._running = first.engine.running if isinstance(first, TeLinear) else nullcontext
        device = model.embedding.device
        self._processors = torch.cuda.get_device_properties(device).multi_processor_count
        # Parts of a split product are added by the next kernel here, but an all-reduce wants the sum.
        self._parts_pass = model.parallel.size == 1

    def hidden(
        self, tokens: Tokens, page_table: torch.Tensor, attend: Attend, wanted: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The residual stream [tokens, hidden] before the last layer's MLP is added, and that MLP's parts.

        Writes the tokens' keys and values to the cache. Of the last layer nothing but these is needed of a token that
        gives no output token: `wanted` (int64, indices) names those that do, and None comes back where there are none.
        """
        with self._running():
            return self._hidden(tokens, page_table, attend, wanted)

    def _hidden(
        self, tokens: Tokens, page_table: torch.Tensor, attend: Attend, wanted: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        model, eps, fp8 = self.model, self.model.shape.norm_eps, self.fp8
        x = F.embedding(tokens.ids, model.embedding)
        delta: torch.Tensor | None = None
        for index, layer in enumerate(model.layers):
            keys, values = self.cache.layer(index)
            parts = self.linear(layer.qkv, kernels.norm(x, delta, layer.attention_norm, eps, fp8), split=True)
            qkv = kernels.rotate_write(
                parts, model.frequencies, tokens.rows, tokens.positions, page_table, keys, values,
                heads=model.heads, page_size=self.cache.page_size, dtype=x.dtype,
            )  # fmt: skip
            if wanted is not None and index == len(model.layers) - 1:
                if not len(wanted):
                    return None
                x, attended = x.index_select(0, wanted), attend(qkv, keys, values).index_select(0, wanted)
            else:
                attended = attend(qkv, keys, values)
            delta = self._reduced(layer.output, kernels.as_rows(attended, fp8))
            gate_up = self.linear(layer.gate_up, kernels.norm(x, delta, layer.mlp_norm, eps, fp8), split=False)
            delta = self._reduced(layer.down, kernels.silu_mul(gate_up[0], fp8))
        assert delta is not None
        return x, delta

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
