"""The sweep as a whole: measured figures are the true ones, results survive a kill, and every end has its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import fastjsonschema
import pytest
import torch
from llmval_runners.measure.nvml_meter import NoMeter
from llmval_runners.power import cell as cell_module
from llmval_runners.power import phase as phase_module
from llmval_runners.power import sweep as sweep_module
from llmval_runners.power import validity
from llmval_runners.power.energy import Recorder
from llmval_runners.power.grid import Cell, StackShape
from llmval_runners.power.options import parse
from llmval_runners.power.sweep import Sweep
from llmval_runners.process.errors import Refused

from tests.helpers.fake_power import FakeMeter, VirtualTime, wave

RUNNERS = Path(__file__).parents[3] / "runners"
HELPERS = Path(__file__).parents[2] / "helpers"
GRID = [
    "--sequence-length",
    "16",
    "--model-layers",
    "1",
    "2",
    "--model-d-model",
    "32",
    "48",
    "--model-heads",
    "2",
    "3",
    "--model-d-ff",
    "64",
    "96",
    "--batch-size",
    "2",
    "3",
    "4",
    "--modes",
    "fp16",
    "bf16",
    "fp8_te",
    "--skip-compile",
    "--cooldown-s",
    "0",
]


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
    told, steady = [], Steady()
    found = phase_module.measure(
        Cell(StackShape(1, 32, 2, 64), 4, "bf16", 16), "prefill", steady, Recorder(meter, 1), gpu_name="NVIDIA H200",
        idle_power_w=100.0, window_s=0.3, warmup_s=0.05, trials=3, clock=time.perf_counter, stopped=lambda: False,
        tell=lambda stage, trial: told.append((stage, trial)),
    )  # fmt: skip
    assert told == [("warmup", 0), ("measure", 1), ("measure", 2), ("measure", 3)]
    true_rate = 64 * (len(steady.times) - 1) / (steady.times[-1] - steady.times[0])  # 4 × 16 tokens a step
    assert found["tokens_per_s"] == pytest.approx(true_rate, rel=0.3)  # of a machine whose other work comes and goes
    assert found["power_w"] == pytest.approx(400, rel=0.1)
    assert found["tokens_per_joule"] == pytest.approx(found["tokens_per_s"] / 400, rel=0.1)
    assert found["joules_per_token"] == pytest.approx(1 / found["tokens_per_joule"])
    assert found["joules_per_token_net"] == pytest.approx(found["joules_per_token"] * 0.75, rel=0.1)
    schema = json.loads((RUNNERS.parent / "docs" / "schemas" / "power_cell.schema.json").read_text())
    fastjsonschema.compile(schema["definitions"]["phase"] | {"definitions": schema["definitions"]})(found)
    assert all(trial["window_s"] >= 0.3 and trial["gpus"][0]["utilisation_percent"] == 99 for trial in found["trials"])


def test_what_idles_is_taken_from_energy_as_watts_times_seconds():
    trial = {"window_s": 20.0, "tokens": 1000.0, "energy_j": 8000.0}
    found = phase_module._energy([trial, trial, trial], None, 100.0, 50.0)
    assert (found["power_w"], found["tokens_per_joule"]) == (400.0, 0.125)
    assert (found["joules_per_token_net"], found["tokens_per_joule_net"]) == (6.0, 1 / 6)


def test_two_copies_make_twice_the_tokens_and_are_each_at_their_own_share_of_the_peak(monkeypatch):
    monkeypatch.setattr(phase_module, "UNIT_S", 0.01)
    work, meter = Steady(), FakeMeter(time.perf_counter, lambda at: 400.0, lambda at: 300.0)
    work.copies = 2
    found = phase_module.measure(
        Cell(StackShape(1, 32, 2, 64), 4, "bf16", 16), "prefill", work, Recorder(meter, 2), gpu_name="NVIDIA H200",
        idle_power_w=None, window_s=0.3, warmup_s=0.05, trials=2, clock=time.perf_counter, stopped=lambda: False,
        tell=lambda stage, trial: None,
    )  # fmt: skip
    assert found["tokens_per_step"] == 2 * 4 * 16
    assert [trial["tokens"] / trial["steps"] for trial in found["trials"]] == pytest.approx([128, 128])
    assert found["step_ms"] == pytest.approx(1000 * 128 / found["tokens_per_s"])
    peak = found["utilisation_of_peak"]
    one = peak["flops_per_token"] * found["tokens_per_s"] / 2 / 1e12
    assert peak["achieved_tflops_per_s"] == pytest.approx(one)
    assert peak["mfu"][0]["value"] == pytest.approx(one / 989)


class Queue:
    """A GPU whose steps take 1 s, with a launch queue that a step and a half fill: enqueueing more blocks the host."""

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


def test_steps_count_from_when_the_gpu_ended_them_not_from_when_the_host_looked():
    time_ = VirtualTime()
    pump = phase_module.Pump(Queue(time_), time_.clock, stopped=lambda: False)
    windows = []
    for _ in range(2):  # the first begins with an empty queue, the second with a full one
        start = time_.now
        while time_.now < start + 10:
            pump.unit()
        windows.append((start, start + 10))
    pump.drain()
    assert [pump.steps_at(end) - pump.steps_at(start) for start, end in windows] == pytest.approx([10, 10])


def options_of(folder, *more):
    return parse([*GRID, "--output-dir", str(folder), *more])


class Events:
    def __init__(self):
        self.told = []

    def __getattr__(self, kind):
        return lambda *data: self.told.append((kind, *data))


def sweep_of(folder, *more, meter=None, events=None):
    options, cells = options_of(folder, *more)
    return Sweep(
        options, cells, events or Events(), stopped=lambda: False, meter=meter or (lambda uuids: NoMeter("none here"))
    )


def quick(monkeypatch, status="valid", ran=None):
    def run(cell, bench, attempt):
        if ran is not None:
            ran.append(cell.name)
        header = cell_module._header(cell, bench, attempt)
        return header | {
            "status": status(cell) if callable(status) else status,
            "reasons": ["because"],
            "ended_utc": "2026-01-02T03:04:05Z",
        }

    monkeypatch.setattr(sweep_module, "run_cell", run)


def test_killed_in_the_seventh_cell_six_are_whole_and_twelve_are_left(tmp_path, monkeypatch):
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(RUNNERS)!r}, {str(Path(__file__).parent)!r}, {str(HELPERS)!r}]
import test_sweep
from llmval_runners.power import sweep
class Patch:
    setattr = staticmethod(setattr)
ran = []
test_sweep.quick(Patch, ran=ran)
whole, write = sweep.run_cell, sweep.Store.save
def save(self, cell, record):
    if len(ran) == 7:  # half written, as a kill in the middle of a write leaves it
        (self.folder / ".torn").write_text('{{"schema": 1, "ki')
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, cell, record)
sweep.Store.save = save
test_sweep.sweep_of({str(tmp_path)!r}, "--seed", "5").run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    results = {path.name: path.read_bytes() for path in tmp_path.glob("*.json") if path.name != "sweep.json"}
    assert len(results) == 6
    assert all(json.loads(data)["status"] == "valid" for data in results.values())
    manifest = json.loads((tmp_path / "sweep.json").read_text())
    schema = RUNNERS.parent / "docs" / "schemas" / "power_sweep.schema.json"
    fastjsonschema.compile(json.loads(schema.read_text()))(manifest)
    assert len(manifest["cells"]) == 18

    ran: list[str] = []
    quick(monkeypatch, ran=ran)
    assert sweep_of(tmp_path, "--seed", "5").run() == 0
    assert len(ran) == 12 and not {f"{name}.json" for name in ran} & results.keys()
    assert all((tmp_path / name).read_bytes() == data for name, data in results.items())
    assert len(list(tmp_path.glob("*.json"))) == 19


def test_a_resumed_sweep_repeats_what_does_not_stand(tmp_path, monkeypatch):
    ran: list[str] = []
    quick(monkeypatch, lambda cell: {"fp16": "invalid", "bf16": "no_energy", "fp8_te": "refused"}[cell.mode], ran)
    assert sweep_of(tmp_path).run() == 0
    ran.clear()
    assert sweep_of(tmp_path).run() == 0
    assert len(ran) == 6 and all(name.endswith("fp16") for name in ran)
    assert json.loads((tmp_path / f"{ran[0]}.json").read_text())["attempt"] == 2
    ran.clear()
    sweep_of(tmp_path, meter=lambda uuids: FakeMeter(time.perf_counter, wave(100, []))).run()
    assert len(ran) == 12, "with energy to be had, a result without it does not stand"
    ran.clear()
    sweep_of(tmp_path, "--retry-refused").run()
    assert sum(name.endswith("fp8_te") for name in ran) == 6


def test_other_settings_are_refused_and_nothing_is_changed(tmp_path, monkeypatch):
    quick(monkeypatch)
    sweep_of(tmp_path).run()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Refused, match=r"window_s 60\.0 and this run asks for 30\.0: pass another --output-dir"):
        sweep_of(tmp_path, "--window-s", "30")
    next(tmp_path.glob("*bf16.json")).write_text("[]")
    with pytest.raises(Refused, match="not a result of this sweep"):
        sweep_of(tmp_path)
    assert sum(path.read_bytes() == data for path, data in before.items()) == len(before) - 1


GPU = {"index": 0, "uuid": "GPU-a", "name": "NVIDIA H200", "driver": "580.1", "power_limit_w": 700.0}


def on_machine(monkeypatch, **changes):
    """This process sees one GPU; `changes` are of it, or of the identity."""
    gpu = GPU | {name: value for name, value in changes.items() if name in GPU}
    rest = {name: value for name, value in changes.items() if name not in GPU}
    identity = {"gpus": [gpu], "driver": gpu["driver"], "torch": "2.11.0", "transformer_engine": "2.20.2", **rest}
    monkeypatch.setattr(sweep_module, "identity_of", lambda devices, meter: identity)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uuid": "GPU-b"}, "GPU GPU-a and this run is on GPU-b"),
        ({"power_limit_w": 500.0}, "power limit 700 W and this run is on 500 W"),
        ({"driver": "590.2"}, r"driver 580\.1 and this run is on 590\.2"),
        ({"torch": "2.13.0"}, r"torch 2\.11\.0 and this run is on 2\.13\.0"),
        ({"transformer_engine": "2.21.0"}, r"transformer_engine 2\.20\.2 and this run is"),
    ],
)
def test_cells_of_another_machine_are_refused_and_nothing_is_changed(tmp_path, monkeypatch, changes, said):
    on_machine(monkeypatch)
    quick(monkeypatch)
    assert sweep_of(tmp_path).run() == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    on_machine(monkeypatch, **changes)
    with pytest.raises(Refused, match=rf"was measured on.*{said}.*: pass another --output-dir\."):
        sweep_of(tmp_path).run()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_this_machine_repeats_may_be_of_another_one(tmp_path, monkeypatch):
    on_machine(monkeypatch)
    quick(monkeypatch, lambda cell: "failed" if cell.batch == 2 else "invalid")
    sweep_of(tmp_path).run()
    on_machine(monkeypatch, uuid="GPU-b")
    ran: list[str] = []
    quick(monkeypatch, ran=ran)
    assert sweep_of(tmp_path).run() == 0
    assert len(ran) == 18


def test_transformer_engine_may_be_installed_between_two_calls(tmp_path, monkeypatch):
    on_machine(monkeypatch, transformer_engine=None)
    quick(monkeypatch, lambda cell: "refused" if cell.mode == "fp8_te" else "valid")
    meter = {"meter": lambda uuids: FakeMeter(time.perf_counter, wave(100, []))}
    sweep_of(tmp_path, **meter).run()
    on_machine(monkeypatch)
    ran: list[str] = []
    quick(monkeypatch, ran=ran)
    assert sweep_of(tmp_path, "--retry-refused", **meter).run() == 0
    assert len(ran) == 6 and all(name.endswith("fp8_te") for name in ran)


def test_all_refused_is_no_success(tmp_path, monkeypatch):
    quick(monkeypatch, "refused")
    events = Events()
    assert sweep_of(tmp_path, events=events).run() == 1
    assert ("error", "all_refused") in [told[:2] for told in events.told]


def test_a_cell_that_breaks_is_recorded_and_the_others_run(tmp_path, monkeypatch):
    ran: list[str] = []
    quick(monkeypatch, ran=ran)
    fine = sweep_module.run_cell

    def breaks(cell, bench, attempt):
        if cell.name.endswith("b3-bf16"):
            raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED\nwith a long story")
        return fine(cell, bench, attempt)

    monkeypatch.setattr(sweep_module, "run_cell", breaks)
    assert sweep_of(tmp_path).run() == 1
    assert len(ran) == 16
    record = json.loads((tmp_path / "1L-d32-h2-ff64-s16-b3-bf16.json").read_text())
    assert record["status"] == "failed"
    assert record["reasons"] == ["the cell failed with RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED"]
    monkeypatch.setattr(sweep_module, "run_cell", fine)
    assert sweep_of(tmp_path).run() == 0


def test_a_lost_gpu_ends_the_sweep_with_the_cells_record(tmp_path, monkeypatch):
    """A dead context raises its error at every call, also at those that only tidy up."""

    def dead(*_, **__):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nand advice")

    def never(*_, **__):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure, at the tidying")

    monkeypatch.setattr(cell_module, "_phases", dead)
    for module in (cell_module, sweep_module):
        monkeypatch.setattr(module, "free", never)
    monkeypatch.setattr(Sweep, "_device_lives", lambda self: False)
    events = Events()
    assert sweep_of(tmp_path, events=events).run() == 1
    (path,) = (path for path in tmp_path.glob("*.json") if path.name != "sweep.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert record["reasons"] == [
        "the cell failed with AcceleratorError: CUDA error: an illegal memory access was encountered"
    ]
    told = [told[:2] for told in events.told]
    assert told.count(("error", "device_lost")) == 1 and ("warning", "cell_failed") in told


def test_what_does_not_fit_is_refused_with_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_module, "free_bytes", lambda device: 1000)
    sweep = sweep_of(tmp_path)
    assert sweep.run() == 1
    record = json.loads((tmp_path / "1L-d32-h2-ff64-s16-b2-bf16.json").read_text())
    assert record["status"] == "refused" and "GiB" in record["reasons"][0] and record["phases"] == {}


def test_running_out_of_memory_is_a_refusal_and_never_a_figure(tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 40 GiB")

    monkeypatch.setattr(cell_module, "build", out_of_memory)
    assert sweep_of(tmp_path).run() == 1
    record = json.loads((tmp_path / "1L-d32-h2-ff64-s16-b2-bf16.json").read_text())
    assert record["status"] == "refused" and "Tried to allocate 40 GiB" in record["reasons"][0]


def test_the_dashboard_hears_cells_figures_and_paths(tmp_path, monkeypatch):
    quick(monkeypatch)
    events = Events()
    sweep_of(tmp_path, events=events).run()
    progress = [told for told in events.told if told[0] == "progress"]
    assert progress[0] == ("progress", 0, 18, "cells")
    assert progress[-1][1:4] == (18, 18, "cells")
    paths = {told[1] for told in events.told if told[0] == "result"}
    assert paths == {str(path) for path in tmp_path.glob("*.json") if path.name != "sweep.json"}
    assert {"tokens_per_joule", "tokens_per_s", "time_left_s"} <= next(
        told[1] for told in events.told if told[0] == "metrics"
    ).keys()


def test_the_script_answers_bad_input_and_runs_a_cell(tmp_path):
    script = [sys.executable, str(RUNNERS / "precision_power_sweep.py")]
    grid = "--sequence-length 8 --model-layers 1 --model-d-model 32 --model-heads 2 --model-d-ff 64 "
    flags = [*grid.split(), "--modes", "bf16", "--skip-compile"]
    bad = subprocess.run(
        [*script, *flags, "--model-layers", "1", "2", "--output-dir", str(tmp_path)], capture_output=True, text=True
    )
    assert bad.returncode == 2 and bad.stderr.startswith("refused: the model lists go together")
    assert list(tmp_path.iterdir()) == []
    short = ["--window-s", "0.05", "--warmup-s", "0", "--trials", "1", "--output-dir", str(tmp_path), "--device", "cpu"]
    events = tmp_path / "events.jsonl"
    ran = subprocess.run(
        [*script, *flags, *short], capture_output=True, text=True, env=os.environ | {"LLMVAL_EVENTS": str(events)}
    )
    assert ran.returncode == 0, ran.stderr
    record = json.loads((tmp_path / "1L-d32-h2-ff64-s8-b1-bf16.json").read_text())
    assert record["status"] == "no_energy"
    schema = json.loads((RUNNERS.parent / "docs" / "schemas" / "power_cell.schema.json").read_text())
    fastjsonschema.compile(schema)(record)
    for phase in record["phases"].values():
        assert phase["tokens_per_s"] > 0 and phase["energy"] == "not available" and phase["tokens_per_joule"] is None
    told = [json.loads(line) for line in events.read_text().splitlines()]
    check = fastjsonschema.compile(json.loads((RUNNERS.parent / "docs" / "schemas" / "event.schema.json").read_text()))
    kinds = {check(event)["kind"] for event in told}
    assert {"phase", "progress", "metrics", "result", "warning", "heartbeat"} <= kinds
