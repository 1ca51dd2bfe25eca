"""A stand-in on a CPU for the part of Transformer Engine that the engine uses, with the checks of 2.20.2."""

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

VERSION = "2.20.2"


def quantised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Current scaling: E4M3 bytes and the inverse scale, float32 [1], of the whole tensor."""
    scale = torch.full((1,), 448.0) / x.abs().max().float().clamp(min=1e-12)  # `448.0 / x` would round twice
    return (x.float() * scale).to(torch.float8_e4m3fn).view(torch.uint8), 1 / scale


class Float8Tensor:
    """Bytes and inverse scale, with the arguments of the library's class."""

    def __init__(
        self, *, shape: torch.Size, dtype: torch.dtype, data: torch.Tensor, fp8_scale_inv: torch.Tensor,
        fp8_dtype: str, quantizer: object, device: torch.device, data_transpose: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        assert data.dtype == torch.uint8 and data.shape == shape and data.device == device
        assert fp8_scale_inv.shape == (1,) and fp8_scale_inv.dtype == torch.float32 and fp8_dtype == "E4M3"
        self.shape, self.dtype = shape, dtype
        self._data, self._scale_inv, self._transpose = data, fp8_scale_inv, data_transpose
        self._fp8_dtype, self._quantizer = fp8_dtype, quantizer

    @classmethod
    def of_weight(cls, weight: torch.Tensor) -> "Float8Tensor":
        """If gradients are on, also with a transposed copy, as in `reset_parameters`."""
        data, inverse = quantised(weight)
        return cls(
            shape=data.shape, dtype=weight.dtype, data=data, fp8_scale_inv=inverse, fp8_dtype="E4M3", quantizer=None,
            device=data.device, data_transpose=data.t().contiguous() if torch.is_grad_enabled() else None,
        )  # fmt: skip

    def values(self) -> torch.Tensor:
        return self._data.view(torch.float8_e4m3fn).float() * self._scale_inv


class FakeTe(ModuleType):
    """`transformer_engine.pytorch`. `inside` names the contexts that are open."""

    Float8Tensor = Float8Tensor

    def __init__(self) -> None:
        super().__init__("transformer_engine.pytorch")
        self.inside: list[str] = []
        self.rows: list[int] = []  # of each product
        self.quantised_rows: list[int] = []  # of those whose input was quantised already
        engine = self

        class Linear:
            def __init__(self, inputs: int, outputs: int, *, bias: bool, params_dtype, device, init_method) -> None:
                assert not bias and not torch.is_inference_mode_enabled()
                weight = torch.nn.Parameter(torch.empty(outputs, inputs, dtype=params_dtype, device=device))
                init_method(weight)
                self.weight: Any = Float8Tensor.of_weight(weight) if "quantized_model_init" in engine.inside else weight

            def __call__(self, x: torch.Tensor | Float8Tensor) -> torch.Tensor:
                assert "autocast" in engine.inside, "the product would not be FP8"
                assert x.shape[0] % 8 == 0 and x.shape[1] % 16 == 0, "assert_dim_for_fp8_exec"
                engine.rows.append(x.shape[0])
                if isinstance(x, Float8Tensor):
                    engine.quantised_rows.append(x.shape[0])
                    return F.linear(x.values(), self.weight.values()).to(x.dtype)
                values, scale = quantised(x)
                given = values.view(torch.float8_e4m3fn).float() * scale
                return F.linear(given, self.weight.values()).to(x.dtype)

        self.Linear: Any = Linear

    @contextlib.contextmanager
    def _context(self, name: str, enabled: bool, recipe: object) -> Iterator[None]:
        assert enabled and type(recipe).__name__ == "Float8CurrentScaling"
        self.inside.append(name)
        yield
        self.inside.remove(name)

    def autocast(self, *, enabled: bool, recipe: object) -> contextlib.AbstractContextManager[None]:
        return self._context("autocast", enabled, recipe)

    def quantized_model_init(self, *, enabled: bool, recipe: object) -> contextlib.AbstractContextManager[None]:
        return self._context("quantized_model_init", enabled, recipe)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeTe:
    """Make `import transformer_engine` find the fake."""
    te = FakeTe()
    package: Any = ModuleType("transformer_engine")
    recipes: Any = ModuleType("transformer_engine.common.recipe")
    package.__version__ = VERSION
    recipes.Float8CurrentScaling = type("Float8CurrentScaling", (), {})
    for name, module in (("", package), (".pytorch", te), (".common.recipe", recipes)):
        monkeypatch.setitem(__import__("sys").modules, f"transformer_engine{name}", module)
    return te
