"""Whether what the hardware did lets a run's figures stand: telemetry, judged over the measured window."""

from llmval_tui.foundation.files import read_lines
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.runs.store import Run
from llmval_tui.runs.supervisor import TELEMETRY_INTERVAL_S
from llmval_tui.telemetry.tail import load
from llmval_tui.telemetry.validity import assess

MEASURE = "measure"


def telemetry_gates(run: Run) -> list[Gate]:
    """The findings of `telemetry.validity.assess` as gates, for each measured window, else over all."""
    samples = load(run.telemetry)
    gpus: list[int] | None = run.intent.params.get("gpu_indices")
    windows = measure_windows(run)
    gates = []
    for number, window in enumerate(windows or [None], 1):
        prefix = f"window {number}: " if len(windows) > 1 else ""
        gates += [
            Gate(prefix + found.name, Outcome(found.outcome), found.measured, found.bound, found.reason)
            for found in assess(samples, TELEMETRY_INTERVAL_S, window, gpus=gpus)
        ]
    return gates


def measure_windows(run: Run) -> list[tuple[int, int]]:
    """Start and end, on the monotonic clock in ns, of each `measure` phase that rank 0 reported and that ended."""
    found = []
    start: int | None = None
    for event in read_lines(run.events):
        data, mono_ns = event.get("data"), event.get("mono_ns")
        if event.get("kind") != "phase" or not isinstance(data, dict) or not isinstance(mono_ns, int):
            continue
        if start is not None:
            found.append((start, mono_ns))
        start = mono_ns if data.get("name") == MEASURE else None
    return found
