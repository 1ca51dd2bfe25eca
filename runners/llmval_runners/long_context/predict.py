"""Memory of one GPU, predicted from the shape alone, to the byte where the engine's tensors are known. No torch.

Sources: the KV cache is Pope et al. (arXiv:2211.05102, section 3.3) with KV heads for heads; weights, activations and
graphs are the tensors that the engine makes (`weights.build`, `fused.FusedDecoder`, `gpu_attention.SdpaAttention`),
counted at the moments when most of them live; the workspace is cuBLAS's own, as PyTorch sizes it.
"""

import math
from dataclasses import asdict, dataclass, replace

from llmval_runners.shapes import ModelShape

MIB = 1024**2
ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}
# aten/src/ATen/cuda/CublasHandlePool.cpp: 32 MiB on Hopper; a second one where products are FP8 (cuBLASLt), and
# one of the stream that is captured where decode steps are too wide for the engine's own kernels. Measured on an H200.
CUBLAS_WORKSPACE = 32 * MIB
STREAMED_ROWS = 64
# What the allocator holds beside in blocks that fit no tensor asked for, as a share of activations. Measured on an
# H200: 0.50 to 0.58 at 16K to 64K tokens, and above 0.6 at 304K.
FRAGMENTATION = 0.75
CUDNN_MULTIPLE = 1024  # of chunks for which the engine reads pages into one contiguous copy; others take two
MARGIN = 0.02  # within which a measured peak must agree with the prediction, so that much is kept free


