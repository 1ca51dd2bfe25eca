"""The decoder: Llama's arithmetic on plain tensors, split over the ranks as Megatron-LM does (arXiv:1909.08053).

Query, key, value, gate and up projections are split by output features, output and down projections by input features,
so a layer needs two all-reduces. The embedding table is whole on every rank: a look-up reads only its rows, so
splitting it would save 1 to 2 GiB and cost one more all-reduce each step. The LM head, which is read whole each step,
is split by vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.reference import AttentionBackend
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Linear:
    """x · Wᵀ with W [out, in]. The place where another precision comes in."""

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

    def hidden(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        cache: PagedKVCache,
        attention: AttentionBackend,
    ) -> torch.Tensor:
        """Final hidden states [tokens, hidden] of a flattened step, whose keys and values go to the cache at `slots`.

        `tokens`, `positions` and `slots` are int64 [tokens]; `attention.begin` has seen the step's layout.
        """
        shape, eps = self.shape, self.shape.norm_eps
        x = F.embedding(tokens, self.embedding)
        angles = positions[:, None].float() * self.frequencies  # float32: bf16 cannot count positions past 256
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(F.rms_norm(x, (shape.hidden,), layer.attention_norm, eps)).view(
                len(tokens), -1, shape.head_dim
            )
            q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
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

        Temperature 0 is greedy. Above, Gumbel-max: argmax(logits / T + Gumbel noise) is a draw from the softmax, and an
        argmax needs only each rank's best value and index, where a softmax would gather the whole vocabulary.
        """
        scores = self.logits(hidden)
        if temperature > 0:
            return sampled(scores, temperature, generator, self.parallel)
        return greedy(scores, self.parallel)


def sampled(
    scores: torch.Tensor, temperature: float, generator: torch.Generator | None, parallel: Parallel
) -> torch.Tensor:
    """A draw from the softmax of each row of this rank's `scores` [rows, vocab / ranks], float32: int64 [rows]."""
    uniform = torch.rand(scores.shape, generator=generator, device=scores.device).clamp_(min=1e-20)
    return greedy(scores / temperature - torch.log(-torch.log(uniform)), parallel)


def greedy(scores: torch.Tensor, parallel: Parallel) -> torch.Tensor:
    """The best token of each row, by this rank's `scores` [rows, vocab / ranks]: int64 [rows], alike on all ranks."""
    best, index = scores.max(dim=-1)
    if parallel.size == 1:
        return index
    # float64 holds both a float32 score and an index exactly, so one all-gather carries both.
    index = index + parallel.rank * scores.shape[-1]
    both = parallel.all_gather(torch.stack((best.double(), index.double())))  # [ranks, 2, rows]
    winner = both[:, 0].argmax(dim=0, keepdim=True)
    return both[:, 1].gather(0, winner)[0].long()


def rope_frequencies(shape: ModelShape) -> torch.Tensor:
    """Rotary frequencies float32 [head_dim / 2] (arXiv:2104.09864), with Llama 3.1's scaling where the shape has it.

    The scaling is that of Hugging Face's `rope_type: llama3`: long wavelengths are divided by `factor`, short ones
    are kept, and those between are blended.
    """
    frequencies = 1.0 / shape.rope_theta ** (torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    scaling = shape.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # within the original context
    kept = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate `x` [tokens, heads, head dim]; halves are paired (first with second half), as in Hugging Face's Llama."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
