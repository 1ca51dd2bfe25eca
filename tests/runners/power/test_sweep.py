"""The sweep as a whole: results survive a kill, a resumed sweep runs the rest, and every end has its exit code."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastjsonschema
import pytest
import torch
from llmval_runners.measure.nvml_meter import NoMeter
from llmval_runners.power import run_cell as cell_module
from llmval_runners.power import sweep as sweep_module
from llmval_runners.power.options import parse
from llmval_runners.power.sweep import Sweep
from llmval_runners.process.errors import Refused

from tests.helpers.runners.fake_power import FakeMeter, wave

RUNNERS = Path(__file__).parents[3] / "runners"
ROOT = RUNNERS.parent
GRID = shlex.split(
    "--sequence-length 16 --model-layers 1 2 --model-d-model 32 48 --model-heads 2 3 --model-d-ff 64 96 "
    "--batch-size 2 3 4 --modes fp16 bf16 fp8_te --skip-compile --cooldown-s 0"
)


class Events:
    def __init__(self):
        self.emitted = []

    def __getattr__(self, kind):
        return lambda *data, **_: self.emitted.append((kind, *data))


def sweep_of(folder, *more, meter=None, events=None):
    return Sweep(
        parse([*GRID, "--output-dir", str(folder), *more]),
        events or Events(),
        stopped=lambda: False,
        open_meter=meter or (lambda uuids: NoMeter("none here")),
    )


def quick(monkeypatch, status="valid", ran=None):
    def run(cell, context, attempt):
        if ran is not None:
            ran.append(cell.name)
        header = cell_module._header(cell, context, attempt)
        return header | {
            "status": status(cell) if callable(status) else status,
            "reasons": ["because"],
            "ended_utc": "2026-01-02T03:04:05Z",
        }

    monkeypatch.setattr(sweep_module, "run_cell", run)


def test_after_a_kill_in_the_seventh_cell_six_are_complete_and_twelve_remain(tmp_path, monkeypatch):
    program = [sys.executable, "-m", "tests.runners.power.killed_sweep", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(RUNNERS)}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment)
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


def test_a_resumed_sweep_repeats_results_that_are_not_final(tmp_path, monkeypatch):
    ran: list[str] = []
    quick(monkeypatch, lambda cell: {"fp16": "invalid", "bf16": "no_energy", "fp8_te": "refused"}[cell.mode], ran)
    assert sweep_of(tmp_path).run() == 0
    ran.clear()
    assert sweep_of(tmp_path).run() == 0
    assert len(ran) == 6 and all(name.endswith("fp16") for name in ran)
    assert json.loads((tmp_path / f"{ran[0]}.json").read_text())["attempt"] == 2
    ran.clear()
    sweep_of(tmp_path, meter=lambda uuids: FakeMeter(time.perf_counter, wave(100, []))).run()
    assert len(ran) == 12, "once energy is available, a result without it is measured again"
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
    """Pretend to have one GPU; `changes` apply to it or to the identity."""
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


def test_repeated_cells_may_be_from_another_machine(tmp_path, monkeypatch):
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


def test_a_sweep_with_all_cells_refused_fails(tmp_path, monkeypatch):
    quick(monkeypatch, "refused")
    events = Events()
    assert sweep_of(tmp_path, events=events).run() == 1
    assert ("error", "all_refused") in [event[:2] for event in events.emitted]


def test_a_failing_cell_is_recorded_and_the_others_run(tmp_path, monkeypatch):
    ran: list[str] = []
    quick(monkeypatch, ran=ran)
    fine = sweep_module.run_cell

    def breaks(cell, context, attempt):
        if cell.name.endswith("b3-bf16"):
            raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED\nwith a long story")
        return fine(cell, context, attempt)

    monkeypatch.setattr(sweep_module, "run_cell", breaks)
    assert sweep_of(tmp_path).run() == 1
    assert len(ran) == 16
    record = json.loads((tmp_path / "1L-d32-h2-ff64-s16-b3-bf16.json").read_text())
    assert record["status"] == "failed"
    assert record["reasons"] == ["the cell failed with RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED"]
    monkeypatch.setattr(sweep_module, "run_cell", fine)
    assert sweep_of(tmp_path).run() == 0


def test_a_lost_gpu_ends_the_sweep_after_the_cell_is_recorded(tmp_path, monkeypatch):
    """A lost CUDA context raises its error at every call, also at those that only clean up."""

    def dead(*_, **__):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nand advice")

    def never(*_, **__):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure, at the cleanup")

    monkeypatch.setattr(cell_module, "_phases", dead)
    for module in (cell_module, sweep_module):
        monkeypatch.setattr(module, "release_memory", never)
    monkeypatch.setattr(Sweep, "_devices_respond", lambda self: False)
    events = Events()
    assert sweep_of(tmp_path, events=events).run() == 1
    (path,) = (path for path in tmp_path.glob("*.json") if path.name != "sweep.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert record["reasons"] == [
        "the cell failed with AcceleratorError: CUDA error: an illegal memory access was encountered"
    ]
    kinds = [event[:2] for event in events.emitted]
    assert kinds.count(("error", "device_lost")) == 1 and ("warning", "cell_failed") in kinds


def test_a_cell_that_does_not_fit_is_refused_with_the_bytes(tmp_path, monkeypatch):
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


def test_the_dashboard_gets_cells_figures_and_paths(tmp_path, monkeypatch):
    quick(monkeypatch)
    events = Events()
    sweep_of(tmp_path, events=events).run()
    progress = [event for event in events.emitted if event[0] == "progress"]
    assert progress[0] == ("progress", 0, 18, "cells")
    assert progress[-1][1:4] == (18, 18, "cells")
    paths = {event[1] for event in events.emitted if event[0] == "result"}
    assert paths == {str(path) for path in tmp_path.glob("*.json") if path.name != "sweep.json"}
    assert {"tokens_per_joule", "tokens_per_s", "time_left_s"} <= next(
        event[1] for event in events.emitted if event[0] == "metrics"
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
    emitted = [json.loads(line) for line in events.read_text().splitlines()]
    check = fastjsonschema.compile(json.loads((RUNNERS.parent / "docs" / "schemas" / "event.schema.json").read_text()))
    kinds = {check(event)["kind"] for event in emitted}
    assert {"phase", "progress", "metrics", "result", "warning", "heartbeat"} <= kinds
