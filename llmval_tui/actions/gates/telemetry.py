"""The gates on the telemetry of a run: whether the state of the hardware makes its figures invalid."""

from dataclasses import replace

from llmval_tui.foundation.files import read_lines
from llmval_tui.runs.records import Gate, Outcome, worst
from llmval_tui.runs.run_recorder import TELEMETRY_INTERVAL_S
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.recording import load
from llmval_tui.telemetry.window_checks import check_telemetry

MEASURE = "measure"
FOREIGN = "telemetry.foreign_processes"


def telemetry_gates(run: Run) -> list[Gate]:
    """The findings of `check_telemetry` as gates, over the measured windows, or over the whole run without one."""
    samples = load(run.telemetry)
    gpus: list[int] | None = run.intent.params.get("gpu_indices")
    windows = measure_windows(run)
    found: dict[str, list[Gate]] = {}
    judged: list[tuple[int, int] | None] = [*windows] or [None]
    for window in judged:
        for one in check_telemetry(samples, TELEMETRY_INTERVAL_S, window, gpus=gpus):
            gate = Gate(one.name, Outcome(one.outcome), one.measured, one.bound, one.reason)
            found.setdefault(one.name, []).append(gate)
    if run.intent.server is not None:  # other runs use the GPUs beside it on purpose; each judges its own window
        found.pop(FOREIGN, None)
    return [_of_windows(gates) for gates in found.values()]


def _of_windows(gates: list[Gate]) -> Gate:
    """One gate for all windows, the worst of them. A sweep has a hundred windows, each with the same gates."""
    if len(gates) == 1:
        return gates[0]
    outcome = worst(gates)
    places = [number for number, gate in enumerate(gates, 1) if gate.outcome is outcome]
    gate = gates[places[0] - 1]
    where = "every one" if len(places) == len(gates) else f"{len(places)}, first in window {places[0]}"
    return replace(gate, measured=f"{len(gates)} windows, in {where}: {gate.measured}")


def measure_windows(run: Run) -> list[tuple[int, int]]:
    """Start and end in ns of the monotonic clock, of each `measure` phase of rank 0 that ended."""
    found = []
    start: int | None = None
    for event in read_lines(run.events):
        data, mono_ns = event.get("data"), event.get("mono_ns")
        kind = event.get("kind")
        # A result ends a window like the next phase does: no phase follows the last window of a sweep.
        if kind not in ("phase", "result") or not isinstance(data, dict) or not isinstance(mono_ns, int):
            continue
        if start is not None:
            found.append((start, mono_ns))
        start = mono_ns if kind == "phase" and data.get("name") == MEASURE else None
    return found
