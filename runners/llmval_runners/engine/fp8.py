"""Linear layers in FP8 (E4M3): this project's own (`--fp8-mode native`) and those of NVIDIA's Transformer Engine.

Native: each output feature of a weight has one scale, computed once when the weights are loaded. Each row of the
activations gets one scale per product (`kernels/fused_ops.py`). A product is then
x · Wᵀ ≈ (x8 · W8ᵀ) · scale of the row · scale of the feature.

Transformer Engine (`--fp8-mode transformer-engine`): each weight matrix has one scale, also computed once. Activations
get one scale per call, from the largest value in the call (recipe Float8CurrentScaling). All rows of a step share that
scale, so the other sequences of a batch change a row's result within FP8's rounding. In a step of few rows, this
engine's kernels quantise for the library, which takes a memset and two kernels more for each product.

The LM head stays in bfloat16 in both modes.
"""

import ctypes
import importlib
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from llmval_runners.process.errors import Refused
from llmval_runners.process.install import how_to_install

E4M3_MAX = 448.0  # the largest finite torch.float8_e4m3fn
MULTIPLE = 16  # cuBLASLt's FP8 products need sizes that are multiples of this
CAPABILITY = (8, 9)
NATIVE_KERNEL = (
    "torch._scaled_mm and Triton: E4M3 weights with one scale an output feature, activations with one scale a row; LM "
    "head in bfloat16"
)
TE_ROWS = 16  # te.autocast needs inputs whose both dimensions are divisible by 16
TE_RECIPE = "Float8CurrentScaling"
OLDEST_TE = "2.20"
CUDNN_VARIABLES = ("CUDNN_HOME", "CUDNN_PATH")  # Transformer Engine 2.20 looks here first (transformer_engine/common)
MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Fp8Weight:
    """W [out, in] in E4M3 and `scales` float32 [out]: W ≈ weight · scales."""

    weight: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def quantize(cls, weight: torch.Tensor) -> "Fp8Weight":
        largest = weight.abs().amax(dim=1).float().clamp_(min=1e-12)
        scales = largest / E4M3_MAX
        values = (weight.float() / scales[:, None]).clamp_(-E4M3_MAX, E4M3_MAX)
        return cls(values.to(torch.float8_e4m3fn), scales)

    def multiplied_out(self, dtype: torch.dtype) -> torch.Tensor:
        """W [out, in] in `dtype`."""
        return (self.weight.float() * self.scales[:, None]).to(dtype)


