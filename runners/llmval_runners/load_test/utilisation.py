"""MFU and MBU of a load test's window, from its requests and steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmval_runners.engine.shapes import ModelShape
from llmval_runners.load_test.sent_request import SentRequest
from llmval_runners.measure.peaks import Ceiling, bandwidth_ceilings, compute_ceilings

_BEFORE = "measured on this GPU before the load"
_MODES = {"native": "fp8_native", "transformer-engine": "fp8_te"}


def utilisation(
    sent: Sequence[SentRequest], steps: int, duration_s: float, *,
    shape: ModelShape, ranks: int, weight_bytes: int, kv_element_bytes: int, fp8_mode: str, gpu: str | None,
    measured: Mapping[str, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Model FLOPs and bytes of one GPU over the window, and their share of each known peak (`mfu`, `mbu`, in percent).

    FLOPs: 2 · parameters of the layers for each token of a prompt that has a first token and for each later token, the
    head for each sampled one, and 4 · layers · heads · head dim for each key that a token sees (Kaplan et al.,
    arXiv:2001.08361; attention by Narayanan et al., arXiv:2104.04473, halved for a prompt, which is causal).
    Bytes: the weights once in each of `steps`, and the cache once for each decoded token. The cache that a prompt's
    chunks read again is left out, so MBU is a lower bound.

    Args:
        sent: the requests of the window.
        steps: steps of the engine in the window.
        duration_s: the window, in seconds.
        shape: of the model.
        ranks: that share the model.
        weight_bytes: that one rank reads in a step.
        kv_element_bytes: of one element of the cache.
        fp8_mode: none, native or transformer-engine; it chooses the peak.
        gpu: its name as torch reports it; None: a CPU.
        measured: `measure.ceilings` of this GPU before the load; the last peak of `mfu` and `mbu`.
    """
    layers = shape.parameters - 2 * shape.vocab * shape.hidden
    per_key = 4 * shape.layers * shape.heads * shape.head_dim
    flops = cache_tokens = 0
    for request in sent:
        made, prompt = len(request.token_times), request.input_tokens or 0
        if not made:
            continue
        decoded = made - 1
        seen = decoded * prompt + decoded * (decoded + 1) // 2  # keys of the decoded tokens
        cache_tokens += seen
        flops += 2 * layers * (prompt + decoded) + 2 * shape.vocab * shape.hidden * made
        flops += per_key * (prompt * (prompt + 1) // 2 + seen)
    moved = steps * weight_bytes + cache_tokens * shape.kv_bytes_per_token_on(ranks, kv_element_bytes)
    seconds = max(duration_s, 1e-9)
    tflops, tb = flops / ranks / seconds / 1e12, moved / seconds / 1e12
    compute, bandwidth = compute_ceilings(gpu, _MODES.get(fp8_mode, "bf16")), bandwidth_ceilings(gpu)
    if measured:
        product = measured.get("gemm_flops" if fp8_mode == "none" else "gemm_fp8_flops")
        if product is not None:
            compute.append(Ceiling(product / 1e12, f"{_BEFORE}: matrix product of 8192³, random data"))
        bandwidth.append(Ceiling(measured["copy_bytes_per_s"] / 1e12, f"{_BEFORE}: copy, bytes read and written"))
    return {
        "tflops_per_s": tflops,
        "tb_per_s": tb,
        "mfu": [{"percent": 100 * tflops / peak.value, "peak": peak.value, "source": peak.source} for peak in compute],
        "mbu": [{"percent": 100 * tb / peak.value, "peak": peak.value, "source": peak.source} for peak in bandwidth],
        "missing": None if compute else f"no peak rate is known for {gpu or 'a CPU'}",
    }
