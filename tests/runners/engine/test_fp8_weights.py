"""Layers have the precision of the FP8 mode. `test_gpu.py` checks their products on a GPU."""

from dataclasses import replace

import pytest
import torch
from llmval_runners.engine import loader
from llmval_runners.engine.fp8 import NATIVE_KERNEL, Fp8Weight, TeLinear
from llmval_runners.engine.model import Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.weights import random_weights
from llmval_runners.load_test.config import configure_load_test
from llmval_runners.load_test.options import parse
from llmval_runners.process.placement import Placement

from tests.helpers.runners import fake_te

CPU = torch.device("cpu")
E4M3 = torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("mode", "kind", "dtype", "kernel"),
    [
        ("none", Linear, torch.float32, None),
        ("native", Fp8Weight, E4M3, NATIVE_KERNEL),
        ("transformer-engine", TeLinear, E4M3, "Transformer Engine 2.20.2"),
    ],
    ids=["none", "native", "transformer-engine"],
)
def test_every_linear_layer_has_the_modes_type(monkeypatch, mode: str, kind, dtype, kernel: str | None) -> None:
    """Loaded as for a run, which would need a GPU. The head stays unquantised; it has 32 bits here."""
    fake_te.install(monkeypatch)
    options = parse(["--model", "tiny", "--device", "cpu", "--duration", "9"])
    config = replace(configure_load_test(options, Placement())[0], fp8_mode=mode)
    model = loader.load(config, random_weights(0, CPU), Parallel(CPU)).model
    made = [linear for layer in model.layers for linear in (layer.qkv, layer.output, layer.gate_up, layer.down)]
    assert {(type(linear), linear.weight.dtype) for linear in made} == {(kind, dtype)}
    assert (type(model.head), model.head.weight.dtype) == (Linear, torch.float32)
    described = loader.fp8_kernel(model)
    assert (described is None) == (kernel is None)
    assert (described or "").startswith(kernel or "")


def test_a_native_weight_is_as_exact_as_three_bits_of_mantissa_allow() -> None:
    """One scale per output feature: small rows are as exact as large ones, and a row of zeros stays zero."""
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(1)) * torch.logspace(-6, 3, 48)[:, None]
    weight[5] = 0
    made = Fp8Weight.quantize(weight)
    assert (made.weight.dtype, made.scales.shape, made.scales.dtype) == (E4M3, (48,), torch.float32)
    error = (made.weight.float() * made.scales[:, None] - weight).abs()
    half_a_step = torch.maximum(weight.abs() / 16, made.scales[:, None] * 2**-10)  # for normal and subnormal values
    assert (error <= half_a_step * 1.001).all()
    assert (made.weight.float().abs().amax(1) == 448).sum() == 47
    assert not made.weight[5].float().any()