class TransformerEngine:
    """The library, and its recipe, which makes and runs all layers."""

    def __init__(self, te: Any, recipe: Any, version: str) -> None:
        self.te, self.recipe, self.version = te, recipe, version
        self._zeros: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = {}

    @property
    def kernel(self) -> str:
        """A description of the products for the result file."""
        return (
            f"Transformer Engine {self.version}, {TE_RECIPE}: E4M3 weights with one scale a matrix, activations with "
            "one scale a call; LM head in bfloat16"
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Enter this once around a step, not around each layer. Outside it, products are not FP8."""
        context: AbstractContextManager[object] = self.te.autocast(enabled=True, recipe=self.recipe)
        return context

    def pad_rows(self, x: torch.Tensor) -> torch.Tensor:
        """Append rows of zeros to x [rows, width], up to a multiple of `TE_ROWS`. Zeros do not change the scale."""
        missing = -len(x) % TE_ROWS
        if not missing:
            return x
        kind = (x.shape[1], x.dtype, x.device)
        if kind not in self._zeros:  # cached, so that padding is one kernel
            self._zeros[kind] = x.new_zeros(TE_ROWS - 1, x.shape[1])
        return torch.cat((x, self._zeros[kind][:missing]))

    def linear(self, weight: torch.Tensor) -> "TeLinear":
        """A layer with `weight` [out, in]. While it is made, one more 16-bit copy of the matrix exists."""
        # With gradients on, the weight would keep a transposed copy; in inference mode it could not be a parameter.
        quantized = self.te.quantized_model_init(enabled=True, recipe=self.recipe)
        with torch.inference_mode(False), torch.no_grad(), quantized:
            inner = self.te.Linear(
                weight.shape[1], weight.shape[0], bias=False, params_dtype=weight.dtype, device=weight.device,
                init_method=lambda parameter: parameter.copy_(weight),
            )  # fmt: skip
        made = inner.weight
        if not isinstance(made, self.te.Float8Tensor) or made._data is None or made._transpose is not None:
            raise RuntimeError(
                f"Transformer Engine {self.version} made a weight of {type(made).__name__}, not one copy in FP8"
            )
        return TeLinear(self, inner)


class TeLinear:
    """x · Wᵀ in FP8. Call it within `engine.autocast()`."""

    __slots__ = ("engine", "inner")

    def __init__(self, engine: TransformerEngine, inner: Any) -> None:
        self.engine, self.inner = engine, inner

    @property
    def weight(self) -> torch.Tensor:
        """E4M3 [out, in], the bytes that the product reads: W ≈ weight · `scales`."""
        weight: torch.Tensor = self.inner.weight._data.view(torch.float8_e4m3fn)
        return weight

    @property
    def scales(self) -> torch.Tensor:
        """float32 [1]"""
        scales: torch.Tensor = self.inner.weight._scale_inv
        return scales

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """bfloat16 [rows, in] → [rows, out]."""
        out: torch.Tensor = self.inner(self.engine.pad_rows(x))[: len(x)]
        return out

    def of_fp8(self, values: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(values · scale) · Wᵀ in `dtype`: E4M3 [rows, in], float32 [1] → [rows, out].

        The number of rows is a multiple of `TE_ROWS`.
        """
        weight = self.inner.weight
        given = self.engine.te.Float8Tensor(
            shape=values.shape, dtype=dtype, data=values.view(torch.uint8), fp8_scale_inv=scale,
            fp8_dtype=weight._fp8_dtype, quantizer=weight._quantizer, device=values.device,
        )  # fmt: skip
        out: torch.Tensor = self.inner(given)
        return out


def load_transformer_engine(
    asks: str = "--fp8-mode transformer-engine",
    instead: str = ", or pass --fp8-mode native",
) -> TransformerEngine:
    """Import the library. `asks` and `instead` are the start and the end of the message if that fails.

    Raises:
        Refused: it is not installed, does not load on this machine, or is too old.
    """
    remedy = f"{how_to_install(f'transformer-engine[pytorch]>={OLDEST_TE}')}{instead}."
    try:
        preload_torch_cudnn()
        te = importlib.import_module("transformer_engine.pytorch")
        recipes = importlib.import_module("transformer_engine.common.recipe")
        version = importlib.import_module("transformer_engine").__version__
    except ImportError as error:
        raise Refused(f"{asks} needs Transformer Engine, which cannot be imported ({error}): {remedy}") from error
    except (OSError, RuntimeError) as error:  # built for another torch or CUDA
        raise Refused(
            f"{asks} needs Transformer Engine, which is installed but does not load ({error}): {remedy}"
        ) from error
    for name in ("autocast", "quantized_model_init"):
        if not hasattr(te, name):
            raise Refused(
                f"{asks} needs Transformer Engine {OLDEST_TE} or later, and {version} has no te.{name}: {remedy}"
            )
    return TransformerEngine(te, getattr(recipes, TE_RECIPE)(), version)


def free_workspace() -> None:
    """Free the workspace that Transformer Engine's products keep, if the library is loaded. The next product allocates
    it again.
    """
    gemm = sys.modules.get("transformer_engine.pytorch.cpp_extensions.gemm")
    if gemm is not None:
        gemm.get_cublas_workspace.cache_clear()


def preload_torch_cudnn() -> Path | None:
    """Load all parts of the cuDNN that torch uses, so that Transformer Engine uses the same one; returns its folder.

    The system may have another version of cuDNN than torch. Transformer Engine's library links to every part of cuDNN,
    and the loader takes a part from the system unless a library of that name is loaded already. Parts of two versions
    do not work together. Does nothing and returns None if the environment names a cuDNN, or torch has not loaded one.

    Raises:
        OSError: a part does not load.
    """
    if any(os.environ.get(name) for name in CUDNN_VARIABLES):
        return None
    for line in MAPS.read_text().splitlines():
        path = Path("/" + line.partition("/")[2])
        if path.name.startswith("libcudnn.so"):
            for part in sorted(path.parent.glob("libcudnn*.so.[0-9]*")):
                ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
            os.environ[CUDNN_VARIABLES[0]] = str(path.parent)
            return path.parent
    return None
