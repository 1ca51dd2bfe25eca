"""The decoder's step on a GPU: the arithmetic of `model.Decoder.forward` in seven to nine kernels a layer.

Matrix products of 1 to 64 rows use `small_batch_linear`, larger ones cuBLAS. If Transformer Engine made the layers, it
computes all of them, and the kernels here quantise its inputs up to 256 rows. All inputs of a step are tensors of fixed
size, so the same code runs eagerly and is captured in a CUDA graph.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.backend import Attend, Tokens
from llmval_runners.engine.fp8 import TE_ROWS, Fp8Weight, TeLinear
from llmval_runners.engine.kernels.fused_ops import (
    LinearInput,
    add_rms_norm,
    linear_input,
    rope_and_cache,
    silu_mul,
    with_one_scale,
)
from llmval_runners.engine.kernels.small_batch_linear import MAX_ROWS, small_batch_linear, tiles_for
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder, Layer, Linear, activate, norm_heads
from llmval_runners.process.errors import Refused

# With more rows, Transformer Engine quantises its inputs itself: its own kernels take little of the time then, and
# ours would look for the largest of many values in each program.
MAX_QUANTISED_ROWS = 256
# Of Transformer Engine's product of values that are quantised here, beside that of the values that it quantises.
_MOST_DIFFERENCE = 1e-3


class FusedDecoder:
    """Runs a decoder's weights with fused kernels, on the weights' device."""

    def __init__(self, model: Decoder, cache: PagedKVCache) -> None:
        self.model, self.cache = model, cache
        first = model.layers[0].qkv
        self.fp8 = isinstance(first, Fp8Weight)  # not TeLinear, whose inputs have one scale for all rows
        self._te = isinstance(first, TeLinear)
        # Entered around a step's products.
        self.autocast = first.engine.autocast if isinstance(first, TeLinear) else nullcontext
        device = model.embedding.device
        self._processors = torch.cuda.get_device_properties(device).multi_processor_count
        # The next kernel adds the partial sums of a split product. An all-reduce needs the complete sum.
        self._keep_partial_sums = model.parallel.size == 1
        if isinstance(first, TeLinear):
            self._check_quantised(first)

    @torch.inference_mode()
    def _check_quantised(self, layer: TeLinear) -> None:
        """Refuse a Transformer Engine that gives other results for inputs that are quantised here than for its own.

        Its recipe has options that an environment variable sets, and its tensors are no stable interface.
        """
        dtype, device, version = self.model.embedding.dtype, self.model.embedding.device, layer.engine.version
        draw = torch.Generator(device).manual_seed(0)
        x = torch.randn(3, layer.weight.shape[1], generator=draw, device=device).to(dtype)
        with self.autocast():
            own, expected = self.linear(layer, linear_input(x, False, True), split=False)[0].float(), layer(x).float()
        difference = float((own - expected).norm() / expected.norm())
        if not difference < _MOST_DIFFERENCE:
            raise Refused(
                f"Transformer Engine {version} multiplies values that are quantised already to other results than its "
                f"own (relative difference {difference:.2g}): unset NVTE_FP8_CURRENT_SCALING_POWER_2_SCALES if it is "
                "set, or pass --fp8-mode native."
            )

    def forward(
        self, tokens: Tokens, page_table: torch.Tensor, attend: Attend, output_indices: torch.Tensor | None = None,
        *, fused_rope: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor] | None:  # fmt: skip
        """Run all layers, and write the tokens' keys and values to the cache.

        In the last layer, a token without an output needs only its key and value.

        Args:
            tokens: the step's tokens.
            page_table: int32 [rows, pages].
            attend: the step's attention.
            output_indices: int64, the indices of the tokens that produce an output; None: all do.
            fused_rope: `attend` takes the projection's partial sums [partial sums, tokens, …]; it rotates queries and
                keys, and writes keys and values to the cache itself.

        Returns:
            The residual stream [outputs, hidden] before the last MLP is added, and that MLP's partial sums; None if
            `output_indices` is empty.
        """
        x = F.embedding(tokens.ids, self.model.embedding)
        residual_update: torch.Tensor | None = None
        last = len(self.model.layers) - 1

        def before(index: int) -> torch.Tensor:
            if fused_rope:
                return self.qkv(index, x, residual_update)
            return self.pre_attention(index, x, residual_update, tokens, page_table)

        with self.autocast():
            for index in range(last):
                qkv = before(index)
                residual_update = self.post_attention(index, x, attend(qkv, *self.cache.layer(index)))
            qkv = before(last)
        if output_indices is not None and not len(output_indices):
            return None
        return self.last_layer(x, attend(qkv, *self.cache.layer(last)), output_indices)

    def pre_attention(
        self, index: int, x: torch.Tensor, residual_update: torch.Tensor | None, tokens: Tokens,
        page_table: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Layer `index` up to its attention: returns the rotated qkv and writes keys and values to the cache.

        Adds `residual_update`, the previous layer's MLP, to `x` in place.
        """
        model, (keys, values) = self.model, self.cache.layer(index)
        return rope_and_cache(
            self.qkv(index, x, residual_update), model.frequencies, tokens.rows, tokens.positions, page_table, keys,
            values, heads=model.heads, page_size=self.cache.page_size, dtype=x.dtype,
        )  # fmt: skip

    def qkv(self, index: int, x: torch.Tensor, residual_update: torch.Tensor | None) -> torch.Tensor:
        """Layer `index` up to its query, key and value projection: [partial sums, tokens, …]. Changes `x` in place."""
        layer = self.model.layers[index]
        eps, largest = self.model.shape.norm_eps, self._largest(len(x))
        normed = add_rms_norm(x, residual_update, layer.attention_norm, eps, self.fp8, largest)
        if layer.query_norm is None:
            return _biased(self.linear(layer.qkv, normed, split=True), layer.qkv_bias)
        return self._norm_heads(layer, _biased(self.linear(layer.qkv, normed, split=False), layer.qkv_bias))

    def _norm_heads(self, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
        """RMSNorm of each head's query and key in qkv [1, tokens, …]; the values stay as they are."""
        model, eps = self.model, self.model.shape.norm_eps
        q, k, v = (
            qkv[0]
            .view(qkv.shape[1], -1, model.shape.head_dim)
            .split_with_sizes((model.heads, model.kv_heads, model.kv_heads), dim=1)
        )
        q, k = norm_heads(q, layer.query_norm, eps), norm_heads(k, layer.key_norm, eps)
        return torch.cat((q, k, v), dim=1).view(qkv.shape)

    def post_attention(self, index: int, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Layer `index` after its attention: the partial sums of its MLP. Adds the attention's output to `x`."""
        layer, fp8, largest = self.model.layers[index], self.fp8, self._largest(len(x))
        attention_update = self._reduced(layer.output, linear_input(attended, fp8, largest), layer.output_bias)
        # Only what is needed later has a name, so that the rest of the memory is free again for the next products.
        gate_up = self.linear(
            layer.gate_up,
            add_rms_norm(x, attention_update, layer.mlp_norm, self.model.shape.norm_eps, fp8, largest),
            split=False,
        )
        activated = self._activated(_biased(gate_up, layer.gate_up_bias)[0])
        del gate_up
        return self._reduced(layer.down, activated, layer.down_bias)

    def _activated(self, gate_up: torch.Tensor) -> LinearInput:
        """activation(gate) · up of gate_up [rows, 2 · width]. The fused kernel has SiLU only."""
        name, largest = self.model.shape.activation, self._largest(len(gate_up))
        if name == "silu":
            return silu_mul(gate_up, self.fp8, largest)
        gate, up = gate_up.chunk(2, dim=-1)
        return linear_input(activate(name, gate) * up, self.fp8, largest)

    def _largest(self, rows: int) -> bool:
        """Whether the kernels before a product of `rows` also find the largest value of each row."""
        return self._te and rows <= MAX_QUANTISED_ROWS

    def last_layer(
        self, x: torch.Tensor, attended: torch.Tensor, output_indices: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer after its attention; returns the same as `forward`."""
        if output_indices is not None:
            x, attended = x.index_select(0, output_indices), attended.index_select(0, output_indices)
        with self.autocast():
            return x, self.post_attention(len(self.model.layers) - 1, x, attended)

    def logits(self, x: torch.Tensor, residual_update: torch.Tensor) -> torch.Tensor:
        """This rank's logits [rows, vocab / ranks] from the result of `forward`."""
        model = self.model
        normed = add_rms_norm(x, residual_update, model.norm, model.shape.norm_eps, False)
        return self.linear(model.head, normed, split=False)[0]

    def linear(self, layer: Linear | Fp8Weight | TeLinear, x: LinearInput, *, split: bool) -> torch.Tensor:
        """x · Wᵀ: [partial sums, rows, out]. Without `split`, there is one partial sum."""
        if isinstance(layer, TeLinear):
            if x.largest is None:
                return layer(x.values)[None]
            quantised = with_one_scale(x, TE_ROWS)
            assert quantised.scales is not None
            return layer.of_fp8(quantised.values, quantised.scales, x.values.dtype)[: len(x.values)][None]
        (features, width), rows = layer.weight.shape, len(x.values)
        dtype = self.model.embedding.dtype
        scales = layer.scales if isinstance(layer, Fp8Weight) else None
        if rows <= MAX_ROWS and dtype == torch.bfloat16:
            tiles = tiles_for(rows, features, width, scales is not None, self._processors, split)
            if tiles is not None:
                return small_batch_linear(x, layer.weight, scales, dtype, tiles)
        if scales is None or x.scales is None:
            return F.linear(x.values, layer.weight)[None]
        product = torch._scaled_mm(
            x.values, layer.weight.t(), scale_a=x.scales[:, None], scale_b=scales[None], out_dtype=dtype,
            use_fast_accum=True,
        )  # fmt: skip
        return product[None]

    def _reduced(self, layer: Linear | Fp8Weight | TeLinear, x: LinearInput, bias: torch.Tensor | None) -> torch.Tensor:
        """The product plus `bias`, summed over the ranks. Each rank holds a slice of its inputs."""
        partial_sums = _biased(self.linear(layer, x, split=self._keep_partial_sums), bias)
        return partial_sums if self._keep_partial_sums else self.model.parallel.all_reduce(partial_sums)


def _biased(partial_sums: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Add `bias` [features] to the first of the partial sums [partial sums, rows, features], in place."""
    if bias is not None:
        partial_sums[0].add_(bias)
    return partial_sums
