"""One phase of a cell: the recorded tokens, times and energy are the true ones."""

import json
import time
from pathlib import Path
from typing import ClassVar

import fastjsonschema
import pytest
from llmval_runners.power import phase as phase_module
from llmval_runners.power import validity
from llmval_runners.power.energy import EnergyRecorder
from llmval_runners.power.grid import Cell, StackShape

from tests.helpers.runners.fake_power import FakeMeter, VirtualTime

CELL = Cell(StackShape(1, 32, 2, 64), 4, "bf16", 16)
SCHEMA = Path(__file__).parents[3] / "docs" / "schemas" / "power_cell.schema.json"


class Steady:
    """A phase whose steps take 5 ms each."""

    copies = 1
    description: ClassVar[dict[str, object]] = {
        "precision": "none",
        "attention_kernel": "none",
        "launch": "eager",
        "compiled": False,
        "padded_rows": 0,
    }

    def __init__(self):
        self.times = []

    def step(self):
        time.sleep(0.005)
        self.times.append(time.perf_counter())

    def mark(self):
        done = time.perf_counter()
        return lambda: done

    def finite(self):
        return True

    def peak_memory_bytes(self):
        return None


def test_a_phase_has_the_tokens_and_the_energy_of_its_windows(monkeypatch):
    monkeypatch.setattr(validity, "MIN_WINDOW_S", 0.2)
    monkeypatch.setattr(phase_module, "UNIT_S", 0.01)
    meter = FakeMeter(time.perf_counter, lambda at: 400.0)
    stages, steady = [], Steady()
    found = phase_module.measure(
        CELL, "prefill", steady, EnergyRecorder(meter, 1), gpu_name="NVIDIA H200",
        idle_power_w=100.0, window_s=0.3, warmup_s=0.05, trials=3, clock=time.perf_counter, stopped=lambda: False,
        on_stage=lambda stage, trial: stages.append((stage, trial)),
    )  # fmt: skip
    assert stages == [("warmup", 0), ("measure", 1), ("measure", 2), ("measure", 3)]
    true_rate = 64 * (len(steady.times) - 1) / (steady.times[-1] - steady.times[0])  # 4 × 16 tokens a step
    assert found["tokens_per_s"] == pytest.approx(true_rate, rel=0.3)  # the machine may have other work
    assert found["power_w"] == pytest.approx(400, rel=0.1)
    assert found["tokens_per_joule"] == pytest.approx(found["tokens_per_s"] / 400, rel=0.1)
    assert found["joules_per_token"] == pytest.approx(1 / found["tokens_per_joule"])
    assert found["joules_per_token_net"] == pytest.approx(found["joules_per_token"] * 0.75, rel=0.1)
    schema = json.loads(SCHEMA.read_text())
    fastjsonschema.compile(schema["definitions"]["phase"] | {"definitions": schema["definitions"]})(found)
    assert all(trial["window_s"] >= 0.3 and trial["gpus"][0]["utilisation_percent"] == 99 for trial in found["trials"])


def test_net_energy_subtracts_idle_power_times_seconds():
    trial = {"window_s": 20.0, "tokens": 1000.0, "energy_j": 8000.0}
    found = phase_module._energy([trial, trial, trial], None, 100.0)
    assert (found["power_w"], found["tokens_per_joule"]) == (400.0, 0.125)
    assert (found["joules_per_token_net"], found["tokens_per_joule_net"]) == (6.0, 1 / 6)


def test_two_copies_make_twice_the_tokens_and_the_share_of_the_peak_is_per_gpu(monkeypatch):
    monkeypatch.setattr(phase_module, "UNIT_S", 0.01)
    work, meter = Steady(), FakeMeter(time.perf_counter, lambda at: 400.0, lambda at: 300.0)
    work.copies = 2
    found = phase_module.measure(
        CELL, "prefill", work, EnergyRecorder(meter, 2), gpu_name="NVIDIA H200",
        idle_power_w=None, window_s=0.3, warmup_s=0.05, trials=2, clock=time.perf_counter, stopped=lambda: False,
        on_stage=lambda stage, trial: None,
    )  # fmt: skip
    assert found["tokens_per_step"] == 2 * 4 * 16
    assert [trial["tokens"] / trial["steps"] for trial in found["trials"]] == pytest.approx([128, 128])
    assert found["step_ms"] == pytest.approx(1000 * 128 / found["tokens_per_s"])
    peak = found["utilisation_of_peak"]
    one = peak["flops_per_token"] * found["tokens_per_s"] / 2 / 1e12
    assert peak["achieved_tflops_per_s"] == pytest.approx(one)
    assert peak["mfu"][0]["value"] == pytest.approx(one / 989)


class SlowGpu:
    """A GPU whose steps take 1 s. Its launch queue holds a step and a half; enqueueing more blocks the host."""

    def __init__(self, time_):
        self._time, self._free_at = time_, time_.now

    def step(self):
        self._free_at = max(self._free_at, self._time.now) + 1.0
        self._time.now = max(self._time.now, self._free_at - 1.5)

    def mark(self):
        done = self._free_at

        def wait():
            self._time.now = max(self._time.now, done)
            return done

        return wait


def test_steps_are_timed_by_the_gpu_and_not_by_the_host():
    time_ = VirtualTime()
    queue = phase_module.StepQueue(SlowGpu(time_), time_.clock, stopped=lambda: False)
    windows = []
    for _ in range(2):  # the first begins with an empty queue, the second with a full one
        start = time_.now
        while time_.now < start + 10:
            queue.enqueue_unit()
        windows.append((start, start + 10))
    queue.drain()
    assert [queue.steps_at(end) - queue.steps_at(start) for start, end in windows] == pytest.approx([10, 10])
