"""Attention of one new token per sequence to its pages: a Triton kernel, split over the context (flash-decoding).

One program serves all query heads that share a KV head, so each page is read once. The number of splits is fixed for a
batch size. Each split's start is computed on the device from the sequence's length, so one captured CUDA graph serves
every length. Source of the split: Dao et al., "Flash-Decoding for long-context inference" (2023).

In a step that only decodes, the same kernel also rotates the new token's query and key, and writes key and value to the
cache. A separate kernel for that took 8 µs per layer at batch 32, nearly all of it start-up and drain.
"""

import torch
import triton
import triton.language as tl
from llmval_runners.engine.kernels.fused_ops import has_pdl, to_cache_dtype
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _summed(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    partial_sums, places, mask, part_stride, PARTS: tl.constexpr,
):  # fmt: skip
    total = tl.load(partial_sums + places, mask, 0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        total += tl.load(partial_sums + part * part_stride + places, mask, 0.0).to(tl.float32)
    return total


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _rotated(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    partial_sums, places, pair_places, mask, cos, sin, part_stride, PARTS: tl.constexpr,
):  # fmt: skip
    """Rotate by position. `pair_places` addresses the other number of each pair; `sin` is negative for the first."""
    own = _summed(partial_sums, places, mask, part_stride, PARTS)
    return own * cos + _summed(partial_sums, pair_places, mask, part_stride, PARTS) * sin


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _tile(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    base, start, offsets, dims, DIM: tl.constexpr, DIM_P: tl.constexpr,
):  # fmt: skip
    if DIM == DIM_P:
        tile = tl.load(base + start + offsets)
    else:
        tile = tl.load(base + start + offsets, (dims < DIM)[None, :], 0.0)
    return tile


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _attended(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    query, k, v, valid, top, total, result, kind: tl.constexpr,
):  # fmt: skip
    """Online softmax: (top, total, result) after adding the keys of one tile."""
    scores = tl.dot(query, k.to(kind).T)
    scores = tl.where(valid[None, :], scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1))
    weights = tl.exp2(scores - new_top[:, None])
    keep = tl.exp2(top - new_top)
    total = total * keep + tl.sum(weights, 1)
    return new_top, total, tl.dot(weights.to(kind), v.to(kind), result * keep[:, None])


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _decode(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    qkv, keys, values, rows, positions, page_table, frequencies, out, partial, lse, scale, token_stride, part_stride,
    table_stride, head_stride, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
    GROUP_P: tl.constexpr, DIM: tl.constexpr, DIM_P: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr,
    SPLITS: tl.constexpr, FUSED_ROPE: tl.constexpr, PARTS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """With FUSED_ROPE, `qkv` holds a projection's partial sums, and the new token is not in the cache yet."""
    if PDL:
        gdc_launch_dependents()
    sequence, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    member, dims, place = tl.arange(0, GROUP_P), tl.arange(0, DIM_P), tl.arange(0, BLOCK)
    head = kv_head * GROUP + member
    # Rows and positions were written before the step's first kernel of this kind, so there is no need to wait.
    position = tl.load(positions + sequence)
    length = position if FUSED_ROPE else position + 1  # cached tokens
    blocks = tl.cdiv(length, BLOCK)
    share = tl.maximum(tl.cdiv(blocks, SPLITS), 1)
    begin = split * share
    end = tl.minimum(begin + share, blocks)
    table = page_table + tl.load(rows + sequence).to(tl.int64) * table_stride
    offsets = place[:, None] * DIM + dims[None, :]
    k_base, v_base = keys + kv_head.to(tl.int64) * head_stride, values + kv_head.to(tl.int64) * head_stride
    # E4M3 converts to float16 in one instruction, to bfloat16 only via float32.
    kind: tl.constexpr = tl.float16 if keys.dtype.element_ty == tl.float8e4nv else keys.dtype.element_ty
    in_bounds = (member < GROUP)[:, None] & (dims < DIM)[None, :]
    token = sequence * token_stride
    places = token + head[:, None] * DIM + dims[None, :]
    if FUSED_ROPE:
        pair = tl.where(dims < DIM // 2, dims + DIM // 2, dims - DIM // 2)
        angle = position.to(tl.float32) * tl.load(frequencies + dims % (DIM // 2), dims < DIM, 0.0)
        cos, sin = tl.cos(angle), tl.sin(angle)
        sin = tl.where(dims < DIM // 2, -sin, sin)
        pair_places = token + head[:, None] * DIM + pair[None, :]
        if PDL:
            gdc_wait()
        query = _rotated(qkv, places, pair_places, in_bounds, cos[None, :], sin[None, :], part_stride, PARTS)
    else:
        if PDL:
            gdc_wait()
        query = tl.load(qkv + places, in_bounds, 0.0).to(tl.float32)
    query = (query * (scale * _LOG2E)).to(kind)
    top = tl.full((GROUP_P,), float("-inf"), tl.float32)
    total = tl.zeros((GROUP_P,), tl.float32)
    result = tl.zeros((GROUP_P, DIM_P), tl.float32)
    for index in range(begin, end):
        first = index * BLOCK
        page = tl.load(table + first // PAGE).to(tl.int64)
        start = (page * PAGE + first % PAGE) * DIM
        k, v = _tile(k_base, start, offsets, dims, DIM, DIM_P), _tile(v_base, start, offsets, dims, DIM, DIM_P)
        top, total, result = _attended(query, k, v, first + place < length, top, total, result, kind)
    if FUSED_ROPE:
        last = tl.maximum(blocks - 1, 0) // share
        if split == last:  # this program also adds the new token
            own = token + (HEADS + kv_head) * DIM
            new_k = _rotated(qkv, own + dims, own + pair, dims < DIM, cos, sin, part_stride, PARTS)
            new_v = _summed(qkv, own + KV_HEADS * DIM + dims, dims < DIM, part_stride, PARTS)
            new_k, new_v = to_cache_dtype(new_k, keys), to_cache_dtype(new_v, values)
            slot = (tl.load(table + position // PAGE).to(tl.int64) * PAGE + position % PAGE) * DIM + dims
            tl.store(k_base + slot, new_k, dims < DIM)
            tl.store(v_base + slot, new_v, dims < DIM)
            score = tl.sum(query.to(tl.float32) * new_k.to(kind).to(tl.float32)[None, :], 1)
            new_top = tl.maximum(top, score)
            keep, weight = tl.exp2(top - new_top), tl.exp2(score - new_top)
            total = total * keep + weight
            result = result * keep[:, None] + weight[:, None] * new_v.to(kind).to(tl.float32)[None, :]
            top = new_top
    if SPLITS == 1:
        to = (sequence * HEADS + head)[:, None] * DIM + dims[None, :]
        tl.store(out + to, (result / total[:, None]).to(out.dtype.element_ty), in_bounds)
    else:
        part = (sequence * HEADS + head) * SPLITS + split
        empty = total == 0
        tl.store(lse + part, tl.where(empty, float("-inf"), top + tl.log2(total)), member < GROUP)
        divisor = tl.where(empty, 1.0, total)[:, None]
        tl.store(partial + part[:, None] * DIM + dims[None, :], result / divisor, in_bounds)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _combine(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    partial, lse, out, DIM: tl.constexpr, DIM_P: tl.constexpr, SPLITS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    head = tl.program_id(0).to(tl.int64)  # over all sequences
    splits, dims = tl.arange(0, SPLITS), tl.arange(0, DIM_P)
    logs = tl.load(lse + head * SPLITS + splits)
    weights = tl.exp2(logs - tl.max(logs))
    mask = (dims < DIM)[None, :] & (splits >= 0)[:, None]
    parts = tl.load(partial + (head * SPLITS + splits)[:, None] * DIM + dims[None, :], mask, 0.0)
    result = tl.sum(parts * weights[:, None], 0) / tl.sum(weights)
    tl.store(out + head * DIM + dims, result.to(out.dtype.element_ty), dims < DIM)


def splits_for(batch: int, kv_heads: int) -> int:
    """Splits of a context, a power of two. A batch with fewer than 256 programs gets 512 to 1024."""
    if batch * kv_heads >= 256:
        return 1
    wanted: int = (1024 if batch <= 2 else 512) // (batch * kv_heads)
    power: int = 2 ** wanted.bit_length() // 2
    return max(1, min(128, power))


def tiles_for(programs: int, splits: int, fp8: bool) -> tuple[int, int, int]:
    """(tokens per tile, warps, stages), found by trial (docs/lab). `programs`: sequences · KV heads."""
    if splits > 1:
        return 64, 2, 3
    if programs < 1024:
        return 32, 2, 5
    return 32, 1, 5 if fp8 else 4


def paged_decode(
    qkv: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: torch.Tensor,
    positions: torch.Tensor,
    page_table: torch.Tensor,
    *,
    heads: int,
    page_size: int,
    splits: int,
    frequencies: torch.Tensor | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """Attention of one new token per sequence to the sequence's pages: [batch, heads, head dim].

    Sequence i is row `rows[i]` of `page_table` and has `positions[i]` tokens before the new one. `keys` and `values`
    are a layer's pools [KV heads, slots, head dim], in 16 bits or E4M3.

    Without `frequencies`, `qkv` is [batch, heads + 2 · KV heads, head dim] with rotated queries, and the new token is
    already in the pools. With `frequencies` (float32 [head dim / 2]), `qkv` is the projection as partial sums
    [partial sums, batch, (heads + 2 · KV heads) · head dim]. Queries and keys are then rotated here, the new token's
    key and value are written to the pools, and the result is `dtype`.

    Raises:
        ValueError: a tile would reach beyond the end of a page.
    """
    batch, (kv_heads, _, dim) = len(rows), keys.shape
    launch, fused_rope = has_pdl(keys.device), frequencies is not None
    partial_sums = len(qkv) if fused_rope else 1
    block, warps, stages = tiles_for(batch * kv_heads, splits, keys.dtype.itemsize == 1)
    block = min(block, page_size)
    if page_size % block:
        raise ValueError(f"tiles of {block} tokens do not divide pages of {page_size}")
    out = torch.empty(batch, heads, dim, dtype=dtype if fused_rope else qkv.dtype, device=keys.device)
    partial = lse = None
    if splits > 1:
        partial = torch.empty(batch, heads, splits, dim, dtype=torch.float32, device=keys.device)
        lse = torch.empty(batch, heads, splits, dtype=torch.float32, device=keys.device)
    group, dim_p = heads // kv_heads, max(16, triton.next_power_of_2(dim))
    _decode[(batch, kv_heads, splits)](
        qkv, keys, values, rows, positions, page_table, frequencies, out, partial, lse, dim**-0.5,
        qkv.stride(-2) if fused_rope else qkv.stride(0), qkv.stride(0), page_table.stride(0), keys.stride(0),
        HEADS=heads, KV_HEADS=kv_heads, GROUP=group, GROUP_P=max(16, triton.next_power_of_2(group)), DIM=dim,
        DIM_P=dim_p, PAGE=page_size, BLOCK=block, SPLITS=splits, FUSED_ROPE=fused_rope, PARTS=partial_sums, PDL=launch,
        num_warps=warps, num_stages=stages, launch_pdl=launch,
    )  # fmt: skip
    if splits > 1:
        _combine[(batch * heads,)](
            partial, lse, out, DIM=dim, DIM_P=dim_p, SPLITS=splits, PDL=launch, num_warps=4, launch_pdl=launch
        )
    return out
