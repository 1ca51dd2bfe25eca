"""The small Triton kernels between a step's matrix products: norm, rotary embedding with cache write, SiLU, and
quantisation.

Each kernel makes one pass over its data. On Hopper, a kernel starts while the previous one drains (programmatic
dependent launch). It waits for the previous kernel (`gdc_wait`) before it reads that kernel's results, so the order is
kept.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_TINY = tl.constexpr(1e-12)


def has_pdl(device: torch.device) -> bool:
    """Whether the device supports programmatic dependent launch."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _store_rows(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    out, scales, row, places, mask, values, FP8: tl.constexpr, LARGEST: tl.constexpr,
):  # fmt: skip
    """Store one row, unchanged or in E4M3 with one scale for the row (value = stored · scale).

    If LARGEST, `scales` gets the largest absolute value that was stored, not a scale.
    """
    if FP8:
        scale = tl.maximum(tl.max(tl.abs(values)), _TINY) / 448.0
        tl.store(scales + row, scale)
        values = tl.minimum(tl.maximum(values / scale, -448.0), 448.0)
    stored = values.to(out.dtype.element_ty)
    if LARGEST:
        tl.store(scales + row, tl.max(tl.abs(stored.to(tl.float32))))
    tl.store(out + places, stored, mask)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _norm(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, residual_update, weight, out, scales, width, eps, part_stride, PARTS: tl.constexpr, FP8: tl.constexpr,
    LARGEST: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    places = row * width + columns
    norm_weight = tl.load(weight + columns, mask, 0.0).to(tl.float32)
    if PDL:
        gdc_wait()
    value = tl.load(x + places, mask, 0.0).to(tl.float32)
    for part in tl.static_range(PARTS):
        value += tl.load(residual_update + part * part_stride + places, mask, 0.0).to(tl.float32)
    if PARTS > 0:
        value = value.to(x.dtype.element_ty).to(tl.float32)
        tl.store(x + places, value.to(x.dtype.element_ty), mask)
    normed = value * tl.rsqrt(tl.sum(value * value) / width + eps) * norm_weight
    _store_rows(out, scales, row, places, mask, normed, FP8, LARGEST)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _silu_mul(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    gate_up, out, scales, width, FP8: tl.constexpr, LARGEST: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    gate = tl.load(gate_up + row * 2 * width + columns, mask, 0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + columns, mask, 0.0).to(tl.float32)
    _store_rows(out, scales, row, row * width + columns, mask, gate * tl.sigmoid(gate) * up, FP8, LARGEST)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _quantise(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, out, scales, width, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    value = tl.load(x + row * width + columns, mask, 0.0).to(tl.float32)
    _store_rows(out, scales, row, row * width + columns, mask, value, True, False)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _largest(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, largest, width, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    value = tl.load(x + row * width + columns, columns < width, 0.0).to(tl.float32)
    tl.store(largest + row, tl.max(tl.abs(value)))


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _one_scale(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, largest, out, inverse, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Store a part of one row in E4M3, with the scale of all rows. Rows from `rows` on become zeros."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    every = tl.arange(0, ROWS)
    top = tl.max(tl.load(largest + every, every < rows, 0.0))
    # As `compute_scale_from_amax` of Transformer Engine, whose division rounds to nearest.
    scale = tl.where((top > 0.0) & (top < float("inf")), tl.div_rn(448.0, top), 1.0)
    scale = tl.minimum(scale, 3.4028234663852886e38)
    value = tl.load(x + row * width + columns, mask & (row < rows), 0.0).to(tl.float32) * scale
    tl.store(out + row * width + columns, value.to(out.dtype.element_ty), mask)
    if (row == 0) & (tl.program_id(1) == 0):
        tl.store(inverse, tl.div_rn(1.0, scale))


@triton.jit
def to_cache_dtype(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    x, pool,
):  # fmt: skip
    """Convert to the cache's type. E4M3 has no infinity: values too large are clamped, or they would become NaN."""
    if pool.dtype.element_ty == tl.float8e4nv:
        x = tl.minimum(tl.maximum(x, -448.0), 448.0)
    return x.to(pool.dtype.element_ty)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _rotate_write(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    partial_sums, qkv, frequencies, rows, positions, page_table, keys, values, table_stride, head_stride,
    part_stride, PARTS: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr,
    HALF_P: tl.constexpr, BLOCK: tl.constexpr, PAGE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """For one token: add the partial sums of its projection, rotate queries and keys, and write keys and values to the
    cache."""
    if PDL:
        gdc_launch_dependents()
    token = tl.program_id(0).to(tl.int64)
    heads = tl.arange(0, BLOCK)[:, None]
    dims = tl.arange(0, HALF_P)[None, :]
    mask = (heads < HEADS + 2 * KV_HEADS) & (dims < HALF)
    rotated = heads < HEADS + KV_HEADS
    frequency = tl.load(frequencies + dims, dims < HALF, 0.0)
    if PDL:
        gdc_wait()
    position = tl.load(positions + token)
    page = tl.load(page_table + tl.load(rows + token).to(tl.int64) * table_stride + position // PAGE).to(tl.int64)
    slot = page * PAGE + position % PAGE
    angle = position.to(tl.float32) * frequency
    cos, sin = tl.cos(angle), tl.sin(angle)
    places = (token * (HEADS + 2 * KV_HEADS) + heads) * 2 * HALF + dims
    first = tl.zeros((BLOCK, HALF_P), tl.float32)
    second = tl.zeros((BLOCK, HALF_P), tl.float32)
    for part in tl.static_range(PARTS):
        first += tl.load(partial_sums + part * part_stride + places, mask, 0.0).to(tl.float32)
        second += tl.load(partial_sums + part * part_stride + places + HALF, mask, 0.0).to(tl.float32)
    turned = tl.where(rotated, first * cos - second * sin, first)
    second = tl.where(rotated, second * cos + first * sin, second)
    changed = mask & (rotated | (PARTS > 1))
    tl.store(qkv + places, turned.to(qkv.dtype.element_ty), changed)
    tl.store(qkv + places + HALF, second.to(qkv.dtype.element_ty), changed)
    is_key = rotated & (heads >= HEADS)
    cached = (heads - HEADS - tl.where(is_key, 0, KV_HEADS)).to(tl.int64) * head_stride + slot * 2 * HALF + dims
    turned, second = to_cache_dtype(turned, keys), to_cache_dtype(second, keys)
    tl.store(keys + cached, turned, mask & is_key)
    tl.store(keys + cached + HALF, second, mask & is_key)
    tl.store(values + cached, turned, mask & (heads >= HEADS + KV_HEADS))
    tl.store(values + cached + HALF, second, mask & (heads >= HEADS + KV_HEADS))


class LinearInput:
    """The input of a linear layer: `values` [rows, width]; if they are E4M3, also `scales` float32 [rows].

    `largest` float32 [rows] holds the largest absolute value of each row, if it was asked for.
    """

    __slots__ = ("largest", "scales", "values")

    def __init__(self, values: torch.Tensor, scales: torch.Tensor | None, largest: torch.Tensor | None = None) -> None:
        self.values, self.scales, self.largest = values, scales, largest

    @classmethod
    def empty(cls, rows: int, width: int, like: torch.Tensor, fp8: bool, largest: bool = False) -> "LinearInput":
        """Uninitialised memory: E4M3 with scales if `fp8`, otherwise the type of `like`, with `largest` if asked."""
        values = torch.empty(rows, width, dtype=torch.float8_e4m3fn if fp8 else like.dtype, device=like.device)
        per_row = torch.empty(rows, dtype=torch.float32, device=like.device) if fp8 or largest else None
        return cls(values, per_row if fp8 else None, per_row if largest else None)

    @property
    def per_row(self) -> torch.Tensor | None:
        """What a kernel writes beside the values."""
        return self.scales if self.largest is None else self.largest


def add_rms_norm(
    x: torch.Tensor,
    residual_update: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    fp8: bool,
    largest: bool = False,
) -> LinearInput:
    """Add the sum of `residual_update` [partial sums, rows, width] to x [rows, width] in place; RMSNorm of the sum."""
    out = LinearInput.empty(x.shape[0], x.shape[1], x, fp8, largest)
    width, launch = x.shape[1], has_pdl(x.device)
    block = triton.next_power_of_2(width)
    _norm[(len(x),)](
        x, residual_update, weight, out.values, out.per_row, width, eps, x.numel(),
        PARTS=0 if residual_update is None else len(residual_update), FP8=fp8, LARGEST=largest, BLOCK=block, PDL=launch,
        num_warps=min(16, max(4, block // 512)), launch_pdl=launch,
    )  # fmt: skip
    return out


def silu_mul(gate_up: torch.Tensor, fp8: bool, largest: bool = False) -> LinearInput:
    """silu(gate) · up of `gate_up` [rows, 2 · width]."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out, launch = LinearInput.empty(rows, width, gate_up, fp8, largest), has_pdl(gate_up.device)
    whole = triton.next_power_of_2(width)
    block = whole if fp8 or largest else min(2048, whole)
    _silu_mul[(rows, triton.cdiv(width, block))](
        gate_up, out.values, out.per_row, width, FP8=fp8, LARGEST=largest, BLOCK=block, PDL=launch,
        num_warps=min(16, max(4, block // 512)), launch_pdl=launch,
    )  # fmt: skip
    return out


def linear_input(x: torch.Tensor, fp8: bool, largest: bool = False) -> LinearInput:
    """x [rows, width], quantised if `fp8`."""
    block, launch = triton.next_power_of_2(x.shape[1]), has_pdl(x.device)
    if largest:
        found = torch.empty(len(x), dtype=torch.float32, device=x.device)
        _largest[(len(x),)](
            x, found, x.shape[1], BLOCK=block, PDL=launch, num_warps=min(16, max(4, block // 512)), launch_pdl=launch
        )
        return LinearInput(x, None, found)
    if not fp8:
        return LinearInput(x, None)
    out = LinearInput.empty(x.shape[0], x.shape[1], x, True)
    _quantise[(len(x),)](
        x, out.values, out.scales, x.shape[1], BLOCK=block, PDL=launch,
        num_warps=min(16, max(4, block // 512)), launch_pdl=launch,
    )  # fmt: skip
    return out


def with_one_scale(x: LinearInput, multiple: int) -> LinearInput:
    """x, whose `largest` is known, in E4M3 with one scale: value = stored · scales, as Transformer Engine's current
    scaling rounds it. `scales` is float32 [1]. Rows of zeros fill `values` up to a multiple of `multiple`.

    Each program looks for the largest value of all rows, so this is for few rows.
    """
    assert x.largest is not None
    (rows, width), device = x.values.shape, x.values.device
    padded, launch = -(-rows // multiple) * multiple, has_pdl(device)
    values = torch.empty(padded, width, dtype=torch.float8_e4m3fn, device=device)
    inverse = torch.empty(1, dtype=torch.float32, device=device)
    block = min(2048, triton.next_power_of_2(width))
    _one_scale[(padded, triton.cdiv(width, block))](
        x.values, x.largest, values, inverse, rows, width, ROWS=triton.next_power_of_2(rows), BLOCK=block, PDL=launch,
        num_warps=4, launch_pdl=launch,
    )  # fmt: skip
    return LinearInput(values, inverse)


def rope_and_cache(
    partial_sums: torch.Tensor,
    frequencies: torch.Tensor,
    rows: torch.Tensor,
    positions: torch.Tensor,
    page_table: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    heads: int,
    page_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Rotate queries and keys by position, and write keys and values to the cache.

    Args:
        partial_sums: [partial sums, tokens, …], the projection; changed in place if it is a single one.
        frequencies: float32 [head dim / 2].
        rows: int32 [tokens], of the page table.
        positions: int32 [tokens].
        page_table: int32 [rows, pages].
        keys: a layer's pool [KV heads, slots, head dim], as is `values`.
        values: see `keys`.

    Returns:
        Rotated queries, rotated keys, and values: [tokens, heads + 2 · KV heads, head dim].
    """
    kv_heads, _, dim = keys.shape
    tokens, all_heads, launch = partial_sums.shape[1], heads + 2 * kv_heads, has_pdl(partial_sums.device)
    qkv = (
        partial_sums[0]
        if len(partial_sums) == 1
        else torch.empty(partial_sums.shape[1:], dtype=dtype, device=partial_sums.device)
    )
    _rotate_write[(tokens,)](
        partial_sums, qkv, frequencies, rows, positions, page_table, keys, values, page_table.stride(0), keys.stride(0),
        qkv.numel(), PARTS=len(partial_sums), HEADS=heads, KV_HEADS=kv_heads, HALF=dim // 2,
        HALF_P=triton.next_power_of_2(dim // 2), BLOCK=triton.next_power_of_2(all_heads), PAGE=page_size, PDL=launch,
        num_warps=4, launch_pdl=launch,
    )  # fmt: skip
    return qkv.view(tokens, all_heads, dim)


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _merge(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    one, two, one_log, two_log, out, heads, length, one_stride, out_stride, DIM: tl.constexpr,
):  # fmt: skip
    place, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dims = tl.arange(0, DIM)
    # Both are [token, head, dim] in memory; the logarithms are [head, token].
    first = tl.load(one + place * one_stride + head * DIM + dims).to(tl.float32)
    second = tl.load(two + place * one_stride + head * DIM + dims).to(tl.float32)
    share = tl.sigmoid(tl.load(two_log + head * length + place) - tl.load(one_log + head * length + place))
    tl.store(out + place * out_stride + head * DIM + dims, (first + (second - first) * share).to(out.dtype.element_ty))


def merge_attention(
    one: torch.Tensor, two: torch.Tensor, one_log: torch.Tensor, two_log: torch.Tensor, out: torch.Tensor
) -> None:
    """Combine the attention to two sets of keys into the attention to their union, written to `out`.

    `one`, `two` and `out` are [tokens, heads, head dim]; the logarithms of the softmax sums float32 [heads, tokens].
    """
    tokens, heads, dim = one.shape
    _merge[(tokens, heads)](
        one, two, one_log, two_log, out, heads, tokens, one.stride(0), out.stride(0), DIM=dim, num_warps=1
    )


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _merge_segments(  # type: ignore[no-untyped-def]  # the arguments are Triton's
    parts, logs, scale, out, count, tokens, out_stride, HEADS: tl.constexpr, HEADS_P: tl.constexpr, DIM: tl.constexpr,
    DIM_P: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head, dims = tl.arange(0, HEADS_P), tl.arange(0, DIM_P)
    mask = (head < HEADS)[:, None] & (dims < DIM)[None, :]
    places = head[:, None] * DIM + dims[None, :]
    top = tl.full((HEADS_P,), float("-inf"), tl.float32)
    total = tl.zeros((HEADS_P,), tl.float32)
    result = tl.zeros((HEADS_P, DIM_P), tl.float32)
    for part in range(count):
        log = tl.load(logs + (part * HEADS + head) * tokens + token, head < HEADS, 0.0)
        value = tl.load(parts + (part * tokens + token) * HEADS * DIM + places, mask, 0.0).to(tl.float32)
        new_top = tl.maximum(top, log)
        keep, weight = tl.exp(top - new_top), tl.exp(log - new_top)
        total = total * keep + weight
        result = result * keep[:, None] + weight[:, None] * value
        top = new_top
    result = result / (total * tl.load(scale))[:, None]
    tl.store(out + token * out_stride + places, result.to(out.dtype.element_ty), mask)


def merge_segments(parts: torch.Tensor, logs: torch.Tensor, scale: torch.Tensor, out: torch.Tensor) -> None:
    """Combine the attention to several sets of keys into the attention to their union, written to `out`.

    `parts` [segments, tokens, heads, head dim] are stored times `scale`, float32 [1]. `logs` float32 [segments, heads,
    tokens] are the logarithms of the softmax sums. `out` is [tokens, heads, head dim].
    """
    count, tokens, heads, dim = parts.shape
    _merge_segments[(tokens,)](
        parts, logs, scale, out, count, tokens, out.stride(0), HEADS=heads, HEADS_P=triton.next_power_of_2(heads),
        DIM=dim, DIM_P=triton.next_power_of_2(dim), num_warps=4,
    )  # fmt: skip
