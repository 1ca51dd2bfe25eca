"""The compiled layers compute the same as the plain ones, and nothing is compiled while requests are served."""

import gc
import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.compiled import CompiledDecoder
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.engine import Engine, PlanChannel
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.engine.kv_cache import PageAllocator, PagedKVCache
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.shapes import SHAPES, tensor_shapes
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.engine.weights import build, random_weights
from llmval_runners.load_test.config import configure_load_test
from llmval_runners.load_test.options import parse
from llmval_runners.process.errors import Refused
from llmval_runners.process.placement import Placement

from tests.helpers.runners.state_source import from_state_dict

CPU = torch.device("cpu")
TINY = SHAPES["tiny"]
MODES = {"smart": 4, "default": 2}  # graphs: each function for one token, and for any other number of tokens
ROOT = Path(__file__).parents[3]


class TwoRanks(Parallel):
    """A rank of two. Its all-reduce is in place, as NCCL's, and its sums differ from its own tensors."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.size = 2
        self.calls = 0

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return tensor.mul_(1.5)


class SharedBuffer(TwoRanks):
    """The same with a two-shot kernel: the next call overwrites the buffer that holds the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = torch.empty(2**16)

    def all_reduce_for(self, tensor: torch.Tensor) -> str:
        return all_reduce.TWO_SHOT

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        shared = self.buffer[: tensor.numel()].view_as(tensor)
        return shared.copy_(tensor.mul(1.5))


def executor(
    mode: str, *, backend: str = "sdpa", parallel: Parallel | None = None, kv: torch.dtype = torch.float32
) -> CpuExecutor:
    model = build(TINY, random_weights(0, CPU), Parallel(CPU), torch.float32)
    model.parallel = parallel or model.parallel
    cache = PagedKVCache(TINY, tensor_parallel=1, pages=32, page_size=8, dtype=kv, device=CPU)
    compiled = None if mode == "off" else CompiledDecoder(model, cache, mode)
    return CpuExecutor(model, cache, reference_attention(backend), max_batch=8, max_pages=32, compiled=compiled)


@pytest.mark.slow  # compiles C++
@pytest.mark.parametrize("mode", MODES)
def test_requests_get_the_tokens_of_the_plain_engine(mode: str) -> None:
    """Steps of many sizes: prompts of one token, prompts across page ends, chunks, and changing decode batches."""

    def serve(mode: str, backend: str) -> tuple[list[list[int]], CpuExecutor]:
        one = executor(mode, backend=backend)
        scheduler = Scheduler(TINY, PageAllocator(32, 8), max_batch=8, chunk=24, element_bytes=4)
        engine = Engine(PlanChannel(one, max_batch=8), scheduler)
        source = torch.Generator().manual_seed(9)
        sizes = [(1, 9), (8, 8), (7, 3), (9, 1), (50, 12), (24, 5), (25, 2), (16, 17)]
        requests = [
            Request(i, torch.randint(2048, (p,), generator=source).tolist(), o) for i, (p, o) in enumerate(sizes)
        ]
        for request in requests:
            engine.submit(request)
        while not engine.idle:
            for request, token, _ in engine.step():
                request.tokens.append(token)
        return [request.tokens for request in requests], one

    expected, _ = serve("off", "sdpa")
    for backend in ("sdpa", "flex"):
        found, one = serve(mode, backend)
        assert found == expected
        assert one.compiled is not None
        report = one.compiled.as_json()
        assert (report["graphs"], report["graphs_after_start"]) == (MODES[mode], 0)
        assert report["first_calls_s"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_compiled_pass_equals_the_plain_one_with_in_place_all_reduces_and_a_smaller_cache_type(mode: str) -> None:
    hidden = []
    for one, sums in (("off", TwoRanks), (mode, TwoRanks), (mode, SharedBuffer)):
        parallel = sums()
        steps = executor(one, parallel=parallel, kv=torch.bfloat16)
        parallel.calls = 0
        plan = StepPlan(admits=[Admit(3, [5, 1])], prefills=[Prefill(3, 0, list(range(11)), True)])
        first = steps.forward(plan)[0]
        steps.last_token[3] = 77
        hidden.append(torch.cat((first, steps.forward(StepPlan(decodes=[Decode(3, 11)]))[0])))
        assert parallel.calls == 2 * 2 * TINY.layers
    for compiled in hidden[1:]:
        torch.testing.assert_close(compiled, hidden[0], atol=2e-3, rtol=2e-3)  # the cache has 8 bits of mantissa


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_relatives_of_llama_equal_the_plain_pass(mode: str) -> None:
    shape = replace(
        TINY, qkv_bias=True, output_bias=True, mlp_bias=True, qk_norm=True, activation="gelu_tanh", query_scale=1.3
    )
    draw = torch.Generator().manual_seed(2)
    state = {name: torch.randn(size, generator=draw) * size[-1] ** -0.5 for name, size in tensor_shapes(shape)}
    model = build(shape, from_state_dict(state), Parallel(CPU), torch.float32)
    hidden = []
    for which in ("off", mode):
        cache = PagedKVCache(shape, tensor_parallel=1, pages=4, page_size=8, dtype=torch.float32, device=CPU)
        compiled = None if which == "off" else CompiledDecoder(model, cache, which)
        steps = CpuExecutor(model, cache, reference_attention("sdpa"), max_batch=1, max_pages=4, compiled=compiled)
        plan = StepPlan(admits=[Admit(0, [2, 1])], prefills=[Prefill(0, 0, list(range(11)), True)])
        hidden.append(steps.forward(plan)[0])
    torch.testing.assert_close(hidden[1], hidden[0], atol=2e-5, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_engine_is_freed_with_its_compiled_layers(mode: str) -> None:
    """Dynamo keeps compiled code for the life of the process; it must not keep an engine's weights alive."""
    one = executor(mode)
    references = weakref.ref(one.compiled), weakref.ref(one.cache)
    del one
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.slow
def test_a_load_test_reports_what_was_compiled(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    flags = ["--model", "tiny", "--device", "cpu", "--duration", "2", "--target-qps", "4", "--compile-mode", "smart"]
    script = ROOT / "runners" / "inference_server_load_test.py"
    done = subprocess.run([sys.executable, script, *flags, "--output-json", out], check=False, timeout=300)
    assert done.returncode in (0, 1, 3), "a busy machine does not keep up, or is too late to offer the load"
    identity = json.loads(out.read_text())["llmval"]["identity"]
    assert identity["compile_mode"] == "smart"
    assert identity["compile"]["what"] == "two regions of a layer"
    assert (identity["compile"]["graphs"], identity["compile"]["graphs_after_start"]) == (4, 0)


def test_unsupported_compile_modes_are_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    arguments = ["--model", "tiny", "--compile-mode", "default", "--duration", "1"]

    def no_compiler() -> str:
        raise InvalidCxxCompiler

    with monkeypatch.context() as without:
        without.setattr(cpp_builder, "get_cpp_compiler", no_compiler)
        with pytest.raises(Refused, match=r"needs a C\+\+ compiler.*install g\+\+, or pass --compile-mode off"):
            configure_load_test(parse(arguments), Placement())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    for flags, instead in ((["--fp8-mode", "native"], "--fp8-mode none"), (["--kv-dtype", "fp8"], "--kv-dtype auto")):
        with pytest.raises(Refused, match=f"pass --compile-mode off, or {instead}"):
            configure_load_test(parse([*arguments, *flags]), Placement())
