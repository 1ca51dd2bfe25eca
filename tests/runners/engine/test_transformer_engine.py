"""Transformer Engine's layers: made, padded, run, counted and reported, with a fake in place of the library.

`test_gpu.py` checks the library's own results on a GPU.
"""

import ctypes
import functools
import importlib
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.loader import fp8_kernel, linear_maker
from llmval_runners.engine.model import Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.step_plan import Admit, Prefill, StepPlan
from llmval_runners.engine.weights import build, random_weights
from llmval_runners.load_test.config import configure_load_test
from llmval_runners.load_test.options import parse
from llmval_runners.long_context.engine_adapter import Weights
from llmval_runners.long_context.options import parse as long_context_options
from llmval_runners.long_context.predict.peak_memory import weights_bytes
from llmval_runners.long_context.settings import decide
from llmval_runners.long_context.setup import Setup
from llmval_runners.process.errors import Refused
from llmval_runners.process.placement import Placement

from tests.helpers.runners import fake_te
from tests.helpers.runners.own_process import run

CPU = torch.device("cpu")
TINY = SHAPES["tiny"]
FLAGS = ["--fp8-mode", "transformer-engine", "--kv-tokens", "4096", "--duration", "1"]


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be an H200, as far as the configuration asks."""
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 8,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "NVIDIA H200",
        "mem_get_info": lambda device=None: (140 * 10**9, 141 * 10**9),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize("rows", [1, 8, 15, 16, 17, 48])
def test_any_number_of_rows_is_padded_with_zeros_and_cut_again(monkeypatch, rows: int) -> None:
    te = fake_te.install(monkeypatch)
    engine = fp8.load_transformer_engine()
    with torch.inference_mode():
        weight, x = torch.randn(48, 32), torch.randn(rows, 32) * 0.01
        layer = engine.linear(weight)
        with engine.autocast():
            found = layer(x)
    assert te.rows == [-(-rows // 16) * 16]
    values, scale = fake_te.quantised(x)  # of the real rows: padding does not change the scale
    expected = (values.view(torch.float8_e4m3fn).float() * scale) @ (layer.weight.float() * layer.scales).T
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous() and float((found - x @ weight.T).norm() / (x @ weight.T).norm()) < 0.06


def test_weights_are_one_copy_in_fp8_even_with_gradients_on(monkeypatch) -> None:
    te = fake_te.install(monkeypatch)
    with torch.enable_grad():
        layer = fp8.load_transformer_engine().linear(torch.randn(32, 16))
    assert (layer.weight.dtype, layer.weight.shape, layer.scales.shape) == (torch.float8_e4m3fn, (32, 16), (1,))
    monkeypatch.setattr(te, "quantized_model_init", te.autocast)  # a library that silently keeps 16 bits
    with pytest.raises(RuntimeError, match="made a weight of Parameter, not one copy in FP8"):
        fp8.load_transformer_engine().linear(torch.randn(32, 16))


def test_a_model_of_such_layers_is_near_the_plain_one(monkeypatch) -> None:
    """Every linear layer of every block, in steps of 1 and of 53 tokens, with one context per step."""
    te = fake_te.install(monkeypatch)
    plain = build(TINY, random_weights(3, CPU), Parallel(CPU), torch.float32)
    model = build(TINY, random_weights(3, CPU), Parallel(CPU), torch.float32, linear_maker("transformer-engine"))
    assert te.inside == []
    for count in (1, 53):
        hidden = []
        for one in (plain, model):
            cache = PagedKVCache(TINY, tensor_parallel=1, pages=1, page_size=64, dtype=torch.float32, device=CPU)
            runner = CpuExecutor(one, cache, reference_attention("sdpa"), max_batch=1, max_pages=1)
            plan = StepPlan(admits=[Admit(0, [0])], prefills=[Prefill(0, 0, list(range(count)), True)])
            with te.autocast(enabled=True, recipe=fp8.load_transformer_engine().recipe):
                hidden.append(runner.forward(plan)[0])
        assert 0 < float((hidden[1] - hidden[0]).norm() / hidden[0].norm()) < 0.2
    assert len(te.rows) == 2 * 4 * TINY.layers
    assert isinstance(model.head, Linear)
    assert fp8_kernel(plain) is None
    assert "Transformer Engine 2.20.2, Float8CurrentScaling" in (fp8_kernel(model) or "")


_DECODER = """
from types import SimpleNamespace
import torch_kernels
import pytest
import torch
import fake_te
from llmval_runners.engine import fp8
from llmval_runners.engine.attention.backend import Tokens
from llmval_runners.engine.gpu import decoder
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.loader import linear_maker
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.weights import build, random_weights
from llmval_runners.process.errors import Refused