@dataclass(frozen=True, slots=True)
class Setup:
    """All that memory depends on besides the length. Types are keys of `ELEMENT_BYTES`."""

    shape: ModelShape
    tensor_parallel: int = 1
    dtype: str = "bfloat16"  # of activations, norms, embedding table and head
    weight_dtype: str = "bfloat16"  # of the layers' matrices
    kv_dtype: str = "bfloat16"
    batch: int = 1
    chunk: int = 8192  # prompt tokens a step
    page_size: int = 128
    decode_tokens: int = 128
    on_gpu: bool = True
    backend: str = "sdpa"  # flex reads the pages in place
    transformer_engine: bool = False  # makes the FP8 matrices, and quantises activations beside what it was given

    @property
    def kv_heads(self) -> int:
        """KV heads that one GPU holds: 1/min(TP, KV heads) of them, so beyond as many GPUs a head is held twice."""
        return max(1, self.shape.kv_heads // self.tensor_parallel)

    @property
    def fp8_mode(self) -> str:
        """As `--fp8-mode` names it."""
        return "none" if self.weight_dtype != "fp8" else "transformer-engine" if self.transformer_engine else "native"


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes of one GPU (or CPU rank), by what they are for.

    `reserve_bytes` is what the allocator holds beside, unused; `load_bytes` is the peak while weights are made.
    """

    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    workspace_bytes: int
    graph_bytes: int
    reserve_bytes: int
    load_bytes: int

    @property
    def total_bytes(self) -> int:
        """The peak while it runs, as the allocator counts it."""
        parts = (
            self.weights_bytes, self.kv_bytes, self.activation_bytes, self.workspace_bytes, self.graph_bytes
        )  # fmt: skip
        return sum(parts)

    @property
    def needed_bytes(self) -> int:
        """What must be free: the larger peak, and the margin."""
        return round(max(self.total_bytes + self.reserve_bytes, self.load_bytes) * (1 + MARGIN))

    def as_json(self) -> dict[str, int]:
        return asdict(self) | {"total_bytes": self.total_bytes, "needed_bytes": self.needed_bytes}


def predict(setup: Setup, length: int) -> Parts:
    """Memory of one GPU for `batch` sequences of `length` prompt tokens and the decoded ones."""
    weights, activations = weights_bytes(setup), activation_bytes(setup, length)
    return Parts(
        weights_bytes=weights,
        kv_bytes=kv_bytes(setup, length),
        activation_bytes=activations,
        workspace_bytes=_workspace_bytes(setup),
        graph_bytes=_graph_bytes(setup),
        reserve_bytes=round(activations * FRAGMENTATION) if setup.on_gpu else 0,
        # Each tensor is drawn or read whole in float32 before it is cut and converted.
        load_bytes=weights + 4 * max(setup.shape.vocab, 2 * setup.shape.ffn) * setup.shape.hidden,
    )


def sequence_kv_bytes(shape: ModelShape, tokens: int, kv_dtype: str) -> int:
    """KV bytes of one sequence over all GPUs: 2 · layers · KV heads · head dim · bytes per element · tokens."""
    return shape.kv_bytes_per_token(ELEMENT_BYTES[kv_dtype]) * tokens


def kv_bytes_per_token(setup: Setup) -> int:
    """KV bytes that one GPU holds of one token."""
    return 2 * setup.shape.layers * setup.kv_heads * setup.shape.head_dim * ELEMENT_BYTES[setup.kv_dtype]


def pages(setup: Setup, length: int) -> int:
    """Pages of the cache: whole ones a sequence. The last sampled token is never fed back."""
    return setup.batch * -(-(length + setup.decode_tokens) // setup.page_size)


def kv_bytes(setup: Setup, length: int) -> int:
    """Bytes of one GPU's cache: whole pages, and on a GPU a spare one for rows that fill up a batch."""
    return kv_bytes_per_token(setup) * setup.page_size * (pages(setup, length) + setup.on_gpu)


def matrix_shapes(setup: Setup) -> list[tuple[int, int]]:
    """(out, in) of the four matrices of a layer, as one GPU holds them."""
    shape, ranks = setup.shape, setup.tensor_parallel
    queries, ffn = shape.heads * shape.head_dim // ranks, shape.ffn // ranks
    keys = setup.kv_heads * shape.head_dim
    return [(queries + 2 * keys, shape.hidden), (shape.hidden, queries), (2 * ffn, shape.hidden), (shape.hidden, ffn)]


def weights_bytes(setup: Setup) -> int:
    """Bytes of one GPU's weights.

    The embedding table is whole on every GPU and the head is cut; both, and the norms, stay in `dtype`. An FP8 matrix
    has a float32 scale for each output feature, Transformer Engine's one for all. Rotary frequencies are float32.
    """
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    matrices = sum(out * width for out, width in matrix_shapes(setup)) * ELEMENT_BYTES[setup.weight_dtype]
    scales = {
        "none": 0,
        "native": 4 * sum(out for out, _ in matrix_shapes(setup)),
        "transformer-engine": 4 * len(matrix_shapes(setup)),
    }[setup.fp8_mode]
    norms = 2 * shape.hidden * element
    head = 0 if shape.tied_embeddings else shape.vocab // setup.tensor_parallel * shape.hidden * element
    table = shape.vocab * shape.hidden * element
    return shape.layers * (matrices + scales + norms) + table + head + shape.hidden * element + shape.head_dim // 2 * 4


def activation_bytes(setup: Setup, length: int) -> int:
    """Peak bytes that a step holds besides weights and cache: of a whole prompt chunk, at the longest context."""
    tokens = min(setup.chunk, length)
    return _gpu_step(setup, tokens, length) if setup.on_gpu else _cpu_step(setup, tokens, length)


def _gpu_step(setup: Setup, tokens: int, length: int) -> int:
    """The larger of a layer's two moments: attention, in the last chunk, and the MLP (`fused.FusedDecoder.hidden`)."""
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    row = 1 if setup.fp8_mode == "native" else element  # an activation that a matrix reads
    given = row + setup.transformer_engine  # with its FP8 copy, which lives while the product runs
    (qkv, hidden), (_, queries), (gate_up, _), (_, ffn) = matrix_shapes(setup)
    # Both moments: the residual stream, what is to be added to it, the projection, what attention gave the last time.
    both = 2 * hidden * element + qkv * element + queries * row + gate_up * element
    # The projection of the layer before is alive until the next one takes its place; later comes the way down.
    mlp = tokens * (both + max(hidden * given + gate_up * element, ffn * given + hidden * element))
    if length <= tokens or setup.backend == "flex":  # one chunk: no earlier keys to gather and merge with
        return max(mlp, tokens * (both + 2 * queries * element + 4 * shape.heads // setup.tensor_parallel))
    # The chunk's own attention, that to the earlier tokens, and the result; a float32 logarithm a head for two.
    outputs = 3 * queries * element + 8 * shape.heads // setup.tensor_parallel
    return max(mlp, tokens * (both + outputs) + _gathered(setup, length))


def _gathered(setup: Setup, length: int) -> int:
    """Contiguous keys and values of a layer's earlier tokens; an FP8 cache's are converted one after the other."""
    element, cached = ELEMENT_BYTES[setup.dtype], ELEMENT_BYTES[setup.kv_dtype]
    whole = length % CUDNN_MULTIPLE == 0 and setup.chunk % CUDNN_MULTIPLE == 0 and setup.page_size <= CUDNN_MULTIPLE
    copies = 2 if whole else 3  # else a copy of whole pages is cut to the tokens: it lives beside the cut one
    before = length - min(setup.chunk, length) if whole else length
    converted = cached if cached != element else 0
    return setup.kv_heads * setup.shape.head_dim * before * (copies * element + converted)


def _cpu_step(setup: Setup, tokens: int, length: int) -> int:
    """Eager attention over gathered pages: keys, values, the mask, and the scores, which a CPU's kernel writes out."""
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    (qkv, hidden), (_, queries), (gate_up, _), (_, ffn) = matrix_shapes(setup)
    context = -(-length // setup.page_size) * setup.page_size
    heads = shape.heads // setup.tensor_parallel
    attention = 2 * setup.kv_heads * shape.head_dim * context * element + tokens * context * (1 + 4 * heads)
    return tokens * (3 * hidden + 2 * qkv + queries + gate_up + 2 * ffn) * element + attention


def _workspace_bytes(setup: Setup) -> int:
    count = 1 + (setup.weight_dtype == "fp8") + (setup.batch > STREAMED_ROWS)
    return CUBLAS_WORKSPACE * count if setup.on_gpu else 0


def _graph_bytes(setup: Setup) -> int:
    """What the decode graphs keep in the allocator's pool: a step of each batch size up to `batch`, about."""
    if not setup.on_gpu:
        return 0
    element, sizes = ELEMENT_BYTES[setup.dtype], [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256]
    batches = {size for size in sizes if size < setup.batch} | {setup.batch}
    logits = setup.shape.vocab // setup.tensor_parallel * element
    return 2 * sum(batches) * logits + setup.batch * 4 * setup.shape.hidden * element


def longest_fit(setup: Setup, free_bytes: int, most: int = 2**27) -> int:
    """The longest prompt whose needed bytes are free; 0 where none is.

    Of multiples of 1,024 tokens on a GPU, among which memory grows with the length (see `_gathered`), else of
    whole pages.
    """
    unit = math.lcm(setup.page_size, CUDNN_MULTIPLE) if setup.on_gpu else setup.page_size
    low, high = 0, most // unit
    while low < high:
        middle = (low + high + 1) // 2
        if predict(setup, middle * unit).needed_bytes <= free_bytes:
            low = middle
        else:
            high = middle - 1
    return low * unit


def with_ranks(setup: Setup, ranks: int) -> Setup:
    return replace(setup, tensor_parallel=ranks)
