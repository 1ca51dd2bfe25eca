"""Model FLOPs and bytes of a sweep's stack, and the share of the hardware's peak that they reach. No torch."""

from typing import Any

from llmval_runners.measure.peaks import bandwidth_ceilings, compute_ceilings
from llmval_runners.power.grid import Cell

WEIGHT_BYTES = {"fp16": 2, "bf16": 2, "fp8_te": 1, "fp8_native": 1}  # of the linear layers
KV_BYTES = 2  # the cache holds fp16 or bf16 in every mode


def tokens_per_step(cell: Cell, phase: str) -> int:
    """Prefill: all tokens of all prompts. Decode: one token per sequence."""
    return cell.batch * (cell.sequence_length if phase == "prefill" else 1)


def flops_per_token(cell: Cell, phase: str) -> float:
    """2 · parameters of the matrices + the attention term; a multiply and an add count as two.

    For each key that a token attends to, QKᵀ and the weighted sum of V cost 2·d_model each in every layer. In causal
    prefill a token attends to (S + 1) / 2 keys on average, in decode to all S. Source: Kaplan et al.
    (arXiv:2001.08361), section 2.1; attention term of Narayanan et al. (arXiv:2104.04473), appendix, halved for the
    causal mask.
    """
    shape, length = cell.shape, cell.sequence_length
    seen = (length + 1) / 2 if phase == "prefill" else length
    return 2 * shape.linear_parameters + 4 * shape.layers * shape.d_model * seen


def weight_bytes(cell: Cell) -> int:
    """Bytes of the stack's weights on one GPU: matrices in the mode's precision, norms in 16 bits."""
    norms = cell.shape.parameters - cell.shape.linear_parameters
    return cell.shape.linear_parameters * WEIGHT_BYTES[cell.mode] + norms * 2


def kv_bytes(cell: Cell) -> int:
    """2 · layers · d_model · bytes · tokens · batch. The stack has as many KV heads as heads."""
    return 2 * cell.shape.layers * cell.shape.d_model * KV_BYTES * cell.sequence_length * cell.batch


def memory_needed(cell: Cell, phases: list[str]) -> int:
    """Bytes that must be free on a GPU: weights, cache, and the largest activations of a step.

    A prefill step holds at once either the residual, the normed input, QKV and the attention output (6 widths), or
    the MLP's two hidden states. FP8 modes also hold an FP8 copy of a GEMM's input, and Transformer Engine a 16-bit
    weight while it builds a layer.
    """
    rows = cell.batch * (cell.sequence_length if "prefill" in phases else 16)
    widths = 2 * cell.shape.d_model + max(6 * cell.shape.d_model, 2 * cell.shape.d_ff + cell.shape.d_model)
    largest_weight = cell.shape.d_model * max(cell.shape.d_ff, 3 * cell.shape.d_model)
    building = largest_weight * 6 if cell.mode.startswith("fp8") else 0
    return (
        weight_bytes(cell)
        + kv_bytes(cell)
        + rows * widths * 2
        + building
        + (512 << 20 if "prefill" in phases else 64 << 20)
    )


def utilisation(cell: Cell, phase: str, gpu: str | None, tokens_per_s: float) -> dict[str, Any]:
    """MFU and MBU of one GPU at `tokens_per_s`.

    MFU = FLOPs per token · tokens/s ÷ peak of the mode's precision. In FP8 modes attention runs in 16 bits, so MFU
    against the FP8 peak is a lower bound. MBU = (weight bytes + KV bytes read) / step time ÷ peak bandwidth. It is
    given for decode only, which reads every weight and the whole cache each step; prefill is bound by compute.
    """
    flops = flops_per_token(cell, phase)
    achieved = flops * tokens_per_s / 1e12
    moved = (weight_bytes(cell) + kv_bytes(cell)) * tokens_per_s / tokens_per_step(cell, phase) / 1e12
    compute, bandwidth = compute_ceilings(gpu, cell.mode), bandwidth_ceilings(gpu)
    missing = None if compute else f"no peak is known for {gpu or 'a CPU'} in {cell.mode}: no MFU and MBU"
    return {
        "flops_per_token": flops,
        "achieved_tflops_per_s": achieved,
        "mfu": [
            {"value": achieved / peak.value, "peak_tflops_per_s": peak.value, "source": peak.source} for peak in compute
        ],
        "achieved_tb_per_s": moved if phase == "decode" else None,
        "mbu": [{"value": moved / peak.value, "peak_tb_per_s": peak.value, "source": peak.source} for peak in bandwidth]
        if phase == "decode"
        else [],
        "missing": missing,
    }
