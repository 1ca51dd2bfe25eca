"""Peak rates of GPUs, each with its source. Plain numbers, no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A peak rate of a GPU and its source."""

    value: float  # TFLOP/s or TB/s
    source: str


_MEASURED = "measured on one H200 (torch 2.11.0+cu130, random data)"
_DATASHEET: dict[str, tuple[float, float | None, float, str]] = {  # TFLOP/s (dense) in 16 bits and in FP8; TB/s; source
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
    """Peak dense TFLOP/s in a mode (fp16, bf16, fp8_te, fp8_native), datasheet first; [] for an unknown GPU.

    `gpu` is the device name that torch reports.
    """
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
    """Peak memory bandwidth in TB/s, datasheet first; [] for an unknown GPU."""
    found = [Ceiling(_DATASHEET[gpu][2], _DATASHEET[gpu][3])] if gpu in _DATASHEET else []
    if gpu in _ALSO_MEASURED:
        found.append(Ceiling(_ALSO_MEASURED[gpu]["bandwidth"], f"{_MEASURED}: copy, bytes read and written"))
    return found
