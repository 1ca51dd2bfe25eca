"""Model FLOPs, bytes, and utilisation of the hardware. Plain numbers, no torch."""

from dataclasses import dataclass
from typing import Any

from llmval_runners.power.grid import Cell

WEIGHT_BYTES = {"fp16": 2, "bf16": 2, "fp8_te": 1, "fp8_native": 1}  # of the linear layers
KV_BYTES = 2  # the cache holds fp16 or bf16 in every mode


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a GPU can do, and who says so."""

    value: float  # TFLOP/s or TB/s
    source: str


_MEASURED = "measured on one H200 (torch 2.11.0+cu130, random data)"
_DATASHEET = {  # by torch's device name: dense TFLOP/s in 16 bits, in FP8, and TB/s
    "NVIDIA H200": (989.0, 1979.0, 4.8, "NVIDIA H200 datasheet"),
    "NVIDIA H100 80GB HBM3": (989.0, 1979.0, 3.35, "NVIDIA H100 SXM datasheet"),
    "NVIDIA H100 PCIe": (756.0, 1513.0, 2.0, "NVIDIA H100 PCIe datasheet"),
    "NVIDIA A100-SXM4-80GB": (312.0, None, 2.039, "NVIDIA A100 80GB SXM datasheet"),
    "NVIDIA B200": (2250.0, 4500.0, 7.7, "NVIDIA HGX B200 datasheet, per GPU"),
}
_ALSO_MEASURED = {
    "NVIDIA H200": {"fp16": 790.0, "bf16": 790.0, "fp8_te": 1190.0, "fp8_native": 1469.0, "bandwidth": 4.21}
}


def compute_ceilings(gpu: str | None, mode: str) -> list[Ceiling]:
    """Peak dense TFLOP/s of `mode` on a GPU of that name, datasheet first; [] where no source is known."""
    found = []
    if gpu in _DATASHEET:
        sixteen, eight, _, source = _DATASHEET[gpu]
        peak = eight if mode.startswith("fp8") else sixteen
        if peak is not None:
            found.append(Ceiling(peak, f"{source}, dense"))
    if gpu in _ALSO_MEASURED:
        found.append(Ceiling(_ALSO_MEASURED[gpu][mode], f"{_MEASURED}: largest GEMM rate of this mode"))
    return found


def bandwidth_ceilings(gpu: str | None) -> list[Ceiling]:
    """Peak memory bandwidth, TB/s, datasheet first; [] where no source is known."""
    found = [Ceiling(_DATASHEET[gpu][2], _DATASHEET[gpu][3])] if gpu in _DATASHEET else []
    if gpu in _ALSO_MEASURED:
        found.append(Ceiling(_ALSO_MEASURED[gpu]["bandwidth"], f"{_MEASURED}: copy, bytes read and written"))
    return found


def tokens_per_step(cell: Cell, phase: str) -> int:
    """Prefill: every token of every prompt. Decode: one token a sequence."""
    return cell.batch * (cell.sequence_length if phase == "prefill" else 1)


def flops_per_token(cell: Cell, phase: str) -> float:
    """2 · parameters of the matrices + the attention term (a multiply and an add count as two).

    QKᵀ and the weighted sum of V cost 2·d_model each for every key that a token sees, in every layer; in causal
    prefill a token sees (S + 1) / 2 keys on average, in decode all S. Source: Kaplan et al. (arXiv:2001.08361),
    section 2.1, with the attention term of Narayanan et al. (arXiv:2104.04473), appendix, halved for the causal mask.
    """
    shape, length = cell.shape, cell.sequence_length
    seen = (length + 1) / 2 if phase == "prefill" else length
    return 2 * shape.linear_parameters + 4 * shape.layers * shape.d_model * seen


def weight_bytes(cell: Cell) -> int:
    """Bytes of the stack's weights on a GPU: matrices in the mode's precision, norms in 16 bits."""
    norms = cell.shape.parameters - cell.shape.linear_parameters
    return cell.shape.linear_parameters * WEIGHT_BYTES[cell.mode] + norms * 2


def kv_bytes(cell: Cell) -> int:
    """2 · layers · KV heads · head dim · bytes · tokens · batch; here KV heads · head dim is the model's width."""
    return 2 * cell.shape.layers * cell.shape.d_model * KV_BYTES * cell.sequence_length * cell.batch


def memory_needed(cell: Cell, phases: list[str]) -> int:
    """Bytes a GPU must have free: weights, cache, and the largest activations of a step.

    A prefill step holds at once the residual, the normed input, QKV and the attention's output (6 widths), or the
    MLP's two hidden states; FP8 modes hold an FP8 copy of a GEMM's input besides, and Transformer Engine a 16-bit
    weight while it is made.
    """
    rows = cell.batch * (cell.sequence_length if "prefill" in phases else 16)
    widths = 2 * cell.shape.d_model + max(6 * cell.shape.d_model, 2 * cell.shape.d_ff + cell.shape.d_model)
    largest_weight = cell.shape.d_model * max(cell.shape.d_ff, 3 * cell.shape.d_model)
    making = largest_weight * 6 if cell.mode.startswith("fp8") else 0
    return (
        weight_bytes(cell)
        + kv_bytes(cell)
        + rows * widths * 2
        + making
        + (512 << 20 if "prefill" in phases else 64 << 20)
    )


def utilisation(cell: Cell, phase: str, gpu: str | None, tokens_per_s: float) -> dict[str, Any]:
    """MFU and MBU of one GPU that makes `tokens_per_s`.

    MFU = FLOPs per token · tokens/s ÷ peak of the mode's precision. In FP8 modes attention runs in 16 bits, so MFU
    against the FP8 peak is a lower bound. MBU = (weight bytes + KV bytes read) / step time ÷ peak bandwidth, for
    decode, which reads every weight and the whole cache each step; prefill is bound by compute and has none.
    """
    flops = flops_per_token(cell, phase)
    achieved = flops * tokens_per_s / 1e12
    moved = (weight_bytes(cell) + kv_bytes(cell)) * tokens_per_s / tokens_per_step(cell, phase) / 1e12
    compute, bandwidth = compute_ceilings(gpu, cell.mode), bandwidth_ceilings(gpu)
    missing = None if compute else f"no peak is known for {gpu or 'a CPU'} in {cell.mode}: MFU and MBU cannot be had"
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
