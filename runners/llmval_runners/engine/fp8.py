"""FP8 weights (`--fp8-mode native`): E4M3 with one scale an output feature, made once, when the weights are loaded.

Activations get one scale a row at each product (`kernels.py`), so every product is x · Wᵀ ≈ (x8 · W8ᵀ) · scale of the
row · scale of the feature. The LM head stays in bfloat16.
"""

from dataclasses import dataclass

import torch

E4M3_MAX = 448.0  # the largest finite torch.float8_e4m3fn
MULTIPLE = 16  # cuBLASLt takes FP8 operands whose sizes are multiples of this
CAPABILITY = (8, 9)
NATIVE_KERNEL = (
    "torch._scaled_mm and Triton: E4M3 weights with one scale an output feature, activations with one scale a row; LM "
    "head in bfloat16"
)


@dataclass(frozen=True, slots=True)
class Fp8Weight:
    """W [out, in] in E4M3, and `scales` float32 [out]: weight ≈ values · scales."""

    weight: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor) -> "Fp8Weight":
        largest = weight.abs().amax(dim=1).float().clamp_(min=1e-12)
        scales = largest / E4M3_MAX
        values = (weight.float() / scales[:, None]).clamp_(-E4M3_MAX, E4M3_MAX)
        return cls(values.to(torch.float8_e4m3fn), scales)
