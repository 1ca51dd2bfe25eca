"""x · Wᵀ for 1 to 64 rows of x. The time is that of reading W once, so the kernels stream W.

For one row, each program reads a few rows of W from end to end and multiplies in float32. For 2 to 64 rows, W is the
left operand of the tensor cores, because it fills their 64 rows and x would not. Programs then share the width of W
(`splits`), so that all multiprocessors have work; the next kernel adds their partial sums. Each kernel loads its first
block of W before it waits for the kernel that computes x.
"""

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from llmval_runners.engine.kernels.fused_ops import LinearInput, has_pdl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

MAX_ROWS = 64
_SMALLEST_BLOCK = 512  # of one row's product: a program then reads at least 512 consecutive bytes of a row of W


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _one(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, w, out, x_scales, w_scales, width, FEATURES: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
    FP8: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    k = tl.arange(0, BLOCK)
    weights = w + feature[:, None].to(tl.int64) * width + k[None, :]
    first = tl.load(weights)
    if PDL:
        gdc_wait()
    total = first.to(tl.float32) * tl.load(x + k).to(tl.float32)[None, :]
    for start in tl.range(BLOCK, width, BLOCK, num_stages=STAGES):
        block = tl.load(weights + start).to(tl.float32)
        total += block * tl.load(x + start + k).to(tl.float32)[None, :]
    result = tl.sum(total, 1)
    if FP8:
        result = result * tl.load(x_scales) * tl.load(w_scales + feature)
    tl.store(out + feature, result.to(out.dtype.element_ty))


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _few(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, w, out, x_scales, w_scales, rows, features, width, ROWS: tl.constexpr, FEATURES: tl.constexpr,
    BLOCK: tl.constexpr, SPLITS: tl.constexpr, FP8: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    split = tl.program_id(1)
    share = width // SPLITS
    k = split * share + tl.arange(0, BLOCK)
    row = tl.arange(0, ROWS)
    weights = w + feature[:, None].to(tl.int64) * width + k[None, :]
    inputs = x + row[None, :] * width + k[:, None]
    first = tl.load(weights)
    if PDL:
        gdc_wait()
    result = tl.dot(first, tl.load(inputs, row[None, :] < rows, 0.0))
    for start in range(BLOCK, share, BLOCK):
        block = tl.load(weights + start)
        few = tl.load(inputs + start, row[None, :] < rows, 0.0)
        result = tl.dot(block, few, result)
    if PDL:
        gdc_launch_dependents()  # not earlier: the next kernel's loads would take memory bandwidth from these
    if FP8:
        result = result * tl.load(x_scales + row, row < rows, 0.0)[None, :] * tl.load(w_scales + feature)[:, None]
    places = (split * rows + row[None, :]).to(tl.int64) * features + feature[:, None]
    tl.store(out + places, result.to(out.dtype.element_ty), row[None, :] < rows)


@dataclass(frozen=True, slots=True)
class TileConfig:
    """How one product is tiled; the values were found by trial on one H200 (docs/lab)."""

    features: int
    block: int
    warps: int
    stages: int
    splits: int = 1


def tiles_for(rows: int, features: int, width: int, fp8: bool, processors: int, may_split: bool) -> TileConfig | None:
    """The tiling of a product of this size. Returns None if none divides it: a library must compute it then."""
    programs, splits = features // 64, 1
    if rows == 1:
        choice = TileConfig(8, 1024, 4, 4) if fp8 else TileConfig(2, 2048, 4, 3)
        while width % choice.block and choice.block > _SMALLEST_BLOCK:  # a tile of the same size, from more rows of W
            choice = replace(choice, features=choice.features * 2, block=choice.block // 2)
    elif fp8:
        choice = TileConfig(64, 256, 4, 4)
    elif programs > processors:
        choice = TileConfig(64, 128, 4, 3)
    elif programs * 2 > processors:  # several programs per multiprocessor, with less memory each
        choice = TileConfig(64, 64, 4, 6, 2 if may_split else 1)
    else:
        while may_split and programs * splits * 2 <= processors and width % (splits * 256) == 0:
            splits *= 2
        choice = TileConfig(64, 128, 4, 4, splits)
    return choice if features % choice.features == 0 and width % (choice.block * choice.splits) == 0 else None


def small_batch_linear(
    x: LinearInput, w: torch.Tensor, w_scales: torch.Tensor | None, dtype: torch.dtype, tiles: TileConfig
) -> torch.Tensor:
    """x · Wᵀ, [splits, rows, features]: in `dtype`, or float32 partial sums if the width was split."""
    (rows, width), features = x.values.shape, len(w)
    launch, fp8 = has_pdl(w.device), x.scales is not None
    dtype = dtype if tiles.splits == 1 else torch.float32
    out = torch.empty(tiles.splits, rows, features, dtype=dtype, device=w.device)
    programs = features // tiles.features
    if rows == 1:
        _one[(programs,)](
            x.values, w, out, x.scales, w_scales, width, FEATURES=tiles.features, BLOCK=tiles.block,
            STAGES=tiles.stages, FP8=fp8, PDL=launch, num_warps=tiles.warps, launch_pdl=launch,
        )  # fmt: skip
    else:
        _few[(programs, tiles.splits)](
            x.values, w, out, x.scales, w_scales, rows, features, width, ROWS=max(16, triton.next_power_of_2(rows)),
            FEATURES=tiles.features, BLOCK=tiles.block, SPLITS=tiles.splits, FP8=fp8, PDL=launch, num_warps=tiles.warps,
            num_stages=tiles.stages, launch_pdl=launch,
        )  # fmt: skip
    return out
