"""Attention of one new token a sequence to its pages: a Triton kernel, split over the context (flash-decoding).

A program serves all query heads that share a KV head, so each page is read once. The number of splits is fixed for a
batch size, and where each split begins follows from the sequence's length on the device: a captured CUDA graph serves
every length. Source of the split: Dao et al., "Flash-Decoding for long-context inference" (2023).

In a step that only decodes, the same kernel rotates the new token's query and key and writes key and value into the
cache: a kernel of its own for that took 8 µs a layer at batch 32, of which nearly all was its start and its end.
"""

import torch
import triton
import triton.language as tl
from llmval_runners.engine.kernels.fused_ops import as_cached, pdl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _summed(parts, places, mask, part_stride, PARTS: tl.constexpr):
    total = tl.load(parts + places, mask, 0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        total += tl.load(parts + part * part_stride + places, mask, 0.0).to(tl.float32)
    return total


@triton.jit
def _turned(parts, places, other, mask, cos, sin, part_stride, PARTS: tl.constexpr):
    """Rotated by position; `other` is where the second number of each pair is, `sin` is negative for the first."""
    own = _summed(parts, places, mask, part_stride, PARTS)
    return own * cos + _summed(parts, other, mask, part_stride, PARTS) * sin


@triton.jit
def _tile(base, start, offsets, dims, DIM: tl.constexpr, DIM_P: tl.constexpr):
    if DIM == DIM_P:
        tile = tl.load(base + start + offsets)
    else:
        tile = tl.load(base + start + offsets, (dims < DIM)[None, :], 0.0)
    return tile


@triton.jit
def _attended(query, k, v, valid, top, total, result, kind: tl.constexpr):
    """Online softmax: (top, total, result) with the keys of one tile taken in."""
    scores = tl.dot(query, k.to(kind).T)
    scores = tl.where(valid[None, :], scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1))
    weights = tl.exp2(scores - new_top[:, None])
    keep = tl.exp2(top - new_top)
    total = total * keep + tl.sum(weights, 1)
    return new_top, total, tl.dot(weights.to(kind), v.to(kind), result * keep[:, None])


