"""The linear layer in each mode.

A mode that the machine does not support is refused and never replaced by another mode.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from llmval_runners.engine import fp8
from llmval_runners.power.grid import FP8_MULTIPLE, Cell
from llmval_runners.process.errors import Refused


class LinearMode:
    """A mode on one device: makes the linear layers, and the context in which the stack runs."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        """Raises Refused if this machine cannot run the mode."""
        self.mode, self.device = cell.mode, device
        self.dtype = torch.float16 if cell.mode == "fp16" else torch.bfloat16
        self.note = {"fp16": "torch.float16", "bf16": "torch.bfloat16"}.get(cell.mode, "")
        self._engine: fp8.TransformerEngine | None = None
        if cell.mode.startswith("fp8"):
            self._check_fp8(cell)
        if cell.mode == "fp8_native":
            self.note = "torch._scaled_mm, E4M3, one scale a tensor, activations scaled at each call, attention in bf16"
        if cell.mode == "fp8_te":
            self._load_transformer_engine()

    def linear(self, inputs: int, outputs: int, std: float) -> torch.nn.Module:
        """A layer [inputs → outputs] without bias; weights are normal with standard deviation `std`."""
        weight = torch.empty(outputs, inputs, dtype=self.dtype, device=self.device).normal_(0.0, std)
        if self._engine is not None:
            return _TransformerEngineLinear(self._engine.linear(weight))
        return _ScaledLinear(weight) if self.mode == "fp8_native" else _Linear(weight)

    def context(self) -> AbstractContextManager[Any]:
        """Enter this once around a step, not around each layer."""
        return nullcontext() if self._engine is None else self._engine.autocast()

    def _check_fp8(self, cell: Cell) -> None:
        mode, shape = cell.mode, cell.shape
        if self.device.type != "cuda":
            raise Refused(f"{mode} needs an NVIDIA GPU of compute capability 8.9 or later, but this run is on a CPU")
        capability = torch.cuda.get_device_capability(self.device)
        if capability < fp8.CAPABILITY:
            has = ".".join(map(str, capability))
            raise Refused(
                f"{mode} needs compute capability 8.9 or later, but {torch.cuda.get_device_name(self.device)} has {has}"
            )
        if shape.d_model % FP8_MULTIPLE or shape.d_ff % FP8_MULTIPLE:
            raise Refused(
                f"{mode} needs --model-d-model and --model-d-ff divisible by {FP8_MULTIPLE}, but {shape.name} is not"
            )
        if mode == "fp8_native" and not hasattr(torch, "_scaled_mm"):
            raise Refused(f"torch {torch.__version__} has no torch._scaled_mm: install torch 2.11 or later")

    def _load_transformer_engine(self) -> None:
        self._engine = fp8.load_transformer_engine("fp8_te", instead="")
        self.note = f"Transformer Engine {self._engine.version}, {fp8.TE_RECIPE}, FP8 weights, attention in bf16"


class _Linear(torch.nn.Module):
    """x · Wᵀ with W [out, in]."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


class _ScaledLinear(torch.nn.Module):
    """x · Wᵀ by `torch._scaled_mm`: W in E4M3 with one scale; x is scaled by its largest value at each call."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        quantised, scale = quantise(weight)
        self.register_buffer("weight", quantised)  # [out, in]; its transpose is column-major, as cuBLAS requires
        self.register_buffer("scale", scale)
        self.dtype = weight.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, scale = quantise(x.flatten(0, -2))
        product = torch._scaled_mm(
            rows, self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=self.dtype, use_fast_accum=True
        )
        return product.view(*x.shape[:-1], -1)


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise to E4M3 with one scale (float32, 0-d): x ≈ q · scale.

    The inverse scale is first rounded to x's type, and the scale is computed from it, so that the two match exactly.
    The rounding raises the largest value by at most 0.8 %, to 451.6, which the cast rounds to 448.
    """
    low, high = torch.aminmax(x)
    largest = torch.maximum(-low, high).float().clamp_(min=1e-12)
    inverse = (fp8.E4M3_MAX / largest).to(x.dtype)
    return (x * inverse).to(torch.float8_e4m3fn), inverse.float().reciprocal()


class _TransformerEngineLinear(torch.nn.Module):
    """The engine's Transformer Engine layer, for inputs with any number of dimensions."""

    def __init__(self, inner: fp8.TeLinear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.flatten(0, -2)).reshape(*x.shape[:-1], -1)
