"""FP8 linear layers by NVIDIA's Transformer Engine (`--fp8-mode transformer-engine`).

Weights are E4M3 with one scale a matrix, quantised once, when they are loaded; activations get one scale a call, from
the largest value in it, which Transformer Engine looks for itself (recipe Float8CurrentScaling). All rows of a step
share that scale, so what else is in the batch moves a row's result within FP8's rounding. The LM head is not FP8.
"""

import importlib
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from llmval_runners.engine.cudnn_place import load_torchs_cudnn
from llmval_runners.process.errors import Refused

ROWS = 16  # te.autocast: both dimensions of an input divisible by 16
RECIPE = "Float8CurrentScaling"


class TransformerEngine:
    """The library, and the one recipe that its layers here are made and run with."""

    def __init__(self, te: Any, recipe: Any, version: str) -> None:
        self.te, self.recipe, self.version = te, recipe, version
        self._zeros: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = {}

    @property
    def kernel(self) -> str:
        """What runs, for the result."""
        return (
            f"Transformer Engine {self.version}, {RECIPE}: E4M3 weights with one scale a matrix, activations with one "
            "scale a call; LM head in bfloat16"
        )

    def running(self) -> AbstractContextManager[Any]:
        """Entered around a step, once, not around each layer; outside it the products would not be FP8."""
        return self.te.autocast(enabled=True, recipe=self.recipe)

    def filled_up(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, width] with rows of zeros behind, to a multiple of `ROWS`; zeros do not move the scale."""
        missing = -len(x) % ROWS
        if not missing:
            return x
        kind = (x.shape[1], x.dtype, x.device)
        if kind not in self._zeros:  # kept, so that filling up is one kernel
            self._zeros[kind] = x.new_zeros(ROWS - 1, x.shape[1])
        return torch.cat((x, self._zeros[kind][:missing]))

    def linear(self, weight: torch.Tensor) -> "TeLinear":
        """The layer of `weight` [out, in]. Beside it one more 16-bit copy of this matrix lives while it is made."""
        # With gradients on, or in inference mode, the weight would keep a transposed copy, or could not be a parameter.
        quantised = self.te.quantized_model_init(enabled=True, recipe=self.recipe)
        with torch.inference_mode(False), torch.no_grad(), quantised:
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


def forget_workspace() -> None:
    """Give back the workspace that the library's products keep, if it is loaded; the next product takes it anew."""
    gemm = sys.modules.get("transformer_engine.pytorch.cpp_extensions.gemm")
    if gemm is not None:
        gemm.get_cublas_workspace.cache_clear()


class TeLinear:
    """x · Wᵀ in FP8. To be called within `engine.running()`."""

    __slots__ = ("engine", "inner")

    def __init__(self, engine: TransformerEngine, inner: Any) -> None:
        self.engine, self.inner = engine, inner

    @property
    def weight(self) -> torch.Tensor:
        """E4M3 [out, in], the bytes that the product reads; weight ≈ values · `scales`."""
        return self.inner.weight._data.view(torch.float8_e4m3fn)

    @property
    def scales(self) -> torch.Tensor:
        """float32 [1]"""
        return self.inner.weight._scale_inv

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, out] of x [rows, in] in bfloat16."""
        return self.inner(self.engine.filled_up(x))[: len(x)]


def load(
    asks: str = "--fp8-mode transformer-engine",
    remedy: str = "run `pip install 'transformer-engine[pytorch]'`, or pass --fp8-mode native.",
) -> TransformerEngine:
    """Import the library. `asks` and `remedy` are the two ends of the sentence where that fails.

    Raises:
        Refused: it is not installed, does not load here, or is too old.
    """
    try:
        load_torchs_cudnn()
        te = importlib.import_module("transformer_engine.pytorch")
        recipes = importlib.import_module("transformer_engine.common.recipe")
        version = importlib.import_module("transformer_engine").__version__
    except ImportError as error:
        raise Refused(f"{asks} needs Transformer Engine, which cannot be imported ({error}): {remedy}") from error
    except (OSError, RuntimeError) as error:  # built for another torch or CUDA: the loader's or its own complaint
        raise Refused(
            f"{asks} needs Transformer Engine, which is installed but does not load ({error}): {remedy}"
        ) from error
    for name in ("autocast", "quantized_model_init"):
        if not hasattr(te, name):
            raise Refused(f"{asks} needs Transformer Engine 2.20 or later, and {version} has no te.{name}: {remedy}")
    return TransformerEngine(te, getattr(recipes, RECIPE)(), version)
