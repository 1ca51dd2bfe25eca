"""Attention of the sweep's stack: one kernel per phase, chosen once and named in the result."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from llmval_runners.power.grid import Cell
from llmval_runners.process.errors import Refused
from torch.nn.attention import SDPBackend, sdpa_kernel

# By speed on Hopper: cuDNN is the fastest SDPA kernel in causal prefill and in decode.
_ORDER = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # q, k, v [batch, heads, tokens, head dim]


@dataclass(frozen=True, slots=True)
class Attention:
    """`attend`, to be called inside `context()`."""

    attend: Attend
    kernel: str
    context: Callable[[], AbstractContextManager[Any]]


def choose(backend: str, cell: Cell, phase: str, device: torch.device, dtype: torch.dtype, compiled: bool) -> Attention:
    """Choose the kernel of a phase: causal over the prompt in prefill, one query over the whole cache in decode.

    Raises:
        Refused: no kernel of that backend supports the shape here.
    """
    causal = phase == "prefill"
    return _flex(cell, causal, device, compiled) if backend == "flex" else _sdpa(cell, causal, device, dtype)


def _sdpa(cell: Cell, causal: bool, device: torch.device, dtype: torch.dtype) -> Attention:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    if device.type != "cuda":
        return Attention(attend, "scaled_dot_product_attention (CPU)", nullcontext)
    # Same layout as in the stack: Q, K and V share one matrix; in decode, K and V come from the cache.
    shape = (cell.batch, cell.shape.heads, cell.sequence_length, cell.shape.head_dim)
    tokens = cell.sequence_length if causal else 1
    packed = torch.randn(cell.batch, tokens, 3, *shape[1::2], device=device, dtype=dtype).permute(2, 0, 3, 1, 4)
    query, keys, values = packed.unbind(0)
    if not causal:
        keys, values = torch.randn(2, *shape, device=device, dtype=dtype).unbind(0)
    for kernel in _ORDER:
        try:
            with warnings.catch_warnings(), sdpa_kernel(kernel):
                warnings.simplefilter("ignore")  # SDPA warns about each reason why a kernel does not fit
                attend(query, keys, values)
                torch.cuda.synchronize(device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # "No available kernel"
            continue
        return Attention(attend, f"scaled_dot_product_attention, {kernel.name}", partial(sdpa_kernel, kernel))
    raise Refused(
        f"no kernel of scaled_dot_product_attention supports {shape} in {dtype} here: pass --attention-backend flex"
    )


def _flex(cell: Cell, causal: bool, device: torch.device, compiled: bool) -> Attention:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length = cell.sequence_length
    mask = create_block_mask(lambda b, h, q, kv: q >= kv, None, None, length, length, device=device) if causal else None
    if device.type == "cuda" or compiled:
        # Uncompiled, flex attention is a formula and not a kernel. So it is compiled even if the stack is not.
        fused = torch.compile(flex_attention, dynamic=False)
        return Attention(lambda q, k, v: fused(q, k, v, block_mask=mask), "flex_attention (compiled)", nullcontext)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with torch.compiler.set_stance("force_eager"):
            return flex_attention(q, k, v, block_mask=mask)

    warnings.filterwarnings("ignore", message="flex_attention called without torch.compile", category=UserWarning)
    return Attention(attend, "flex_attention, unfused (not compiled)", nullcontext)
