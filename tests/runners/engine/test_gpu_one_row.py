"""The product of one row on a GPU, for widths that a rank of several has."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("width", [512, 1024, 3584, 7168, 9472, 14336])
def test_one_row_of_any_width(width: int, fp8: bool) -> None:
    """One block of each size, and several; 9,472 are 18.5 blocks of the smallest, so a library computes it."""
    from llmval_runners.engine.fp8 import Fp8Weight
    from llmval_runners.engine.kernels.fused_ops import linear_input
    from llmval_runners.engine.kernels.small_batch_linear import small_batch_linear, tiles_for

    torch.manual_seed(0)
    tiles = tiles_for(1, 4096, width, fp8, 132, True)
    if width % 512:
        assert tiles is None
        return
    assert tiles is not None
    x, matrix = torch.randn(1, width, device="cuda").bfloat16(), torch.randn(4096, width, device="cuda").bfloat16()
    given, made = linear_input(x, fp8), Fp8Weight.quantize(matrix) if fp8 else None
    weight, scales = (matrix, None) if made is None else (made.weight, made.scales)
    found = small_batch_linear(given, weight, scales, torch.bfloat16, tiles)
    values = given.values.double() * (1 if given.scales is None else given.scales[:, None])
    expected = values @ (weight.double() * (1 if scales is None else scales[:, None])).T
    assert found.shape == (1, 1, 4096)
    assert float((found[0].double() - expected).norm() / expected.norm()) < 6e-3
