"""Plain PyTorch in place of the engine's Triton kernels, for the GPU decoder on a CPU. Import it in its own process."""

from types import SimpleNamespace
from typing import Any

import no_triton  # type: ignore[import-not-found]  # noqa: F401  (replaces Triton, before the engine imports it)
import torch
import torch.nn.functional as F
from llmval_runners.engine.gpu import decoder
from llmval_runners.engine.kernels.fused_ops import LinearInput
from llmval_runners.engine.model import rotate

torch.cuda.get_device_properties = lambda device=None: SimpleNamespace(multi_processor_count=4)  # type: ignore[assignment, return-value]


def add_rms_norm(
    x: torch.Tensor, residual_update: torch.Tensor | None, weight: torch.Tensor, eps: float, fp8: bool,
    largest: bool = False,
) -> LinearInput:  # fmt: skip
    if residual_update is not None:
        x += residual_update.sum(0)
    return linear_input(F.rms_norm(x, weight.shape, weight, eps), fp8, largest)


def silu_mul(gate_up: torch.Tensor, fp8: bool, largest: bool = False) -> LinearInput:
    gate, up = gate_up.chunk(2, dim=-1)
    return linear_input(F.silu(gate) * up, fp8, largest)


def linear_input(x: torch.Tensor, fp8: bool, largest: bool = False) -> LinearInput:
    return LinearInput(x, None, x.abs().amax(1).float() if largest else None)


def with_one_scale(x: LinearInput, multiple: int) -> LinearInput:
    assert x.largest is not None and len(x.largest) == len(x.values)
    scale = torch.tensor(448.0) / x.largest.max()
    filled = F.pad(x.values.float() * scale, (0, 0, 0, -len(x.values) % multiple))
    return LinearInput(filled.to(torch.float8_e4m3fn), (1 / scale).reshape(1))


def rope_and_cache(
    partial_sums: torch.Tensor, frequencies: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor,
    page_table: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, heads: int, page_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    kv_heads, _, dim = keys.shape
    qkv = partial_sums.sum(0).view(len(rows), -1, dim)
    q, k, v = qkv.split_with_sizes((heads, kv_heads, kv_heads), dim=1)
    angles = positions[:, None].float() * frequencies
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    return torch.cat((rotate(q, cos, sin), rotate(k, cos, sin), v), dim=1)


def in_two_parts(
    x: LinearInput, weight: torch.Tensor, scales: torch.Tensor | None, dtype: torch.dtype, tiles: Any
) -> torch.Tensor:
    """The product as two partial sums, as a split product gives them."""
    half = weight.shape[1] // 2
    first, second = F.linear(x.values[:, :half], weight[:, :half]), F.linear(x.values[:, half:], weight[:, half:])
    return torch.stack((first, second)) if tiles == "split" else (first + second)[None]


for _name, _stand_in in {
    "add_rms_norm": add_rms_norm,
    "silu_mul": silu_mul,
    "linear_input": linear_input,
    "with_one_scale": with_one_scale,
    "rope_and_cache": rope_and_cache,
    "small_batch_linear": in_two_parts,
    "tiles_for": lambda *sizes: "split" if sizes[-1] else "whole",
}.items():
    setattr(decoder, _name, _stand_in)


def causal(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attention of one prompt from its first token."""
    heads = qkv.shape[1] - 2 * len(keys)
    q, k, v = qkv.transpose(0, 1).split_with_sizes((heads, len(keys), len(keys)))
    out = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)
    return out[0].transpose(0, 1).flatten(1)
