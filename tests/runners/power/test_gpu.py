"""On a real GPU: all modes agree with bf16, a captured step agrees with an eager one, and energy is measured."""

import time

import pytest
import torch
from llmval_runners.measure.nvml_meter import NvmlMeter, open_meter
from llmval_runners.measure.uuids import uuids_of
from llmval_runners.power.energy import EnergyRecorder
from llmval_runners.power.grid import Cell, StackShape
from llmval_runners.power.workload import build, work_of
from llmval_runners.process.errors import Refused

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch finds none here"),
]
SHAPE = StackShape(2, 1024, 8, 4096)
GPU = torch.device("cuda", 0)


def output(mode: str, phase: str, backend: str = "sdpa") -> torch.Tensor:
    stacks = build(Cell(SHAPE, 3, mode, 256), [GPU], compiled=False, seed=0)
    work = work_of(stacks, phase, backend)
    work.step()
    work.mark()()
    assert work.finite()
    assert work.description["launch"] == ("CUDA graph" if phase == "decode" else "eager")
    result = work._phases[0].output
    assert result is not None
    return result.float()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("mode", ["fp16", "fp8_native", "fp8_te"])
def test_every_mode_runs_and_stays_near_bf16(mode: str, phase: str) -> None:
    try:
        ours = output(mode, phase)
    except Refused as refusal:
        pytest.skip(str(refusal))
    # Weights of another mode are drawn in another type, so only the statistics are alike: both outputs are LayerNorm's.
    exact = output("bf16", phase)
    assert ours.shape == exact.shape
    assert ours.std().item() == pytest.approx(exact.std().item(), rel=0.02)


def test_a_captured_decode_step_is_the_eager_one() -> None:
    stacks = build(Cell(SHAPE, 3, "bf16", 256), [GPU], compiled=False, seed=0)
    work = work_of(stacks, "decode", "sdpa")
    phase_ = work._phases[0]
    work.step()
    work.mark()()
    assert phase_.output is not None
    captured = phase_.output.clone()
    with torch.no_grad():
        torch.testing.assert_close(captured, phase_._run(), rtol=2e-2, atol=2e-2)


def test_a_mark_has_the_gpus_time_however_late_it_is_looked_at() -> None:
    work = work_of(build(Cell(SHAPE, 4, "bf16", 1024), [GPU], compiled=False, seed=0), "prefill", "sdpa")
    work.step()
    work.mark()()
    began = time.perf_counter()
    work.step()
    done = work.mark()
    torch.cuda.synchronize()
    ended = time.perf_counter()
    time.sleep(0.2)
    assert began < done() <= ended + 1e-3


def test_flex_and_sdpa_agree() -> None:
    for phase in ("prefill", "decode"):
        torch.testing.assert_close(output("bf16", phase, "flex"), output("bf16", phase), rtol=5e-2, atol=5e-2)


def test_counter_and_integral_agree_under_load() -> None:
    meter = open_meter(uuids_of([GPU]))
    if not isinstance(meter, NvmlMeter):
        pytest.skip(meter.reason)
    work = work_of(build(Cell(SHAPE, 4, "bf16", 1024), [GPU], compiled=False, seed=0), "prefill", "sdpa")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        work.step()
        work.mark()()

    def keep_busy(_: float) -> None:
        work.step()
        work.mark()()

    window = EnergyRecorder(meter, 1, sleep=keep_busy).window(5)
    assert window.fault is None
    assert window.disagreement_percent is not None and window.disagreement_percent < 5
