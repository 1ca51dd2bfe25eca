"""Memory of one GPU, predicted from the shape alone; exact to the byte for the engine's own tensors. No torch.

Sources: the KV cache is Pope et al. (arXiv:2211.05102, section 3.3) with KV heads in place of heads. Weights,
activations and graphs are the tensors that the engine makes (`weights.build`, `FusedDecoder`, `SdpaAttention`), at the
moments when most of them live. The workspace is cuBLAS's, at the size that PyTorch gives it.
"""

import math
from dataclasses import asdict, dataclass

from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MULTIPLE
from llmval_runners.long_context.predict.activations import activation_bytes
from llmval_runners.long_context.setup import ELEMENT_BYTES, Setup, matrix_shapes

MIB = 1024**2
# aten/src/ATen/cuda/CublasHandlePool.cpp: 32 MiB on Hopper, shared with cuBLASLt (FP8 products). The captured stream
# has a second one if a decode step uses products other than the engine's own. Measured on an H200.
CUBLAS_WORKSPACE = 32 * MIB
STREAMED_ROWS = 64
# Memory that the allocator holds in blocks too small for any requested tensor, as a share of activations. Measured on
# an H200 at 16K to 64K tokens: 0.59 to 0.60, and 1.05 with FP8 attention of prompts while memory was plentiful. On
# cards made small by `fit_check.py`, 0.75 was enough in 20 of 20 runs. Longer contexts were not measured.
FRAGMENTATION = 1.0
# The same while weights are loaded, as a share of the temporary tensors. Measured on an H200 by `fit_check.py`: of 50
# combinations, five ran out of memory while loading, short by up to 0.34; none with 0.45 did.
LOAD_FRAGMENTATION = 0.5
MARGIN = 0.02  # kept free: a measured peak may differ from the prediction by this much


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes of one GPU (or CPU rank), by purpose.

    `reserve_bytes` is memory that the allocator holds unused. `load_bytes` is the peak while weights are loaded, and
    `load_reserve_bytes` the unused memory at that moment.
    """

    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    workspace_bytes: int
    graph_bytes: int
    reserve_bytes: int
    load_bytes: int
    load_reserve_bytes: int

    @property
    def total_bytes(self) -> int:
        """The peak of a step, as the allocator counts it."""
        parts = (
            self.weights_bytes, self.kv_bytes, self.activation_bytes, self.workspace_bytes, self.graph_bytes
        )  # fmt: skip
        return sum(parts)

    @property
    def needed_bytes(self) -> int:
        """The free memory that a run needs: the larger peak, the unused memory beside it, and the margin."""
        steps, load = self.total_bytes + self.reserve_bytes, self.load_bytes + self.load_reserve_bytes
        return round(max(steps, load) * (1 + MARGIN))

    @property
    def peak_bytes(self) -> int:
        """The larger peak of loading and running, as the allocator counts it."""
        return max(self.total_bytes, self.load_bytes)

    def as_json(self) -> dict[str, int]:
        return asdict(self) | {"total_bytes": self.total_bytes, "needed_bytes": self.needed_bytes}


def predict(setup: Setup, length: int) -> Parts:
    """Memory of one GPU for `batch` sequences of `length` prompt tokens and the decoded ones."""
    weights, activations, load = weights_bytes(setup), activation_bytes(setup, length), load_bytes(setup)
    return Parts(
        weights_bytes=weights,
        kv_bytes=kv_bytes(setup, length),
        activation_bytes=activations,
        workspace_bytes=_workspace_bytes(setup),
        graph_bytes=_graph_bytes(setup),
        reserve_bytes=round(activations * FRAGMENTATION) if setup.on_gpu else 0,
        load_bytes=load,
        load_reserve_bytes=round((load - weights) * LOAD_FRAGMENTATION) if setup.on_gpu else 0,
    )


def kv_bytes_per_token(setup: Setup) -> int:
    """KV bytes of one token on one GPU."""
    return setup.shape.kv_bytes_per_token_on(setup.tensor_parallel, ELEMENT_BYTES[setup.kv_dtype])


def pages(setup: Setup, length: int) -> int:
    """Pages of the cache; each sequence has whole pages. The last sampled token is never fed back."""
    return setup.batch * -(-(length + setup.decode_tokens) // setup.page_size)


def kv_bytes(setup: Setup, length: int) -> int:
    """Bytes of one GPU's cache: whole pages, and on a GPU one more for the padding rows of a batch."""
    return kv_bytes_per_token(setup) * setup.page_size * (pages(setup, length) + setup.on_gpu)