@triton.jit
def _decode(qkv, keys, values, rows, positions, page_table, frequencies, out, partial, lse, scale, token_stride,
            part_stride, table_stride, head_stride, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr,
            GROUP_P: tl.constexpr, DIM: tl.constexpr, DIM_P: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr,
            SPLITS: tl.constexpr, WHOLE: tl.constexpr, PARTS: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """WHOLE: `qkv` are a projection's parts, and the new token is not in the cache yet; else all is in its place."""
    if PDL:
        gdc_launch_dependents()
    sequence, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    member, dims, place = tl.arange(0, GROUP_P), tl.arange(0, DIM_P), tl.arange(0, BLOCK)
    head = kv_head * GROUP + member
    # Where sequences are was written before the step's first kernel of this kind, so nothing has to be waited for.
    position = tl.load(positions + sequence)
    length = position if WHOLE else position + 1  # of what the cache holds
    blocks = tl.cdiv(length, BLOCK)
    share = tl.maximum(tl.cdiv(blocks, SPLITS), 1)
    begin = split * share
    end = tl.minimum(begin + share, blocks)
    table = page_table + tl.load(rows + sequence).to(tl.int64) * table_stride
    offsets = place[:, None] * DIM + dims[None, :]
    k_base, v_base = keys + kv_head.to(tl.int64) * head_stride, values + kv_head.to(tl.int64) * head_stride
    # E4M3 becomes float16 in one instruction, and bfloat16 only by way of float32.
    kind: tl.constexpr = tl.float16 if keys.dtype.element_ty == tl.float8e4nv else keys.dtype.element_ty
    held = (member < GROUP)[:, None] & (dims < DIM)[None, :]
    token = sequence * token_stride
    places = token + head[:, None] * DIM + dims[None, :]
    if WHOLE:
        pair = tl.where(dims < DIM // 2, dims + DIM // 2, dims - DIM // 2)
        angle = position.to(tl.float32) * tl.load(frequencies + dims % (DIM // 2), dims < DIM, 0.0)
        cos, sin = tl.cos(angle), tl.sin(angle)
        sin = tl.where(dims < DIM // 2, -sin, sin)
        other = token + head[:, None] * DIM + pair[None, :]
        if PDL:
            gdc_wait()
        query = _turned(qkv, places, other, held, cos[None, :], sin[None, :], part_stride, PARTS)
    else:
        if PDL:
            gdc_wait()
        query = tl.load(qkv + places, held, 0.0).to(tl.float32)
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
    if WHOLE:
        last = tl.maximum(blocks - 1, 0) // share
        if split == last:  # this program also has the new token
            own = token + (HEADS + kv_head) * DIM
            new_k = _turned(qkv, own + dims, own + pair, dims < DIM, cos, sin, part_stride, PARTS)
            new_v = _summed(qkv, own + KV_HEADS * DIM + dims, dims < DIM, part_stride, PARTS)
            new_k, new_v = as_cached(new_k, keys), as_cached(new_v, values)
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
        tl.store(out + to, (result / total[:, None]).to(out.dtype.element_ty), held)
    else:
        part = (sequence * HEADS + head) * SPLITS + split
        empty = total == 0
        tl.store(lse + part, tl.where(empty, float("-inf"), top + tl.log2(total)), member < GROUP)
        divisor = tl.where(empty, 1.0, total)[:, None]
        tl.store(partial + part[:, None] * DIM + dims[None, :], result / divisor, held)


@triton.jit
def _combine(partial, lse, out, DIM: tl.constexpr, DIM_P: tl.constexpr, SPLITS: tl.constexpr, PDL: tl.constexpr):
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    head = tl.program_id(0).to(tl.int64)  # of all sequences
    splits, dims = tl.arange(0, SPLITS), tl.arange(0, DIM_P)
    logs = tl.load(lse + head * SPLITS + splits)
    weights = tl.exp2(logs - tl.max(logs))
    mask = (dims < DIM)[None, :] & (splits >= 0)[:, None]
    parts = tl.load(partial + (head * SPLITS + splits)[:, None] * DIM + dims[None, :], mask, 0.0)
    result = tl.sum(parts * weights[:, None], 0) / tl.sum(weights)
    tl.store(out + head * DIM + dims, result.to(out.dtype.element_ty), dims < DIM)


def splits_for(batch: int, kv_heads: int) -> int:
    """Splits of a context, a power of two: so many that a batch with fewer than 256 programs has 512 to 1024."""
    if batch * kv_heads >= 256:
        return 1
    return max(1, min(128, 2 ** ((1024 if batch <= 2 else 512) // (batch * kv_heads)).bit_length() // 2))


def tiles_for(programs: int, splits: int, fp8: bool) -> tuple[int, int, int]:
    """Tokens at a time, warps, stages: by trial (docs/performance_notes.md). `programs`: sequences · KV heads."""
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
    """Attention of one new token a sequence to the sequence's pages: [batch, heads, head dim].

    Sequence i is row `rows[i]` of `page_table` and has `positions[i]` tokens before the new one. `keys` and `values`
    are a layer's pools [KV heads, slots, head dim], in 16 bits or E4M3.

    Without `frequencies` (float32 [head dim / 2]), `qkv` is [batch, heads + 2 · KV heads, head dim] with queries that
    are rotated, and the new token is in the pools already. With them, `qkv` is the projection as it is, in parts to be
    added up: [parts, batch, (heads + 2 · KV heads) · head dim]; queries and keys are rotated here, the new token's key
    and value go into the pools, and the result is `dtype`.
    """
    batch, (kv_heads, _, dim) = len(rows), keys.shape
    launch, whole = pdl(keys.device), frequencies is not None
    parts = len(qkv) if whole else 1
    block, warps, stages = tiles_for(batch * kv_heads, splits, keys.dtype.itemsize == 1)
    block = min(block, page_size)
    if page_size % block:
        raise ValueError(f"tiles of {block} tokens do not divide pages of {page_size}")
    out = torch.empty(batch, heads, dim, dtype=dtype if whole else qkv.dtype, device=keys.device)
    partial = lse = None
    if splits > 1:
        partial = torch.empty(batch, heads, splits, dim, dtype=torch.float32, device=keys.device)
        lse = torch.empty(batch, heads, splits, dtype=torch.float32, device=keys.device)
    group, dim_p = heads // kv_heads, max(16, triton.next_power_of_2(dim))
    _decode[(batch, kv_heads, splits)](
        qkv, keys, values, rows, positions, page_table, frequencies, out, partial, lse, dim**-0.5,
        qkv.stride(-2) if whole else qkv.stride(0), qkv.stride(0), page_table.stride(0), keys.stride(0), HEADS=heads,
        KV_HEADS=kv_heads, GROUP=group, GROUP_P=max(16, triton.next_power_of_2(group)), DIM=dim, DIM_P=dim_p,
        PAGE=page_size, BLOCK=block, SPLITS=splits, WHOLE=whole, PARTS=parts, PDL=launch, num_warps=warps,
        num_stages=stages, launch_pdl=launch,
    )  # fmt: skip
    if splits > 1:
        _combine[(batch * heads,)](
            partial, lse, out, DIM=dim, DIM_P=dim_p, SPLITS=splits, PDL=launch, num_warps=4, launch_pdl=launch
        )
    return out
