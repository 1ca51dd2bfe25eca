"""The decoder stack and its linear layers: results against a plain reference, and modes that are refused."""

import contextlib
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from llmval_runners.power.attention import choose
from llmval_runners.power.grid import Cell, StackShape
from llmval_runners.power.linear_modes import LinearMode, _ScaledLinear, quantise
from llmval_runners.power.workload import _StackPhase, build, work_of
from llmval_runners.process.errors import Refused

from tests.helpers.runners import fake_te

CPU = torch.device("cpu")
SHAPE = StackShape(2, 64, 4, 256)


def stack_of(mode="bf16", batch=2, length=16):
    return build(Cell(SHAPE, batch, mode, length), [CPU], compiled=False, seed=0)


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_decode_continues_prefill(backend):
    """The last position of a prefill equals a decode step over the cache of that prefill."""
    with torch.no_grad():
        stacks = stack_of(length=128)
        for module in [*stacks[0].blocks, stacks[0].norm]:
            module.float()
        stacks[0].cache, stacks[0].prompt, stacks[0].newest = (
            stacks[0].cache.float(), stacks[0].prompt.float(), stacks[0].prompt[:, -1:].float(),
        )  # fmt: skip
        prefill = work_of(stacks, "prefill", backend)
        prefill.step()
        stacks[0].cache[..., -1, :] = 30  # the step must overwrite these with its own keys and values
        decode = work_of(stacks, "decode", backend)
        decode.step()
    whole, last = prefill._phases[0].output, decode._phases[0].output
    assert whole.shape == (2, 128, 64) and last.shape == (2, 1, 64)
    torch.testing.assert_close(last[:, 0], whole[:, -1], rtol=1e-4, atol=1e-4)


def test_prefill_is_causal():
    with torch.no_grad():
        stacks = stack_of()
        work = work_of(stacks, "prefill", "sdpa")
        work.step()
        before = work._phases[0].output.clone()
        stacks[0].prompt[:, -1] += 1
        work.step()
    after = work._phases[0].output
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


@pytest.mark.parametrize("mode", ["fp16", "bf16"])
def test_data_is_random_by_seed_finite_and_has_the_modes_dtype(mode):
    one, two = stack_of(mode)[0], stack_of(mode)[0]
    assert one.prompt.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}[mode]
    for tensor in (one.prompt, one.cache, one.blocks[0].qkv.weight, one.blocks[1].down.weight):
        assert tensor.float().std() > 0.001
        assert (tensor == 0).float().mean() < 0.01, "zeros run faster and draw less power than data"
    assert torch.equal(one.prompt, two.prompt)
    work = work_of([one], "prefill", "sdpa")
    work.step()
    assert work.finite()
    one.prompt[0, 0, 0] = float("nan")
    work.step()
    assert not work.finite()


def test_scaled_linear_is_a_linear_within_fp8():
    torch.manual_seed(0)
    x, weight = torch.randn(3, 5, 128).bfloat16() * 7, torch.randn(64, 128).bfloat16() * 0.02
    ours, exact = _ScaledLinear(weight)(x).float(), F.linear(x.float(), weight.float())
    assert ours.shape == exact.shape
    assert (ours - exact).norm() / exact.norm() < 0.05
    for scale in (1e-4, 1.0, 3e4):
        values, factor = quantise(x * scale)
        assert torch.isfinite(values.float()).all(), "a cast above 448 is NaN"
        assert ((values.float() * factor - (x * scale).float()).norm() / (x * scale).float().norm()) < 0.04


def test_fp8_is_refused_on_a_cpu_and_on_an_old_gpu(monkeypatch):
    for mode in ("fp8_te", "fp8_native"):
        with pytest.raises(Refused, match="on a CPU"):
            stack_of(mode)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(Refused, match=r"NVIDIA A100 has 8\.0"):
        LinearMode(Cell(SHAPE, 2, "fp8_native", 16), torch.device("cuda", 0))


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    return torch.device("cuda", 0)


def test_a_missing_transformer_engine_is_named_with_what_to_install(monkeypatch, hopper):
    monkeypatch.setitem(sys.modules, "transformer_engine", None)
    with pytest.raises(
        Refused, match=r"needs Transformer Engine.*-m pip install 'transformer-engine\[pytorch\]>=2.20'"
    ):
        LinearMode(Cell(SHAPE, 2, "fp8_te", 16), hopper)


def test_an_unsupported_width_for_fp8_is_refused(hopper):
    with pytest.raises(Refused, match="divisible by 16"):
        LinearMode(Cell(StackShape(1, 24, 2, 96), 2, "fp8_native", 16), hopper)


def test_transformer_engine_runs_in_its_contexts_and_pads_rows(monkeypatch):
    te = fake_te.install(monkeypatch)
    monkeypatch.setattr(LinearMode, "_check_fp8", lambda self, cell: None)
    stacks = stack_of("fp8_te", batch=3)
    plain = stack_of("bf16", batch=3)
    for phase, padded in (("prefill", 0), ("decode", 13)):
        work, reference = work_of(stacks, phase, "sdpa"), work_of(plain, phase, "sdpa")
        for block, other in zip(stacks[0].blocks, plain[0].blocks, strict=True):
            for name in ("qkv", "output", "up", "down"):
                layer = getattr(block, name).inner
                getattr(other, name).weight.copy_(layer.weight.float() * layer.scales)
        plain[0].cache.copy_(stacks[0].cache)
        plain[0].prompt.copy_(stacks[0].prompt)
        plain[0].newest.copy_(stacks[0].newest)
        work.step()
        reference.step()
        assert work.description["padded_rows"] == padded
        assert "2.20.2" in work.description["precision"]
        ours, exact = work._phases[0].output.float(), reference._phases[0].output.float()
        assert (ours - exact).norm() / exact.norm() < 0.1  # the activations' rounding to E4M3
    assert te.inside == [] and len(te.rows) > 0


def test_a_decode_step_on_cuda_is_captured_once_warm_and_then_replayed(monkeypatch):
    """The order of calls, with a fake driver. The result of a captured graph is tested on a GPU."""
    calls: list[str] = []

    class Graph:
        def replay(self):
            calls.append("replay")

    class Stream:
        def __init__(self, device=None):
            pass

        def wait_stream(self, other):
            calls.append("wait")

    @contextlib.contextmanager
    def context(name):
        calls.append(f"enter {name}")
        yield
        calls.append(f"leave {name}")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: context("side stream"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: context("capture"))
    stack = stack_of()[0]
    attention = choose("sdpa", stack.cell, "decode", CPU, torch.bfloat16, False)
    run = stack.run
    monkeypatch.setattr(stack, "run", lambda attend, decode: calls.append("run") or run(attend, decode))
    stack.device = SimpleNamespace(type="cuda")
    decode = _StackPhase(stack, "decode", attention)
    warm = ["wait", "enter side stream", "run", "run", "run", "leave side stream", "wait"]
    assert calls == [*warm, "enter capture", "run", "leave capture"]
    decode.step()
    assert calls[-1] == "replay" and calls.count("run") == 4
    assert decode.launch == "CUDA graph" and decode.output.shape == (2, 1, 64)
    assert _StackPhase(stack, "prefill", attention).launch == "eager"
