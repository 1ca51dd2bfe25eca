"""One cell from nothing to its record: rest, idle power, memory, phases. What cannot run is refused with the reason."""

import gc
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine.shapes import CPU_PARAMETERS
from llmval_runners.measure.nvml_meter import NoMeter
from llmval_runners.power.energy import Recorder
from llmval_runners.power.grid import Cell
from llmval_runners.power.options import Settings
from llmval_runners.power.phase import measure
from llmval_runners.power.utilisation import memory_needed
from llmval_runners.power.workload import build, work_of
from llmval_runners.process.errors import Refused

SCHEMA = 1
IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all cells of a sweep share."""

    settings: Settings
    devices: list[torch.device]
    recorder: Recorder
    identity: dict[str, Any]
    stopped: Callable[[], bool]
    tell: Callable[[Cell, str, str, int], None]  # cell, phase, stage, trial
    clock: Callable[[], float] = time.perf_counter

    @property
    def gpu_name(self) -> str | None:
        gpus = self.identity["gpus"]
        return gpus[0]["name"] if gpus else None


def run_cell(cell: Cell, bench: Bench, attempt: int) -> dict[str, Any]:
    """The record of a cell (`power_cell.schema.json`); never raises for what the machine lacks.

    Raises:
        Stopped: the operator ended the run.
        Exception: the cell broke; `failed_record` makes its record.
    """
    record = _header(cell, bench, attempt)
    try:
        _check_room(cell, bench)
        idle = _idle_power(bench)
        phases = _phases(cell, bench, idle)
    except Refused as refusal:
        return record | {"status": "refused", "reasons": [str(refusal)], "ended_utc": _now()}
    except (torch.OutOfMemoryError, MemoryError) as error:
        told = str(error).splitlines()[0] if str(error) else "out of memory"
        reason = f"the cell does not fit in memory, although the estimate did: {told}"
        return record | {"status": "refused", "reasons": [reason], "ended_utc": _now()}
    finally:
        with suppress(RuntimeError):  # a context that is lost: its first error, on its way out, is the one to record
            free(bench.devices)
    wrong = [f"{name}: {reason}" for name, phase in phases.items() for reason in phase["reasons"]]
    no_energy = isinstance(bench.recorder.meter, NoMeter)
    status = "valid" if not wrong else "no_energy" if no_energy else "invalid"
    return record | {"status": status, "reasons": wrong, "idle_power_w": idle, "phases": phases, "ended_utc": _now()}


def failed_record(cell: Cell, bench: Bench, attempt: int, error: BaseException) -> dict[str, Any]:
    """The record of a cell that broke."""
    reason = (
        f"the cell failed with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    )
    return _header(cell, bench, attempt) | {"status": "failed", "reasons": [reason], "ended_utc": _now()}


def _phases(cell: Cell, bench: Bench, idle: float | None) -> dict[str, Any]:
    settings = bench.settings
    bench.tell(cell, "", "load", 0)
    stacks = build(cell, bench.devices, compiled=settings.compile, seed=settings.seed)
    found = {}
    for phase in settings.phases:
        for device in bench.devices:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
        found[phase] = measure(
            cell,
            phase,
            work_of(stacks, phase, settings.attention_backend),
            bench.recorder,
            gpu_name=bench.gpu_name,
            idle_power_w=idle,
            window_s=settings.window_s,
            warmup_s=settings.warmup_s,
            trials=settings.trials,
            clock=bench.clock,
            stopped=bench.stopped,
            tell=lambda stage, trial, phase=phase: bench.tell(cell, phase, stage, trial),
        )
    return found


def _check_room(cell: Cell, bench: Bench) -> None:
    needed = memory_needed(cell, bench.settings.phases)
    if bench.devices[0].type != "cuda" and cell.shape.parameters > CPU_PARAMETERS:
        raise Refused(
            f"{cell.shape.name} has {cell.shape.parameters / 1e9:.1f} B parameters, too many to measure on a CPU: "
            "run it on a GPU"
        )
    for device in bench.devices:
        free = free_bytes(device)
        if needed > free:
            raise Refused(
                f"the cell needs about {needed / 2**30:.1f} GiB on {device} and {free / 2**30:.1f} GiB are free: "
                "use a smaller batch "
                "or sequence length, or end what else uses the GPU"
            )


def free_bytes(device: torch.device) -> int:
    """Free bytes of a GPU; of a CPU, what the kernel calls available."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no line MemAvailable")


def _idle_power(bench: Bench) -> float | None:
    """Power of the GPUs together while nothing runs on them, by their counters; None where there is no energy."""
    if isinstance(bench.recorder.meter, NoMeter):
        return None
    window = bench.recorder.window(IDLE_S)
    return None if window.energy_j is None else window.energy_j / window.seconds


def _header(cell: Cell, bench: Bench, attempt: int) -> dict[str, Any]:
    shape = cell.shape
    return {
        "schema": SCHEMA,
        "kind": "power_cell",
        "cell": cell.name,
        "model": {
            "name": shape.name,
            "layers": shape.layers,
            "d_model": shape.d_model,
            "heads": shape.heads,
            "d_ff": shape.d_ff,
            "parameters": shape.parameters,
        },
        "mode": cell.mode,
        "batch_size": cell.batch,
        "sequence_length": cell.sequence_length,
        "settings": bench.settings.as_json(),
        "identity": bench.identity,
        "attempt": attempt,
        "idle_power_w": None,
        "phases": {},
        "started_utc": _now(),
    }


def free(devices: list[torch.device]) -> None:
    """Give back what the last cell held, once nothing refers to it any more."""
    gc.collect()
    if devices[0].type == "cuda":
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:  # its import takes seconds, and without it there is nothing to forget
        torch.compiler.reset()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