te = fake_te.install(pytest.MonkeyPatch())
CPU, TINY = torch.device("cpu"), SHAPES["tiny"]
model = build(TINY, random_weights(3, CPU), Parallel(CPU), torch.float32, linear_maker("transformer-engine"))
cache = PagedKVCache(TINY, tensor_parallel=1, pages=1, page_size=320, dtype=torch.float32, device=CPU)

def hidden(fused, count):
    te.rows.clear(), te.quantised_rows.clear()
    rows = torch.zeros(count, dtype=torch.int32)
    tokens = Tokens(torch.arange(count), rows, torch.arange(count, dtype=torch.int32))
    with torch.inference_mode():
        x, update = fused.forward(tokens, rows[:1, None], torch_kernels.causal)
    return x + update[0]

fused = decoder.FusedDecoder(model, cache)
assert te.rows == [16, 16] and te.quantised_rows == [16], "one product of each kind, compared"
for count in (1, 16, 27, 256, 257):
    found = hidden(fused, count)
    products, padded = 4 * TINY.layers, -(-count // 16) * 16
    assert te.rows == [padded] * products
    assert te.quantised_rows == ([padded] * products if count <= 256 else []), count
    decoder.MAX_QUANTISED_ROWS = 0
    expected = hidden(fused, count)
    assert te.quantised_rows == []
    decoder.MAX_QUANTISED_ROWS = 256
    assert found.shape == expected.shape and float((found - expected).norm() / expected.norm()) < 1e-6, count

def with_powers_of_two(x):  # another recipe
    scale = 2.0 ** torch.floor(torch.log2(448.0 / x.abs().max())).reshape(1)
    return (x.float() * scale).to(torch.float8_e4m3fn).view(torch.uint8), 1 / scale

fake_te.quantised = with_powers_of_two
with pytest.raises(Refused, match="2.20.2 multiplies values that are quantised already to other results"):
    decoder.FusedDecoder(model, cache)
"""


def test_the_gpu_decoder_quantises_for_the_library_as_the_library_does() -> None:
    """In steps up to 256 rows; a library whose own products differ is refused."""
    run(_DECODER)


@pytest.mark.parametrize("asks", ["load test", "long context"])
def test_a_missing_or_broken_library_is_refused_with_a_remedy(monkeypatch, hopper, asks: str) -> None:
    def ask() -> None:
        if asks == "load test":
            configure_load_test(parse(FLAGS), Placement())[0]
        else:
            decide(long_context_options(FLAGS[:2]), Placement())

    monkeypatch.setitem(sys.modules, "transformer_engine", None)
    with pytest.raises(
        Refused, match=r"-m pip install 'transformer-engine\[pytorch\]>=2\.20'`, or pass --fp8-mode native\.$"
    ):
        ask()

    def broken(name: str) -> None:
        raise OSError("libtransformer_engine.so: undefined symbol")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(Refused, match=r"installed but does not load .*undefined symbol"):
        ask()


def test_an_old_library_is_refused(monkeypatch) -> None:
    fake_te.install(monkeypatch)
    monkeypatch.delattr(fake_te.FakeTe, "autocast")
    with pytest.raises(Refused, match=r"2\.20 or later, and 2\.20\.2 has no te\.autocast"):
        fp8.load_transformer_engine()


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_fp8_weights_are_configured_at_half_the_bytes(monkeypatch, hopper, ranks: int) -> None:
    fake_te.install(monkeypatch)
    flags = [*FLAGS, "--attention-backend", "flex"]
    config = configure_load_test(parse(flags), Placement(0, ranks, 0, ranks, ranks))[0]
    native = configure_load_test(parse(["--fp8-mode", "native", *flags[2:]]), Placement(0, ranks, 0, ranks, ranks))[0]
    assert (config.fp8_mode, config.attention_backend, config.tensor_parallel) == ("transformer-engine", "flex", ranks)
    assert config.weight_bytes_per_rank == native.weight_bytes_per_rank
    unquantised = config.shape.vocab * config.shape.hidden * 2  # table, and head over the ranks
    norms = (2 * config.shape.layers + 1) * config.shape.hidden
    matrices = config.shape.parameters - 2 * config.shape.vocab * config.shape.hidden - norms
    assert config.weight_bytes_per_rank == unquantised + 2 * norms + (matrices + unquantised) // ranks
    small = [*flags, "--heads", "4", "--kv-heads", "4", "--head-dim", "24", "--ffn", "1024"]
    if ranks == 4:
        with pytest.raises(Refused, match="divisible by 16, and the query width"):
            configure_load_test(parse(small), Placement(0, 4, 0, 4, 4))[0]


def test_long_context_counts_its_bytes_and_reports_the_kernel(monkeypatch, hopper) -> None:
    fake_te.install(monkeypatch)
    settings = decide(long_context_options(FLAGS[:2]), Placement())
    assert (settings.setup.fp8_mode, settings.setup.kv_dtype) == ("transformer-engine", "fp8")
    assert settings.reference is not None and settings.reference.fp8_mode == "none"
    setup = Setup(TINY, weight_dtype="fp8", transformer_engine=True, on_gpu=False)
    weights = Weights(setup, random_weights(0, CPU), Parallel(CPU))
    assert weights.bytes == weights_bytes(setup)
    assert weights.matrix_dtype() == "float8_e4m3fn"
    assert "2.20.2" in (weights.fp8_kernel() or "")


def test_the_result_states_library_version_and_recipe(monkeypatch, hopper) -> None:
    from llmval_runners.load_test.identity import identity_of

    fake_te.install(monkeypatch)
    config = configure_load_test(parse(FLAGS), Placement())[0]
    model = build(TINY, random_weights(0, CPU), Parallel(CPU), torch.bfloat16, linear_maker(config.fp8_mode))
    cache = SimpleNamespace(dtype=torch.float8_e4m3fn)
    ran = SimpleNamespace(model=model, cache=cache, attention=reference_attention("sdpa"), compiled=None)
    identity = identity_of(config, ran)
    assert (identity["fp8_mode"], identity["kv_dtype"]) == ("transformer-engine", "float8_e4m3fn")
    plain = build(TINY, random_weights(0, CPU), Parallel(CPU), torch.bfloat16)
    ran.model = plain
    assert identity_of(config, ran)["fp8_mode"] == "none", "it reports what ran, not what was requested"
    assert identity["fp8_kernel"].startswith("Transformer Engine 2.20.2, Float8CurrentScaling: E4M3 weights")
    assert (identity["compile_mode"], identity["compile"]) == ("off", None)


def test_the_products_workspace_can_be_freed(monkeypatch) -> None:
    """2.20.2's `get_cublas_workspace` is a function under `lru_cache`."""
    gemm: Any = ModuleType("gemm")
    gemm.get_cublas_workspace = functools.lru_cache(lambda device, ub, grouped_gemm: torch.empty(1))
    first = gemm.get_cublas_workspace(0, False, False)
    fp8.free_workspace()  # the library is not loaded
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch.cpp_extensions.gemm", gemm)
    assert gemm.get_cublas_workspace(0, False, False) is first
    fp8.free_workspace()
    assert gemm.get_cublas_workspace(0, False, False) is not first


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A process that has mapped torch's cuDNN; returns the list of libraries that it loads."""
    for name in fp8.CUDNN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(fp8.CUDNN_VARIABLES[0], "")  # so that monkeypatch removes it afterwards
    for name in ("libcudnn.so.9", "libcudnn_graph.so.9", "libcudnn_cnn.so.9", "libcublas.so.13"):
        (tmp_path / name).touch()
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r-xp 0 08:01 1  /lib/libc.so.6\n7f02-7f03 r-xp 0 08:01 2  {tmp_path}/libcudnn.so.9\n")
    loaded = []
    monkeypatch.setattr(fp8, "MAPS", maps)
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: loaded.append((path, mode)))
    return loaded


def test_all_parts_of_torchs_cudnn_are_loaded_globally_and_the_folder_is_exported(process, tmp_path):
    assert fp8.preload_torch_cudnn() == tmp_path
    parts = ("libcudnn.so.9", "libcudnn_cnn.so.9", "libcudnn_graph.so.9")
    assert process == [(str(tmp_path / name), ctypes.RTLD_GLOBAL) for name in parts]
    assert os.environ["CUDNN_HOME"] == str(tmp_path)


def test_a_cudnn_in_the_environment_takes_precedence(process, monkeypatch):
    monkeypatch.setenv("CUDNN_PATH", "/opt/cudnn")
    assert fp8.preload_torch_cudnn() is None and not process


def test_without_a_cudnn_nothing_is_loaded(process):
    fp8.MAPS.write_text("7f00-7f01 r-xp 0 08:01 1  /lib/libc.so.6\n")
    assert fp8.preload_torch_cudnn() is None and not process
