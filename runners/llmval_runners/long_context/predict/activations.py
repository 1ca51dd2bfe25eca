"""Bytes that a prefill step holds besides weights and cache, at the moments when most tensors live. No torch.

The tensors are those of `FusedDecoder` (engine/gpu/decoder.py) and of the backends' `prefill` (engine/attention). A
variable keeps the previous layer's tensor until it is assigned again, so these tensors are counted too.
"""

from llmval_runners.engine.attention.cudnn_sizes import cudnn_supports, fp8_segments
from llmval_runners.long_context.setup import ELEMENT_BYTES, Setup, matrix_shapes

FLEX_CHUNKS = (512, 2048, 8192)  # flex attention pads a step to one of these sizes
ROWS_MULTIPLE = 16  # the other backends pad to a multiple of this


def activation_bytes(setup: Setup, length: int) -> int:
    """Bytes of the most expensive chunk: the last one, or the last whole one before it."""
    rest = length % setup.chunk or min(setup.chunk, length)
    chunks = [(rest, length - rest)]
    if length > rest:
        chunks.append((setup.chunk, length - rest - setup.chunk))
    step = _gpu_step if setup.on_gpu else _cpu_step
    return max(step(setup, count, start) for count, start in chunks)


def _gpu_step(setup: Setup, count: int, start: int) -> int:
    """A chunk of `count` tokens after `start` others: the largest of a layer's peaks, for a model of three layers up.

    The peaks are in the projection, in attention, and in the MLP: at its first product, activation and second product.
    """
    element, copy = ELEMENT_BYTES[setup.dtype], int(setup.transformer_engine)  # bytes of an input's FP8 copy
    row = 1 if setup.fp8_mode == "native" else element  # the input of a matrix
    (qkv, hidden), (_, queries), (gate_up, _), (_, ffn) = matrix_shapes(setup)
    rows = filled(setup, count)
    stream = 2 * hidden * element  # the residual stream, and the previous layer's MLP output
    norms = 2 * qkv * element if setup.shape.qk_norm else 0  # normed queries and keys, and QKV joined again
    projection = 2 * qkv * element + max(norms, hidden * (row + copy))  # the previous layer's QKV too
    half = 0 if setup.shape.activation == "silu" else ffn * element  # the fused kernel has SiLU only
    mlp = max(
        hidden * (row + copy) + gate_up * element,
        gate_up * element + ffn * row + half,
        ffn * (row + copy) + hidden * element,
    )
    held = (qkv + queries + hidden) * element  # in the MLP: QKV, attention's output, and its product
    return max(
        rows * (stream + max(projection, held + mlp)),
        rows * (stream + qkv * element) + _attention(setup, rows, count, start),
    )


def filled(setup: Setup, count: int) -> int:
    """Rows of a step of `count` prompt tokens, padding included."""
    if setup.backend != "flex":
        return -(-count // ROWS_MULTIPLE) * ROWS_MULTIPLE
    return next((size for size in FLEX_CHUNKS if size >= count), -(-count // FLEX_CHUNKS[-1]) * FLEX_CHUNKS[-1])


def _attention(setup: Setup, rows: int, count: int, start: int) -> int:
    """Bytes of attention: its output, and contiguous keys and values of the layer's earlier tokens."""
    element, cached = ELEMENT_BYTES[setup.dtype], ELEMENT_BYTES[setup.kv_dtype]
    heads = setup.shape.heads // setup.tensor_parallel
    result = rows * heads * setup.shape.head_dim * element
    logs = 4 * rows * heads
    token = setup.kv_heads * setup.shape.head_dim
    if setup.backend == "flex":  # reads pages in place; for an FP8 cache, queries and outputs are also in float16
        return result * (2 if cached == element else 4) + logs
    if cudnn_supports(count, start, setup.page_size):
        if setup.prefill_attention == "fp8":
            # Besides the output: the sliced queries and their FP8 copy; then FP8 queries, keys and values, and with
            # these the values' bytes without their signs, or the parts.
            parts, cached_bytes = len(fp8_segments(count, start)), token * (start + count)
            merged = parts * (result // 2 + logs)
            return result + max(result + result // 2, result // 2 + 2 * cached_bytes + max(cached_bytes, merged))
        if not start:
            return result + logs
        # The output and the chunk's own part; then the second copy of an FP8 cache, or the earlier tokens' part.
        converted = start * token * cached if cached != element else 0
        return 2 * result + logs + 2 * start * token * element + max(converted, result + logs)
    # FlashAttention reads the chunk itself, or copies of whole pages, which are then cut to the exact tokens.
    pages = -(-(start + count) // setup.page_size) * setup.page_size
    gathered = (2 * (start + count) + pages) * token * element if start else 0
    return max(gathered, 2 * (start + count) * token * element * bool(start) + 2 * result + logs)


def _cpu_step(setup: Setup, tokens: int, start: int) -> int:
    """Eager attention over gathered pages: keys, values, mask, and the scores, which the CPU kernel materialises."""
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    (qkv, hidden), (_, queries), (gate_up, _), (_, ffn) = matrix_shapes(setup)
    context = -(-(start + tokens) // setup.page_size) * setup.page_size
    heads = shape.heads // setup.tensor_parallel
    attention = 2 * setup.kv_heads * shape.head_dim * context * element + tokens * context * (1 + 4 * heads)
    return tokens * (3 * hidden + 2 * qkv + queries + gate_up + 2 * ffn) * element + attention
