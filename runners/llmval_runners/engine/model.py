"""The decoder: Llama's arithmetic on plain tensors, sharded over the ranks as in Megatron-LM (arXiv:1909.08053).

Query, key, value, gate and up projections are split by output features, output and down projections by input features,
so a layer needs two all-reduces. Every rank has the whole embedding table: a look-up reads only a few rows, so
splitting it would save 1 to 2 GiB and cost one more all-reduce each step. The LM head is read completely each step, so
it is split by vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.backend import CpuAttention
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Linear:
    """x · Wᵀ with W [out, in]. `fp8.Fp8Weight` and `fp8.TeLinear` replace it in the FP8 modes."""

    weight: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


@dataclass(frozen=True, slots=True)
class Layer:
    """One rank's part of a decoder layer. `qkv` and `gate_up` are fused: one GEMM instead of three and two."""

    attention_norm: torch.Tensor
    qkv: Linear
    output: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


class Decoder:
    """One rank's part of the model."""

    def __init__(
        self,
        shape: ModelShape,
        parallel: Parallel,
        *,
        embedding: torch.Tensor,
        layers: list[Layer],
        norm: torch.Tensor,
        head: Linear,
    ) -> None:
        self.shape, self.parallel = shape, parallel
        self.embedding, self.layers, self.norm, self.head = embedding, layers, norm, head
        self.heads = shape.heads // parallel.size
        self.kv_heads = shape.kv_heads // parallel.size
        self.frequencies = rope_frequencies(shape).to(embedding.device)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        cache: PagedKVCache,
        attention: CpuAttention,
    ) -> torch.Tensor:
        """Final hidden states [tokens, hidden] of a flattened step. Writes its keys and values to the cache.

        `tokens`, `positions` and `slots` (of the cache) are int64 [tokens]. Call `attention.begin` before.
        """
        shape, eps = self.shape, self.shape.norm_eps
        x = F.embedding(tokens, self.embedding)
        angles = positions[:, None].float() * self.frequencies  # float32: bf16 cannot count positions past 256
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(F.rms_norm(x, (shape.hidden,), layer.attention_norm, eps)).view(
                len(tokens), -1, shape.head_dim
            )
            q, k, v = qkv.split_with_sizes((self.heads, self.kv_heads, self.kv_heads), dim=1)
            cache.write(index, slots, rotate(k, cos, sin), v)
            attended = attention.attend(index, rotate(q, cos, sin), cache)
            x = x + self.parallel.all_reduce(layer.output(attended.flatten(1)))
            gate, up = layer.gate_up(F.rms_norm(x, (shape.hidden,), layer.mlp_norm, eps)).chunk(2, dim=-1)
            x = x + self.parallel.all_reduce(layer.down(F.silu(gate) * up))
        return F.rms_norm(x, (shape.hidden,), self.norm, eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """This rank's slice of the logits: [rows, vocab / ranks], float32."""
        return self.head(hidden).float()

    def sample(self, hidden: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
        """One token id for each row of `hidden` [rows, hidden]: int64 [rows], the same on every rank.

        Temperature 0 is greedy, other temperatures use `gumbel_max`.
        """
        scores = self.logits(hidden)
        if temperature > 0:
            return gumbel_max(scores, temperature, generator, self.parallel)
        return greedy(scores, self.parallel)


def gumbel_max(
    scores: torch.Tensor, temperature: float, generator: torch.Generator | None, parallel: Parallel
) -> torch.Tensor:
    """Sample from the softmax of each row of `scores` [rows, vocab / ranks], float32, this rank's slice: int64 [rows].

    argmax(scores / T + Gumbel noise) is a sample from the softmax. An argmax needs only each rank's best value and
    index, but a softmax would gather the whole vocabulary.
    """
    uniform = torch.rand(scores.shape, generator=generator, device=scores.device).clamp_(min=1e-20)
    return greedy(scores / temperature - torch.log(-torch.log(uniform)), parallel)


def greedy(scores: torch.Tensor, parallel: Parallel) -> torch.Tensor:
    """The best token of each row of `scores` [rows, vocab / ranks], this rank's slice: int64 [rows], on every rank."""
    best, index = scores.max(dim=-1)
    if parallel.size == 1:
        return index
    # float64 holds both a float32 score and an index exactly, so one all-gather carries both.
    index = index + parallel.rank * scores.shape[-1]
    both = parallel.all_gather(torch.stack((best.double(), index.double())))  # [ranks, 2, rows]
    winner = both[:, 0].argmax(dim=0, keepdim=True)
    return both[:, 1].gather(0, winner)[0].long()


def rope_frequencies(shape: ModelShape) -> torch.Tensor:
    """Rotary frequencies float32 [head_dim / 2] (arXiv:2104.09864), with Llama 3.1's scaling if the shape has it.

    The scaling is Hugging Face's `rope_type: llama3`: low frequencies are divided by `factor`, high frequencies stay
    unchanged, and those between are blended.
    """
    frequencies = 1.0 / shape.rope_theta ** (torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    scaling = shape.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # within the original context
    unscaled = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1)
    return frequencies * (unscaled + (1 - unscaled) / scaling.factor)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate `x` [tokens, heads, head dim]. Pairs are (i, i + head dim / 2), as in Hugging Face's Llama."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
