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
from llmval_runners.engine.shapes import DividedRope, ModelShape, YarnRope


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
    # None if the model has none. The biases of `output` and `down` are zero on all ranks but the first, because the
    # ranks' results are summed.
    qkv_bias: torch.Tensor | None = None
    output_bias: torch.Tensor | None = None
    gate_up_bias: torch.Tensor | None = None
    down_bias: torch.Tensor | None = None
    query_norm: torch.Tensor | None = None  # [head dim]
    key_norm: torch.Tensor | None = None


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
        self.kv_heads = shape.kv_heads_on(parallel.size)
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
            qkv = layer.qkv(F.rms_norm(x, (shape.hidden,), layer.attention_norm, eps))
            q, k, v = (
                add_bias(qkv, layer.qkv_bias)
                .view(len(tokens), -1, shape.head_dim)
                .split_with_sizes((self.heads, self.kv_heads, self.kv_heads), dim=1)
            )
            q, k = norm_heads(q, layer.query_norm, eps), norm_heads(k, layer.key_norm, eps)
            cache.write(index, slots, rotate(k, cos, sin), v)
            attended = attention.attend(index, rotate(q, cos, sin), cache)
            x = x + self.parallel.all_reduce(add_bias(layer.output(attended.flatten(1)), layer.output_bias))
            gate_up = layer.gate_up(F.rms_norm(x, (shape.hidden,), layer.mlp_norm, eps))
            gate, up = add_bias(gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            down = layer.down(activate(shape.activation, gate) * up)
            x = x + self.parallel.all_reduce(add_bias(down, layer.down_bias))
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


def add_bias(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x [rows, features] plus `bias` [features]; x itself if there is none."""
    return x if bias is None else x + bias


def norm_heads(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """RMSNorm of each head of x [tokens, heads, head dim] by `weight` [head dim]; x itself if there is none."""
    return x if weight is None else F.rms_norm(x, weight.shape, weight, eps)


def activate(name: str, gate: torch.Tensor) -> torch.Tensor:
    """The activation `name` (`ModelShape.activation`): silu, gelu, gelu_tanh or relu.

    Raises:
        ValueError: there is no such activation.
    """
    if name == "silu":
        return F.silu(gate)
    if name == "gelu":
        return F.gelu(gate)
    if name == "gelu_tanh":
        return F.gelu(gate, approximate="tanh")
    if name == "relu":
        return F.relu(gate)
    raise ValueError(f"there is no activation {name!r}")


def rope_frequencies(shape: ModelShape) -> torch.Tensor:
    """Rotary frequencies float32 [head_dim / 2] (arXiv:2104.09864), with the shape's scaling.

    Llama 3.1's scaling is Hugging Face's `rope_type: llama3`: low frequencies are divided by `factor`, high frequencies
    stay unchanged, and those between are blended.
    """
    frequencies = 1.0 / shape.rope_theta ** (torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    scaling = shape.rope_scaling
    if scaling is None:
        return frequencies
    if isinstance(scaling, DividedRope):
        return frequencies / torch.tensor(scaling.divisors, dtype=torch.float32)
    if isinstance(scaling, YarnRope):
        return _yarn(frequencies, scaling, shape.rope_theta)
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # within the original context
    unscaled = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1)
    return frequencies * (unscaled + (1 - unscaled) / scaling.factor)


def _yarn(frequencies: torch.Tensor, scaling: YarnRope, theta: float) -> torch.Tensor:
    """`frequencies` [pairs] scaled as in arXiv:2309.00071, section 3.2, and in transformers' `rope_type: yarn`."""
    dim = 2 * len(frequencies)

    def place(turns: float) -> float:
        """The pair, as a number between two pairs, that turns as often within the original context."""
        return dim * math.log(scaling.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    divided = ((torch.arange(len(frequencies), dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return frequencies / scaling.factor * divided + frequencies * (1 - divided)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate `x` [tokens, heads, head dim]. Pairs are (i, i + head dim / 2), as in Hugging Face's Llama."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
