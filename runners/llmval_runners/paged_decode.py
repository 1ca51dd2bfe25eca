"""Attention of one new token a sequence to its pages: a Triton kernel, split over the context (flash-decoding).

A program serves all query heads that share a KV head, so each page is read once. The number of splits is fixed for a
batch size, and where each split begins follows from the sequence's length on the device: a captured CUDA graph serves
every length. Source of the split: Dao et al., "Flash-Decoding for long-context inference" (2023).
"""

import torch
import triton
import triton.language as tl
from llmval_runners.kernels import pdl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _decode(q, keys, values, rows, positions, page_table, out, partial, lse, scale, q_stride, table_stride, head_stride,
            HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_P: tl.constexpr, DIM: tl.constexpr, DIM_P: tl.constexpr,
            PAGE: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    sequence, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    member, dims, place = tl.arange(0, GROUP_P), tl.arange(0, DIM_P), tl.arange(0, BLOCK)
    head = kv_head * GROUP + member
    length = tl.load(positions + sequence) + 1
    blocks = tl.cdiv(length, BLOCK)
    share = tl.cdiv(blocks, SPLITS)
    begin = split * share
    end = tl.minimum(begin + share, blocks)
    table = page_table + tl.load(rows + sequence).to(tl.int64) * table_stride
    held = (member < GROUP)[:, None] & (dims < DIM)[None, :]
    query = tl.load(q + sequence * q_stride + head[:, None] * DIM + dims[None, :], held, 0.0)
    # E4M3 becomes float16 in one instruction, and bfloat16 only by way of float32.
    kind = tl.float16 if keys.dtype.element_ty == tl.float8e4nv else keys.dtype.element_ty
    query = (query.to(tl.float32) * (scale * _LOG2E)).to(kind)
    offsets = place[:, None] * DIM + dims[None, :]
    k_base, v_base = keys + kv_head.to(tl.int64) * head_stride, values + kv_head.to(tl.int64) * head_stride
    top = tl.full((GROUP_P,), float("-inf"), tl.float32)
    total = tl.zeros((GROUP_P,), tl.float32)
    result = tl.zeros((GROUP_P, DIM_P), tl.float32)
    for index in range(begin, end):
        token = index * BLOCK
        page = tl.load(table + token // PAGE).to(tl.int64)
        start = (page * PAGE + token % PAGE) * DIM
        if DIM == DIM_P:
            k = tl.load(k_base + start + offsets)
            v = tl.load(v_base + start + offsets)
        else:
            k = tl.load(k_base + start + offsets, (dims < DIM)[None, :], 0.0)
            v = tl.load(v_base + start + offsets, (dims < DIM)[None, :], 0.0)
        scores = tl.dot(query, k.to(kind).T)
        scores = tl.where((token + place < length)[None, :], scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - new_top[:, None])
        keep = tl.exp2(top - new_top)
        total = total * keep + tl.sum(weights, 1)
        result = tl.dot(weights.to(kind), v.to(kind), result * keep[:, None])
        top = new_top
    if SPLITS == 1:
        places = (sequence * HEADS + head)[:, None] * DIM + dims[None, :]
        tl.store(out + places, (result / total[:, None]).to(out.dtype.element_ty), held)
    else:
        part = (sequence * HEADS + head) * SPLITS + split
        empty = begin >= end
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
    """Splits of a context, a power of two: so many that a small batch still has 512 to 1024 programs."""
    if batch * kv_heads >= 512:
        return 1
    return max(1, min(128, 2 ** ((1024 if batch <= 2 else 512) // (batch * kv_heads)).bit_length() // 2))


def paged_decode(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: torch.Tensor,
    positions: torch.Tensor,
    page_table: torch.Tensor,
    *,
    page_size: int,
    splits: int,
    tiles: tuple[int, int, int] | None = None,
) -> torch.Tensor:
    """Attention of `q` [batch, heads, head dim] (rows may be strided) over each sequence's pages; the same shape.

    Sequence i is row `rows[i]` of `page_table` and holds `positions[i]` + 1 tokens. `keys` and `values` are a layer's
    pools [KV heads, slots, head dim], in the type of `q` or E4M3.
    """
    batch, heads, dim = q.shape
    kv_heads, launch = keys.shape[0], pdl(q.device)
    # Tokens at a time, warps, stages: by trial on one H200 (docs/performance_notes.md).
    best = (64, 2, 3) if splits > 1 else (32, 2, 5)
    block, warps, stages = tiles or best
    block = min(block, page_size)
    out = torch.empty(batch, heads, dim, dtype=q.dtype, device=q.device)
    partial = lse = None
    if splits > 1:
        partial = torch.empty(batch, heads, splits, dim, dtype=torch.float32, device=q.device)
        lse = torch.empty(batch, heads, splits, dtype=torch.float32, device=q.device)
    group, dim_p = heads // kv_heads, max(16, triton.next_power_of_2(dim))
    _decode[(batch, kv_heads, splits)](
        q, keys, values, rows, positions, page_table, out, partial, lse, dim**-0.5, q.stride(0), page_table.stride(0),
        keys.stride(0), HEADS=heads, GROUP=group, GROUP_P=max(16, triton.next_power_of_2(group)), DIM=dim, DIM_P=dim_p,
        PAGE=page_size, BLOCK=block, SPLITS=splits, PDL=launch, num_warps=warps, num_stages=stages, launch_pdl=launch,
    )  # fmt: skip
    if splits > 1:
        _combine[(batch * heads,)](
            partial, lse, out, DIM=dim, DIM_P=dim_p, SPLITS=splits, PDL=launch, num_warps=4, launch_pdl=launch
        )
    return out
