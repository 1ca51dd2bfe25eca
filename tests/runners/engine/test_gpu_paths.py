"""Host-side decisions of the GPU code, checked on a CPU: page sizes, merged chunks, compiled sizes."""

from types import SimpleNamespace

import pytest
import torch
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.kv_cache import check_gpu_page
from llmval_runners.engine.loader import fp8_mode
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.weights import build, random_weights
from llmval_runners.process.errors import Refused

from tests.helpers.runners.own_process import run

CPU = torch.device("cpu")


def test_page_sizes_that_no_tile_divides_are_refused() -> None:
    for taken in (16, 32, 64, 128, 192, 256):
        check_gpu_page(taken)
    for size in (8, 48, 80, 96, 112, 160):
        with pytest.raises(Refused, match=f"--page-size {size} is not 16, 32 or a multiple of 64"):
            check_gpu_page(size)


def test_one_row_is_multiplied_in_blocks_that_divide_the_width() -> None:
    """Also a rank's width, which is not a multiple of 2,048: 7,168 of the 8B shape over two ranks."""
    run("""
import no_triton
from llmval_runners.engine.kernels.small_batch_linear import tiles_for

def tile(width, fp8=False, features=4096):
    found = tiles_for(1, features, width, fp8, 132, True)
    return found and (found.features, found.block)

assert [tile(width) for width in (4096, 14336, 7168, 1024, 3584, 1792, 4000)] == [
    (2, 2048), (2, 2048), (4, 1024), (4, 1024), (8, 512), None, None]
assert [tile(width, True) for width in (4096, 7168, 3584, 1792)] == [(8, 1024), (8, 1024), (16, 512), None]
assert tile(7168, features=6) is None and tile(14336, features=6) == (2, 2048)
""")


def test_a_tile_always_divides_the_page() -> None:
    run("""
import no_triton
import torch
from llmval_runners.engine.kernels.paged_decode import paged_decode
pools = torch.zeros(1, 960, 16)
rows = torch.zeros(1, dtype=torch.int32)
try:
    paged_decode(torch.zeros(1, 3, 16), pools, pools, rows, rows, rows[None], heads=1, page_size=96, splits=4)
except ValueError as error:
    assert "tiles of 64 tokens do not divide pages of 96" in str(error)
else:
    raise AssertionError("it would read beyond a page")
""")


def test_a_fresh_prompt_beside_a_continued_one_is_not_merged_with_attention_to_zero_keys() -> None:
    """For zero keys PyTorch returns uninitialised memory; the stand-in returns NaN."""
    run("""
from types import SimpleNamespace
import torch
import no_triton
from llmval_runners.engine.attention import sdpa
from llmval_runners.engine.attention.backend import Prompts, TokenSpan
from llmval_runners.engine.attention.sdpa import SdpaAttention

def cudnn(q, k, v, causal):
    if not k.numel():
        return torch.full_like(q, float("nan")), torch.full(q.shape[:3], float("nan"))
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[2:]).triu(1).bool(), float("-inf"))
    return scores.softmax(-1) @ v, scores.logsumexp(-1)

def merge(one, two, one_log, two_log, out):
    out.copy_(one + (two - one) * torch.sigmoid(two_log - one_log).t()[..., None])

sdpa._cudnn, sdpa.merge_attention = cudnn, merge
torch.manual_seed(0)
pool = torch.randn(1, 2, 1, 80 * 128, 16)
attention = SdpaAttention(SimpleNamespace(page_size=128, pool=pool), 1)
qkv = torch.randn(4096, 3, 16)

def step(*spans):
    pages = [list(range(20 * i, 20 * i + 40)) for i in range(len(spans))]
    return attention.prefill(None, None, Prompts(list(spans), pages))(qkv[: sum(s.count for s in spans)], *pool[0])

fresh = step(TokenSpan(0, 0, 2048, 0))
mixed = step(TokenSpan(0, 0, 2048, 2048), TokenSpan(1, 2048, 2048, 0))
assert mixed.isfinite().all()
qkv[:2048] = qkv[2048:].clone()
assert torch.allclose(mixed[2048:], step(TokenSpan(0, 0, 2048, 0)), atol=1e-6)
assert not torch.allclose(mixed[:2048], fresh, atol=1e-2), "earlier tokens count"
""")


def test_compiling_for_large_steps_stays_within_the_page_table() -> None:
    run("""
from types import SimpleNamespace
import torch
import no_triton
from llmval_runners.engine.gpu.executor import GpuExecutor

ran = []
executor = SimpleNamespace(
    page_table=torch.zeros(3, 5, dtype=torch.int32), cache=SimpleNamespace(page_size=128, padding_page=7),
    padding_row=2, _pages={},
)

def prefill(chunks):
    ran.append([(c.row, c.start, len(c.tokens), len(executor._pages[c.row])) for c in chunks])

executor.prefill = prefill
GpuExecutor._compile_prompts(executor, [512, 1500])
assert ran == [[(2, 0, 512, 5)], [(2, 0, 640, 5), (2, 0, 640, 5), (2, 0, 220, 5)]], ran
assert not executor._pages
""")


def test_the_reported_fp8_mode_is_read_from_the_layers() -> None:
    made = [
        build(SHAPES["tiny"], random_weights(0, CPU), Parallel(CPU), torch.float32, *how)
        for how in ((), (Fp8Weight.quantize,))
    ]
    assert [fp8_mode(model) for model in made] == ["none", "native"]
    te = SimpleNamespace(layers=[SimpleNamespace(qkv=object.__new__(te_layer()))])
    assert fp8_mode(te) == "transformer-engine"  # type: ignore[arg-type]


def te_layer() -> type:
    from llmval_runners.engine.fp8 import TeLinear

    return TeLinear


def test_an_fp8_cache_gets_fp8_prompts_only_where_they_were_measured() -> None:
    """On Hopper, with cuDNN's frontend; what was asked for by name is always taken."""
    run("""
from types import SimpleNamespace
import no_triton
import importlib.util
import torch
from llmval_runners.engine import loader
from llmval_runners.engine.attention import fp8_prefill, sdpa

found = importlib.util.find_spec
fp8_prefill.Fp8PrefillAttention = lambda *_: "fp8"
sdpa.SdpaAttention = lambda *_: "sdpa"

def chosen(asked="auto", dtype=torch.float8_e4m3fn, capability=(9, 0), frontend=True, dim=128, page=128):
    torch.cuda.get_device_capability = lambda device: capability
    importlib.util.find_spec = lambda name, *more: frontend or None if name == "cudnn" else found(name, *more)
    pool = SimpleNamespace(device=torch.device("cuda"), shape=(1, 2, 1, page, dim))
    return loader.gpu_attention("auto", SimpleNamespace(dtype=dtype, page_size=page, pool=pool), 4, asked)

assert chosen() == chosen("fp8") == chosen("fp8", frontend=False) == "fp8"
other = (chosen("bf16"), chosen(dtype=torch.bfloat16), chosen(capability=(8, 9)), chosen(capability=(10, 0)),
         chosen(frontend=False), chosen(dim=64), chosen(page=192))
assert set(other) == {"sdpa"}, other
""")
