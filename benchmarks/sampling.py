"""The cost of telemetry: the recorder of the dashboard at 2 Hz and that of a run at 10 Hz, as separate processes.

`python -m benchmarks sampling` needs only psutil and, for meaningful figures, GPUs.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.report import Row
from llmval_tui.runs.run_recorder import ENERGY_INTERVAL_S
from llmval_tui.telemetry.sample import Sample

RECORDER = [sys.executable, "-m", "llmval_tui.telemetry.recorder"]
BOUND_PERCENT = 5.0  # of one core, four GPUs


def sampling(seconds: float = 30) -> list[Row]:
    """CPU of both recorders after their start, samples that were due and that came, and the cost of the slow readings.

    At 10 Hz, every sample has the fast readings (utilisation, average power, clocks, GPM). The slow readings (instant
    power, processes, NVLink counters without GPM) come once per second, the energy counter at its own interval.
    """
    name = "telemetry sampling, 2 Hz display and 10 Hz record"
    with tempfile.TemporaryDirectory(prefix="llmval-bench-") as folder:
        files = {0.5: Path(folder) / "display.jsonl", 0.1: Path(folder) / "record.jsonl"}
        run = [
            "--energy-interval",
            str(ENERGY_INTERVAL_S),
            "--own",
            folder,
        ]  # as the supervisor starts it
        children = [
            subprocess.Popen(
                [*RECORDER, "--out", str(path), "--interval", str(interval), "--folder", folder, *flags],
                stdin=subprocess.DEVNULL,
            )
            for (interval, path), flags in zip(files.items(), ([], run), strict=True)
        ]
        try:
            time.sleep(3)
            before, start = [_cpu(child) for child in children], time.perf_counter()
            counts = [_lines(path) for path in files.values()]
            time.sleep(seconds)
            span = time.perf_counter() - start
            shares = [100 * (_cpu(child) - used) / span for child, used in zip(children, before, strict=True)]
            came = [_lines(path) - count for path, count in zip(files.values(), counts, strict=True)]
        finally:
            for child in children:
                child.terminate()
                child.wait(10)
        lines = files[0.1].read_bytes().splitlines()
    samples = [sample for line in lines if (sample := Sample.from_line(line)) is not None]
    gpus = len(samples[-1].gpus)
    powers = [sample.gpus[0].power_w for sample in samples] if gpus else []
    steps = sum(one != other for one, other in pairwise(powers))
    text = (
        f"{shares[0]:.1f} + {shares[1]:.1f} % of a core with {gpus} GPUs; {came[0]} of {round(span / 0.5)} and "
        f"{came[1]} of {round(span / 0.1)} samples came; GPU 0's power changed {steps} times in {len(powers)} samples"
    )
    bound = f"≤ {BOUND_PERCENT:.0f} % of a core with 4 GPUs"
    if not gpus:
        return [Row(name, f"{text} (no GPU: the host alone)", bound, None)]
    return [
        # The cost is proportional to the number of GPUs, and so is the bound.
        Row(name, text, f"{bound}, in proportion", sum(shares) <= BOUND_PERCENT * gpus / 4),
        *_slow_readings(),
    ]


def _slow_readings(calls: int = 40) -> Iterator[Row]:
    """The cost of each slow reading of one GPU, and of two fields in one call."""
    import pynvml

    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    power, energy = pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
    for name, call in (
        ("instant power (field 186)", lambda: pynvml.nvmlDeviceGetFieldValues(gpu, [power])),
        ("energy counter (its own call)", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)),
        ("energy counter (field 83)", lambda: pynvml.nvmlDeviceGetFieldValues(gpu, [energy])),
        ("fields 186 and 83 in one call", lambda: pynvml.nvmlDeviceGetFieldValues(gpu, [power, energy])),
        ("compute processes", lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
        ("enforced power limit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu)),
    ):
        yield Row(f"{name} of one GPU", _cost(call, calls), None, True)
    pynvml.nvmlShutdown()


def _cost(call: Callable[[], object], calls: int) -> str:
    times = []
    for _ in range(calls):
        start = time.process_time()
        call()
        times.append((time.process_time() - start) * 1000)
        time.sleep(0.11)  # NVML caches readings for 100 ms
    return (
        f"mean {statistics.fmean(times):.2f} ms, median {statistics.median(times):.2f}, worst {max(times):.2f} of CPU "
        f"in {calls} readings 0.11 s apart"
    )


def _cpu(child: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(child.pid).cpu_times()
    return float(times.user + times.system)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
