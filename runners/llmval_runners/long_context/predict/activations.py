"""Bytes that a prefill step holds beside weights and cache, counted at the moments when most tensors live. No torch.

The tensors are those of `fused.FusedDecoder.hidden` and of the backends' `prefill` (`gpu_attention`, `gpu_flex`); what
a variable of the layer before still holds is counted too, as it is freed only when the next value takes its name.
"""

from llmval_runners.engine.gpu.cudnn_sizes import cudnn_takes
from llmval_runners.long_context.setup import ELEMENT_BYTES, Setup, matrix_shapes

FLEX_CHUNKS = (512, 2048, 8192)  # sizes that flex attention's steps are filled up to
ROWS_MULTIPLE = 16  # and all others


def activation_bytes(setup: Setup, length: int) -> int:
    """Of the chunk that needs the most: the last one, or the last whole one before it."""
    rest = length % setup.chunk or min(setup.chunk, length)
    chunks = [(rest, length - rest)]
    if length > rest:
        chunks.append((setup.chunk, length - rest - setup.chunk))
    step = _gpu_step if setup.on_gpu else _cpu_step
    return max(step(setup, count, start) for count, start in chunks)


def _gpu_step(setup: Setup, count: int, start: int) -> int:
    """A chunk of `count` tokens behind `start` others: the larger of a layer's two moments, attention and the MLP."""
    element = ELEMENT_BYTES[setup.dtype]
    row = 1 if setup.fp8_mode == "native" else element  # an activation that a matrix reads
    row += setup.transformer_engine  # with its FP8 copy, which lives while the product runs
    (qkv, hidden), (_, queries), (gate_up, _), (_, ffn) = matrix_shapes(setup)
    rows = filled(setup, count)
    # Both: the residual stream, what is to be added to it, the projection, and the layer before's attention and MLP.
    both = 2 * hidden + qkv + queries + gate_up
    mlp = max(hidden * row + gate_up * element, ffn * row + hidden * element)
    return max(rows * (both * element + mlp), rows * both * element + _attention(setup, rows, count, start))


def filled(setup: Setup, count: int) -> int:
    """Rows of a step of `count` prompt tokens."""
    if setup.backend != "flex":
        return -(-count // ROWS_MULTIPLE) * ROWS_MULTIPLE
    return next((size for size in FLEX_CHUNKS if size >= count), -(-count // FLEX_CHUNKS[-1]) * FLEX_CHUNKS[-1])


def _attention(setup: Setup, rows: int, count: int, start: int) -> int:
    """What attention makes: its results, and contiguous keys and values of the layer's earlier tokens."""
    element, cached = ELEMENT_BYTES[setup.dtype], ELEMENT_BYTES[setup.kv_dtype]
    heads = setup.shape.heads // setup.tensor_parallel
    result = rows * heads * setup.shape.head_dim * element
    logs = 4 * rows * heads
    token = setup.kv_heads * setup.shape.head_dim
    if setup.backend == "flex":  # reads pages in place; queries for an FP8 cache, and what they give, are in float16
        return result * (2 if cached == element else 4) + logs
    if cudnn_takes(count, start, setup.page_size):
        if setup.prefill_attention == "fp8":
            # Beside the result: queries cut off and their FP8; then FP8 queries, keys and values, and one or two parts.
            parts = 2 if start else 1
            cast = result // 2 * (1 + parts) + 2 * token * max(count, start) + parts * logs
            return result + max(result + result // 2, cast)
        if not start:
            return result + logs
        # The result and the chunk's own part; then an FP8 cache's second copy, or the part of the tokens before.
        converted = start * token * cached if cached != element else 0
        return 2 * result + logs + 2 * start * token * element + max(converted, result + logs)
    # FlashAttention reads the chunk itself, or copies of whole pages that are then cut to the tokens one by one.
    pages = -(-(start + count) // setup.page_size) * setup.page_size
    gathered = (2 * (start + count) + pages) * token * element if start else 0
    return max(gathered, 2 * (start + count) * token * element * bool(start) + 2 * result + logs)


def _cpu_step(setup: Setup, tokens: int, start: int) -> int:
    """Eager attention over gathered pages: keys, values, the mask, and the scores, which a CPU's kernel writes out."""
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    (qkv, hidden), (_, queries), (gate_up, _), (_, ffn) = matrix_shapes(setup)
    context = -(-(start + tokens) // setup.page_size) * setup.page_size
    heads = shape.heads // setup.tensor_parallel
    attention = 2 * setup.kv_heads * shape.head_dim * context * element + tokens * context * (1 + 4 * heads)
    return tokens * (3 * hidden + 2 * qkv + queries + gate_up + 2 * ffn) * element + attention
