"""Decodes by flex attention on a GPU, at batch sizes whose contexts are split and at those whose are not."""

from dataclasses import replace

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]
PAGE, HEADS, KV_HEADS, DIM, WIDE = 128, 32, 8, 128, 9


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize(("batch", "splits"), [(8, 4), (32, 1)])
@torch.inference_mode()
def test_flex_decodes_equal_float32(batch: int, splits: int, fp8: bool) -> None:
    from llmval_runners.engine.attention.backend import Tokens
    from llmval_runners.engine.attention.flex import FlexAttention, splits_for
    from llmval_runners.engine.kv_cache import PagedKVCache
    from llmval_runners.engine.shapes import SHAPES

    assert splits_for(batch, KV_HEADS) == splits
    torch.manual_seed(0)
    kind, device = torch.float8_e4m3fn if fp8 else torch.bfloat16, torch.device("cuda")
    shape = replace(SHAPES["llama-3.1-8b"], layers=1)
    cache = PagedKVCache(shape, tensor_parallel=1, pages=batch * WIDE, page_size=PAGE, dtype=kind, device=device)
    keys, values = cache.layer(0)
    for pool in (keys, values):
        pool.copy_(torch.randn(pool.shape, device=device).to(kind))
    table = torch.randperm(batch * WIDE, device=device).int().view(batch, WIDE)
    positions = torch.randint(0, WIDE * PAGE, (batch,), dtype=torch.int32, device=device)
    positions[:4] = torch.tensor([0, 127, 128, WIDE * PAGE - 1])
    rows = torch.arange(batch, dtype=torch.int32, device=device)
    qkv = torch.randn(batch, HEADS + 2 * KV_HEADS, DIM, device=device).bfloat16()
    found = FlexAttention(cache, HEADS).decode(Tokens(rows.long(), rows, positions), table)(qkv, keys, values)
    for row, position in enumerate(positions.tolist()):
        places = torch.arange(position + 1, device=device)
        slots = table[row, places // PAGE].long() * PAGE + places % PAGE
        k, v = (pool[:, slots].float().repeat_interleave(HEADS // KV_HEADS, 0) for pool in (keys, values))
        q = qkv[row, :HEADS, None].float()
        expected = ((q @ k.transpose(1, 2) * DIM**-0.5).softmax(-1) @ v).flatten()
        assert float((found[row].float() - expected).norm() / expected.norm()) < 0.02, (row, position)
