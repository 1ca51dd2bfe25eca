"""Run one cell and make its record: memory check, idle power, phases. If it cannot run, the record has the reason."""

import gc
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine.shapes import CPU_PARAMETERS
from llmval_runners.measure.nvml_meter import NoMeter
from llmval_runners.power.energy import EnergyRecorder
from llmval_runners.power.grid import Cell
from llmval_runners.power.options import SweepSettings
from llmval_runners.power.phase import measure
from llmval_runners.power.utilisation import memory_needed
from llmval_runners.power.workload import build, work_of
from llmval_runners.process.errors import Refused

SCHEMA = 1
IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class SweepContext:
    """Everything that the cells of a sweep share."""

    settings: SweepSettings
    devices: list[torch.device]
    recorder: EnergyRecorder
    identity: dict[str, Any]
    stopped: Callable[[], bool]
    on_stage: Callable[[Cell, str, str, int], None]  # cell, phase, stage, trial
    clock: Callable[[], float] = time.perf_counter

    @property
    def gpu_name(self) -> str | None:
        gpus = self.identity["gpus"]
        return gpus[0]["name"] if gpus else None


def run_cell(cell: Cell, context: SweepContext, attempt: int) -> dict[str, Any]:
    """Run a cell and return its record (`power_cell.schema.json`). A cell the machine cannot run is a refused record.

    Raises:
        Stopped: the operator ended the run.
        Exception: the cell failed; `failed_record` makes its record.
    """
    record = _header(cell, context, attempt)
    try:
        _check_memory(cell, context)
        idle = _idle_power(context)
        phases = _phases(cell, context, idle)
    except Refused as refusal:
        return record | {"status": "refused", "reasons": [str(refusal)], "ended_utc": _now()}
    except (torch.OutOfMemoryError, MemoryError) as error:
        message = str(error).splitlines()[0] if str(error) else "out of memory"
        reason = f"the cell does not fit in memory, although the estimate did: {message}"
        return record | {"status": "refused", "reasons": [reason], "ended_utc": _now()}
    finally:
        with suppress(RuntimeError):  # a lost CUDA context fails again here; the first error is the one to record
            release_memory(context.devices)
    reasons = [f"{name}: {reason}" for name, phase in phases.items() for reason in phase["reasons"]]
    no_energy = isinstance(context.recorder.meter, NoMeter)
    status = "valid" if not reasons else "no_energy" if no_energy else "invalid"
    return record | {"status": status, "reasons": reasons, "idle_power_w": idle, "phases": phases, "ended_utc": _now()}


def failed_record(cell: Cell, context: SweepContext, attempt: int, error: BaseException) -> dict[str, Any]:
    """The record of a cell that failed with an exception."""
    reason = (
        f"the cell failed with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    )
    return _header(cell, context, attempt) | {"status": "failed", "reasons": [reason], "ended_utc": _now()}


def _phases(cell: Cell, context: SweepContext, idle: float | None) -> dict[str, Any]:
    settings = context.settings
    context.on_stage(cell, "", "load", 0)
    stacks = build(cell, context.devices, compiled=settings.compile, seed=settings.seed)
    found = {}
    for phase in settings.phases:
        for device in context.devices:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
        found[phase] = measure(
            cell,
            phase,
            work_of(stacks, phase, settings.attention_backend),
            context.recorder,
            gpu_name=context.gpu_name,
            idle_power_w=idle,
            window_s=settings.window_s,
            warmup_s=settings.warmup_s,
            trials=settings.trials,
            clock=context.clock,
            stopped=context.stopped,
            on_stage=partial(context.on_stage, cell, phase),
        )
    return found


def _check_memory(cell: Cell, context: SweepContext) -> None:
    needed = memory_needed(cell, context.settings.phases)
    if context.devices[0].type != "cuda" and cell.shape.parameters > CPU_PARAMETERS:
        raise Refused(
            f"{cell.shape.name} has {cell.shape.parameters / 1e9:.1f} B parameters, too many to measure on a CPU: "
            "run it on a GPU"
        )
    for device in context.devices:
        available = free_bytes(device)
        if needed > available:
            raise Refused(
                f"the cell needs about {needed / 2**30:.1f} GiB on {device}, but only {available / 2**30:.1f} GiB are "
                "free: use a smaller batch or sequence length, or end the other processes on the GPU"
            )


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU in bytes; for a CPU, the kernel's MemAvailable."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no line MemAvailable")


def _idle_power(context: SweepContext) -> float | None:
    """Total power (W) of the idle GPUs, by their counters; None without energy."""
    if isinstance(context.recorder.meter, NoMeter):
        return None
    window = context.recorder.window(IDLE_S)
    return None if window.energy_j is None else window.energy_j / window.seconds


def _header(cell: Cell, context: SweepContext, attempt: int) -> dict[str, Any]:
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
        "settings": context.settings.as_json(),
        "identity": context.identity,
        "attempt": attempt,
        "idle_power_w": None,
        "phases": {},
        "started_utc": _now(),
    }


def release_memory(devices: list[torch.device]) -> None:
    """Free the memory of the last cell. Nothing may refer to its tensors any more."""
    gc.collect()
    if devices[0].type == "cuda":
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:  # if it was never imported (which takes seconds), nothing was compiled
        torch.compiler.reset()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
