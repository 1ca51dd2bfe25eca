"""Inputs of Transformer Engine's products, quantised by the engine's kernels on a GPU."""

from collections.abc import Callable

import pytest
import torch

from tests.helpers.runners.te_here import skip_without_transformer_engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]


@pytest.fixture(autouse=True)
def _seeded_without_gradients():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("rows", [1, 3, 16, 32, 200, 256])
@pytest.mark.parametrize("kernel", ["norm", "silu", "largest"])
def test_one_scale_of_all_rows_is_that_of_the_recipe(rows: int, kernel: str) -> None:
    """Bit for bit: values in 16 bits as without this, the scale 448 / largest, E4M3 of value · scale, zeros below."""
    from llmval_runners.engine.kernels.fused_ops import (
        LinearInput,
        add_rms_norm,
        linear_input,
        silu_mul,
        with_one_scale,
    )

    width, draw = 14336 if kernel == "silu" else 4096, torch.randn
    x = draw(rows, width * (2 if kernel == "silu" else 1), device="cuda").bfloat16()
    weight, update = draw(width, device="cuda").bfloat16(), draw(2, rows, width, device="cuda")
    make: dict[str, Callable[[bool], LinearInput]] = {
        "norm": lambda largest: add_rms_norm(x.clone(), update, weight, 1e-5, False, largest),
        "silu": lambda largest: silu_mul(x, False, largest),
        "largest": lambda largest: linear_input(x, False, largest),
    }
    plain, given = make[kernel](False), make[kernel](True)
    assert torch.equal(given.values, plain.values) and plain.largest is None
    assert given.largest is not None
    assert torch.equal(given.largest, plain.values.abs().amax(1).float())
    found = with_one_scale(given, 16)
    scale = torch.full((1,), 448.0, device="cuda") / plain.values.abs().max().float()
    assert found.scales is not None and torch.equal(found.scales, 1 / scale)
    expected = (plain.values.float() * scale).to(torch.float8_e4m3fn)
    assert len(found.values) == -(-rows // 16) * 16
    assert torch.equal(found.values[:rows].view(torch.uint8), expected.view(torch.uint8))
    assert not found.values[rows:].view(torch.uint8).any()


@pytest.mark.parametrize("rows", [1, 16, 32, 100, 256])
def test_a_product_of_quantised_values_is_that_of_the_library(rows: int) -> None:
    from llmval_runners.engine.fp8 import TE_ROWS, load_transformer_engine
    from llmval_runners.engine.kernels.fused_ops import linear_input, with_one_scale

    skip_without_transformer_engine()
    engine = load_transformer_engine()
    layer = engine.linear(torch.randn(6144, 4096, device="cuda").bfloat16())
    x = torch.randn(rows, 4096, device="cuda").bfloat16()
    with engine.autocast():
        given = with_one_scale(linear_input(x, False, True), TE_ROWS)
        assert given.scales is not None
        found, expected = layer.of_fp8(given.values, given.scales, x.dtype)[:rows], layer(x)
    assert torch.equal(found, expected)