def weights_bytes(setup: Setup) -> int:
    """Bytes of one GPU's weights.

    Every GPU has the whole embedding table and a slice of the head. Both, and norms and biases, stay in `dtype`. An FP8
    matrix has a float32 scale for each output feature; Transformer Engine's has one scale. Rotary frequencies are
    float32.
    """
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    matrices = sum(out * width for out, width in matrix_shapes(setup)) * ELEMENT_BYTES[setup.weight_dtype]
    scales = {
        "none": 0,
        "native": 4 * sum(out for out, _ in matrix_shapes(setup)),
        "transformer-engine": 4 * len(matrix_shapes(setup)),
    }[setup.fp8_mode]
    norms = (2 * shape.hidden + shape.small_parameters(setup.tensor_parallel)) * element
    head = 0 if shape.tied_embeddings else shape.vocab // setup.tensor_parallel * shape.hidden * element
    table = shape.vocab * shape.hidden * element
    return shape.layers * (matrices + scales + norms) + table + head + shape.hidden * element + shape.head_dim // 2 * 4


def load_bytes(setup: Setup) -> int:
    """Peak bytes while weights are loaded (`weights.build`): in the last layer, or at the table and head after it.

    Each tensor is drawn whole in float32, then sliced and converted; fused matrices are copied together. A matrix that
    becomes FP8 exists twice more in float32 during the conversion (`Fp8Weight.quantize`), or once more in 16 bits
    (`TransformerEngine.linear`). A layer's originals live until those of the next layer.
    """
    shape, element, weights = setup.shape, ELEMENT_BYTES[setup.dtype], weights_bytes(setup)
    fp8 = setup.weight_dtype == "fp8"
    qkv, output, gate_up, down = (out * width for out, width in matrix_shapes(setup))
    drawn = 4 * shape.hidden if element < 4 else 0  # bytes of a drawn row; in float32 the drawn tensor itself is kept
    table = shape.vocab * shape.hidden * element
    head = 0 if shape.tied_embeddings else table // setup.tensor_parallel
    layer = (weights - table - head) // shape.layers
    own = (qkv + output + gate_up + down) * element
    before = own if fp8 and shape.layers > 1 else 0
    moments = [own + before + max(shape.ffn, shape.heads * shape.head_dim) * drawn, own + max(qkv, gate_up) * element]
    if fp8:
        copies = 2 if setup.transformer_engine else 8
        moments += [own + qkv + output + copies * gate_up, own + qkv + output + gate_up + copies * down]
    return max(weights - table - head - layer + max(moments), weights + shape.vocab * drawn + (own if fp8 else 0))


def _workspace_bytes(setup: Setup) -> int:
    """PyTorch has a workspace for prompts and a second one for captured decode steps.

    Transformer Engine has a workspace of the same size for both (2.20.2, pytorch/cpp_extensions/gemm.py:
    `get_cublas_workspace` is cached by device). PyTorch then needs its two only if the head is not streamed.
    """
    if not setup.on_gpu:
        return 0
    if setup.transformer_engine:
        return CUBLAS_WORKSPACE * (1 if _head_streamed(setup) else 3)
    return CUBLAS_WORKSPACE * (1 if _head_streamed(setup) and _layers_streamed(setup) else 2)


def _head_streamed(setup: Setup) -> bool:
    """Whether the engine's own kernel computes the head (engine/kernels/small_batch_linear.py, in 16 bits)."""
    return setup.batch <= STREAMED_ROWS and setup.shape.hidden % 2048 == 0


def _layers_streamed(setup: Setup) -> bool:
    """Whether these kernels compute a decode step's layers, if Transformer Engine does not."""
    fp8 = setup.weight_dtype == "fp8"
    block = {1: 1024 if fp8 else 2048, 2: 256 if fp8 else 128}  # width multiple for one row, and for several
    rows = {min(setup.batch, 2), 1}  # there is always a graph of one row
    return (
        setup.batch <= STREAMED_ROWS
        and all(width % block[few] == 0 for few in rows for _, width in matrix_shapes(setup))
        and all(out % 64 == 0 for out, _ in matrix_shapes(setup))
    )


def _graph_bytes(setup: Setup) -> int:
    """Approximate memory of the decode graphs in the allocator's pool: a step of each batch size up to `batch`."""
    if not setup.on_gpu:
        return 0
    element, sizes = ELEMENT_BYTES[setup.dtype], [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256]
    batches = {size for size in sizes if size < setup.batch} | {setup.batch}
    logits = setup.shape.vocab // setup.tensor_parallel * element
    return 2 * sum(batches) * logits + setup.batch * 4 * setup.shape.hidden * element


def longest_fit(setup: Setup, free_bytes: int, most: int = 2**27) -> int:
    """The longest prompt that fits, in units of 1,024 tokens on a GPU and of pages on a CPU; 0 if none fits.

    Memory grows with the number of whole chunks, and a length never needs less than its whole chunks alone. Between
    two multiples of the chunk it can fall, because the size of the last chunk decides which kernel computes it.
    """
    unit = math.lcm(setup.page_size, CUDNN_MULTIPLE) if setup.on_gpu else setup.page_size
    chunk = math.lcm(unit, setup.chunk)

    def fits(length: int) -> bool:
        return predict(setup, length).needed_bytes <= free_bytes

    low, high = 0, most // chunk
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle * chunk):
            low = middle
        else:
            high = middle - 1
    beyond = range(min((low + 1) * chunk, most + unit) - unit, low * chunk, -unit)
    return next((length for length in beyond if fits(length)), low * chunk)
