"""The workload: one dense causal prefill of a Llama-style decoder, tensor-parallel like Megatron-LM (arXiv:1909.08053).

The text of this file goes verbatim into the bundle's standalone script, so it needs torch alone and imports nothing of
this project. It does not use the engine's decoder, which is a serving loop over a paged cache with Python lists that
differ from step to step: the study is about how torch.compile handles a plain module with collectives inside.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Dimensions:
    """Whole-model sizes; `ranks` share heads, FFN and vocabulary."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    ranks: int
    norm_eps: float = 1e-5
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    activation: str = "silu"


OPTIONAL = ("qkv_bias", "output_bias", "gate_up_bias", "down_bias", "query_norm", "key_norm")


class Block(nn.Module):
    """One rank's part of a decoder layer: attention and SwiGLU, an all-reduce after each."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    qkv_bias: torch.Tensor | None
    output_bias: torch.Tensor | None
    gate_up_bias: torch.Tensor | None
    down_bias: torch.Tensor | None
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None

    def __init__(self, sizes: Dimensions, weights: dict[str, torch.Tensor | None], group: Any) -> None:
        super().__init__()
        self.heads, self.kv_heads = sizes.heads // sizes.ranks, max(1, sizes.kv_heads // sizes.ranks)
        self.head_dim, self.hidden, self.eps = sizes.head_dim, sizes.hidden, sizes.norm_eps
        self.activation = sizes.activation
        self.group = group  # None: one rank, so no collective
        for name, weight in (dict.fromkeys(OPTIONAL) | weights).items():
            self.register_parameter(name, None if weight is None else nn.Parameter(weight, requires_grad=False))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, hidden] to the same shape; `cos` and `sin` are [tokens, head dim / 2]."""
        batch, tokens, _ = x.shape
        qkv = F.linear(F.rms_norm(x, (self.hidden,), self.attention_norm, self.eps), self.qkv, self.qkv_bias)
        qkv = qkv.view(batch, tokens, -1, self.head_dim).transpose(1, 2)
        heads = (self.heads, self.kv_heads, self.kv_heads)
        q, k, v = qkv.split(heads, dim=1)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self.query_norm is not None:
            q = F.rms_norm(q, (self.head_dim,), self.query_norm, self.eps)
            k = F.rms_norm(k, (self.head_dim,), self.key_norm, self.eps)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.reduce(F.linear(attended.transpose(1, 2).flatten(2), self.output, self.output_bias))
        normed = F.rms_norm(x, (self.hidden,), self.mlp_norm, self.eps)
        gate, up = F.linear(normed, self.gate_up, self.gate_up_bias).chunk(2, dim=-1)
        return x + self.reduce(F.linear(self.activate(gate) * up, self.down, self.down_bias))

    def activate(self, gate: torch.Tensor) -> torch.Tensor:
        if self.activation == "silu":
            return F.silu(gate)
        if self.activation == "relu":
            return F.relu(gate)
        return F.gelu(gate, approximate="tanh" if self.activation == "gelu_tanh" else "none")

    def reduce(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.group is None else funcol.all_reduce(x, "sum", self.group)


class Prefill(nn.Module):
    """The whole forward pass. Returns the logits of each sequence's last token only, as a server needs them."""

    embedding: torch.Tensor
    norm: torch.Tensor
    head: torch.Tensor
    frequencies: torch.Tensor

    def __init__(
        self,
        sizes: Dimensions,
        blocks: list[Block],
        *,
        embedding: torch.Tensor,
        norm: torch.Tensor,
        head: torch.Tensor,
        frequencies: torch.Tensor,
    ) -> None:
        super().__init__()
        self.hidden, self.eps = sizes.hidden, sizes.norm_eps
        self.blocks = nn.ModuleList(blocks)
        for name, tensor in (("embedding", embedding), ("norm", norm), ("head", head), ("frequencies", frequencies)):
            self.register_buffer(name, tensor)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [batch, tokens] to this rank's slice of the logits: [batch, vocab / ranks], float32."""
        angles = torch.arange(tokens.shape[1], device=tokens.device)[:, None].float() * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        x = F.embedding(tokens, self.embedding)
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(F.rms_norm(x[:, -1], (self.hidden,), self.norm, self.eps), self.head).float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding (arXiv:2104.09864) of [batch, heads, tokens, head dim]; halves are paired."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def random_model(
    sizes: Dimensions, device: torch.device, dtype: torch.dtype, seed: int, rank: int, group: Any
) -> Prefill:
    """This rank's part, with normal weights of variance 1/fan-in. Unsharded tensors are equal on all ranks."""

    def draw(rows: int, columns: int, generator: torch.Generator, fan_in: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator, device=device, dtype=dtype).mul_(fan_in**-0.5)

    common, own = torch.Generator(device).manual_seed(seed), torch.Generator(device).manual_seed(seed + 1 + rank)
    queries = sizes.heads * sizes.head_dim // sizes.ranks
    keys = max(1, sizes.kv_heads // sizes.ranks) * sizes.head_dim
    ffn, whole = sizes.ffn // sizes.ranks, sizes.heads * sizes.head_dim
    ones = torch.ones(sizes.hidden, device=device, dtype=dtype)

    def zeros(width: int, wanted: bool) -> torch.Tensor | None:
        return torch.zeros(width, device=device, dtype=dtype) if wanted else None

    head_norm = torch.ones(sizes.head_dim, device=device, dtype=dtype) if sizes.qk_norm else None
    blocks = [
        Block(
            sizes,
            {
                "attention_norm": ones.clone(),
                "qkv": draw(queries + 2 * keys, sizes.hidden, own, sizes.hidden),
                "output": draw(sizes.hidden, queries, own, whole),
                "mlp_norm": ones.clone(),
                "gate_up": draw(2 * ffn, sizes.hidden, own, sizes.hidden),
                "down": draw(sizes.hidden, ffn, own, sizes.ffn),
                "qkv_bias": zeros(queries + 2 * keys, sizes.qkv_bias),
                "output_bias": zeros(sizes.hidden, sizes.output_bias),
                "gate_up_bias": zeros(2 * ffn, sizes.mlp_bias),
                "down_bias": zeros(sizes.hidden, sizes.mlp_bias),
                "query_norm": head_norm,
                "key_norm": head_norm,
            },
            group,
        )
        for _ in range(sizes.layers)
    ]
    return Prefill(
        sizes,
        blocks,
        embedding=draw(sizes.vocab, sizes.hidden, common, 1),
        norm=ones.clone(),
        head=draw(sizes.vocab // sizes.ranks, sizes.hidden, own, sizes.hidden),
        frequencies=1.0
        / 500_000.0 ** (torch.arange(0, sizes.head_dim, 2, dtype=torch.float32, device=device) / sizes.head_dim),
    )


def world_group(size: int) -> Any:
    """The group that `Block` reduces over; None for one rank."""
    return dist.group.WORLD if size > 1 else None
