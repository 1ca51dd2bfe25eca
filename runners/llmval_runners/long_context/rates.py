"""FLOPs of a prefill, bytes of a decode step, and their share of a GPU's peak. No torch."""

from typing import Any

from llmval_runners.long_context.predict.peak_memory import kv_bytes_per_token
from llmval_runners.long_context.setup import ELEMENT_BYTES, Setup, matrix_shapes
from llmval_runners.measure.peaks import bandwidth_ceilings, compute_ceilings


def prefill_flops(setup: Setup, length: int) -> float:
    """Model FLOPs of all GPUs for `batch` prompts of `length`. A multiply and an add count as two.

    A token costs 2 · parameters of the layers' matrices. The head runs once a prompt, since only the last token is
    sampled. Attention costs 4 · heads · head dim · layers for each key that a query sees: length · (length + 1) / 2 in
    a causal prompt. Source: Kaplan et al. (arXiv:2001.08361), section 2.1; attention by Narayanan et al.
    (arXiv:2104.04473), halved (causal).
    """
    shape = setup.shape
    layer = shape.hidden * (2 * shape.heads + 2 * shape.kv_heads) * shape.head_dim + 3 * shape.hidden * shape.ffn
    linear = 2 * shape.layers * layer * length + 2 * shape.vocab * shape.hidden
    seen = length * (length + 1) / 2
    return setup.batch * (linear + 4 * shape.layers * shape.heads * shape.head_dim * seen)


def decode_bytes(setup: Setup, context: float) -> float:
    """Bytes that one GPU reads in a decode step: matrices and head once, and the cache of `context` tokens a row."""
    shape, element = setup.shape, ELEMENT_BYTES[setup.dtype]
    matrices = sum(out * width for out, width in matrix_shapes(setup)) * ELEMENT_BYTES[setup.weight_dtype]
    head = shape.vocab // setup.tensor_parallel * shape.hidden * element
    return shape.layers * matrices + head + setup.batch * context * kv_bytes_per_token(setup)


def compute_share(setup: Setup, gpu: str | None, flops: float, seconds: float) -> list[dict[str, Any]]:
    """MFU against each known peak of this GPU, in the precision of the matrices; [] if no peak is known."""
    mode = {"none": "bf16", "native": "fp8_native", "transformer-engine": "fp8_te"}[setup.fp8_mode]
    rate = flops / setup.tensor_parallel / seconds / 1e12
    return [
        {"percent": 100 * rate / peak.value, "peak_tflops": peak.value, "precision": mode, "peak_source": peak.source}
        for peak in compute_ceilings(gpu, mode)
    ]


def bandwidth_share(gpu: str | None, count: float, seconds: float) -> list[dict[str, Any]]:
    """MBU against each known peak bandwidth of this GPU; [] if no peak is known."""
    rate = count / seconds / 1e12
    return [
        {"percent": 100 * rate / peak.value, "peak_tb_per_s": peak.value, "peak_source": peak.source}
        for peak in bandwidth_ceilings(gpu)
    ]
