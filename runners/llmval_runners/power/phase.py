"""One phase of one cell: warm up, keep the GPUs busy during the windows of all trials, count the tokens of each."""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any, Protocol

from llmval_runners.power import validity
from llmval_runners.power.energy import EnergyRecorder, EnergyWindow, Stopped, describe
from llmval_runners.power.grid import Cell
from llmval_runners.power.utilisation import tokens_per_step, utilisation

UNIT_S = 0.05  # the host waits for steps in units of this length: short against a window, long against a wait
MAX_STEPS_PER_UNIT = 2000
IN_FLIGHT = 2  # units: enough that the device never waits for the host, few enough to stop quickly


class PhaseWork(Protocol):
    """A phase that can be repeated step by step. `step` only enqueues; a mark gives the completion time."""

    copies: int  # copies of the model, one for each GPU
    description: dict[str, Any]  # how it runs: attention kernel, launch, padding

    def step(self) -> None:
        """Enqueue one step on every GPU."""

    def mark(self) -> Callable[[], float]:
        """Return a function that waits for all steps enqueued so far and returns their completion time (host clock, s).

        The GPU takes the time: a host that is busy enqueueing notices a completion late, by up to one step if a step
        fills the launch queue.
        """

    def finite(self) -> bool:
        """Whether all numbers of the last step's output are finite."""

    def peak_memory_bytes(self) -> int | None:
        """Peak allocated memory of one GPU, or of the GPU with the most; None on a CPU."""


class StepQueue:
    """Keeps steps in flight and records how many were done at which time."""

    def __init__(self, work: PhaseWork, clock: Callable[[], float], stopped: Callable[[], bool]) -> None:
        self._work, self._clock, self._stopped = work, clock, stopped
        self._in_flight: deque[tuple[Callable[[], float], int]] = deque()
        self._enqueued = 0
        self.done: list[tuple[float, int]] = [(clock(), 0)]
        self._steps_per_unit = 1

    def calibrate(self) -> None:
        """Choose the number of steps in a unit by timing single steps. The first loads kernels and is not counted."""
        times = []
        for _ in range(3):
            began = self._clock()
            self.enqueue_unit()
            self.drain()
            times.append(self._clock() - began)
        step = max(min(times[1:]), 1e-6)
        self._steps_per_unit = min(max(math.ceil(UNIT_S / step), 1), MAX_STEPS_PER_UNIT)

    def enqueue_unit(self) -> None:
        """Enqueue one unit. Wait for the oldest if more than `IN_FLIGHT` are under way.

        Raises:
            Stopped: the operator ended the run.
        """
        if self._stopped():
            raise Stopped
        for _ in range(self._steps_per_unit):
            self._work.step()
        self._enqueued += self._steps_per_unit
        self._in_flight.append((self._work.mark(), self._enqueued))
        if len(self._in_flight) > IN_FLIGHT:
            self._wait_for_oldest()

    def drain(self) -> None:
        while self._in_flight:
            self._wait_for_oldest()

    def steps_at(self, at: float) -> float:
        """Steps done at a time (interpolated: all steps of a phase take equally long).

        Raises:
            ValueError: no step was completed at or after that time.
        """
        before = (self.done[0][0], 0)
        for after in self.done:
            if after[0] >= at:
                if after[0] == before[0]:
                    return float(after[1])
                return before[1] + (after[1] - before[1]) * (at - before[0]) / (after[0] - before[0])
            before = after
        raise ValueError("no step was completed after that time")

    def _wait_for_oldest(self) -> None:
        wait, count = self._in_flight.popleft()
        self.done.append((wait(), count))


def measure(
    cell: Cell,
    phase: str,
    work: PhaseWork,
    recorder: EnergyRecorder,
    *,
    gpu_name: str | None,
    idle_power_w: float | None,
    window_s: float,
    warmup_s: float,
    trials: int,
    clock: Callable[[], float],
    stopped: Callable[[], bool],
    on_stage: Callable[[str, int], None],
) -> dict[str, Any]:
    """Measure a phase; its record is `phases.<phase>` of `power_cell.schema.json`.

    `on_stage(stage, trial)` is called when a stage begins.

    Raises:
        Stopped: the operator ended the run.
    """
    step_tokens = tokens_per_step(cell, phase) * work.copies
    on_stage("warmup", 0)
    queue = StepQueue(work, clock, stopped)
    queue.calibrate()
    began = clock()
    while clock() - began < warmup_s:
        queue.enqueue_unit()
    warmup_done_s = clock() - began
    windows: list[EnergyWindow] = []
    with ThreadPoolExecutor(1, thread_name_prefix="power") as pool:
        for index in range(trials):
            on_stage("measure", index + 1)
            recording = pool.submit(recorder.window, window_s)
            while not recording.done():
                queue.enqueue_unit()
            windows.append(recording.result())
    queue.drain()
    queue.enqueue_unit()
    queue.drain()  # this gives a completion after the end of the last window
    records = []
    for window in windows:
        steps = queue.steps_at(window.end_s) - queue.steps_at(window.start_s)
        records.append(_trial(window, steps, step_tokens))
    missing = next((window.fault for window in windows if window.fault), None)
    rules = validity.judge(records, warmup_s=warmup_done_s, energy_missing=missing, finite=work.finite())
    rate = fmean(record["tokens_per_s"] for record in records)
    reasons = validity.reasons(rules)
    return {
        "valid": not reasons,
        "reasons": reasons,
        "rules": [rule.as_json() for rule in rules],
        "tokens_per_step": step_tokens,
        "step_ms": 1000 * step_tokens / rate,
        "tokens_per_s": rate,
        **_energy(records, missing, idle_power_w),
        "warmup_s": warmup_done_s,
        "baseline_grade": not reasons and min(record["window_s"] for record in records) >= validity.BASELINE_WINDOW_S,
        "utilisation_of_peak": utilisation(cell, phase, gpu_name, rate / work.copies),
        "peak_memory_bytes": work.peak_memory_bytes(),
        "how": dict(work.description),
        "trials": records,
    }


def _trial(window: EnergyWindow, steps: float, step_tokens: int) -> dict[str, Any]:
    tokens, energy = steps * step_tokens, window.energy_j
    return {
        "window_s": window.seconds,
        "steps": steps,
        "tokens": tokens,
        "tokens_per_s": tokens / window.seconds,
        "energy_j": energy,
        "integrated_j": window.integrated_j,
        "disagreement_percent": window.disagreement_percent,
        "tokens_per_joule": tokens / energy if energy else None,
        "power_w": energy / window.seconds if energy else None,
        "energy_missing": window.fault,
        "gpus": describe(window),
    }


def _energy(records: list[dict[str, Any]], missing: str | None, idle_w: float | None) -> dict[str, Any]:
    """Energy and tokens of all trials together, so that tokens/J is exactly the inverse of J/token.

    `idle_w`: power of the idle GPUs.
    """
    if missing is not None or any(record["energy_j"] is None for record in records):
        blank = (
            "power_w",
            "tokens_per_joule",
            "joules_per_token",
            "tokens_per_joule_net",
            "joules_per_token_net",
            "idle_power_w",
        )
        return {"energy": "not available", "energy_missing": missing, **dict.fromkeys(blank)}
    energy, tokens = sum(r["energy_j"] for r in records), sum(r["tokens"] for r in records)
    seconds = sum(r["window_s"] for r in records)
    net = energy - idle_w * seconds if idle_w is not None else None
    return {
        "energy": "available",
        "energy_missing": None,
        "power_w": energy / seconds,
        "tokens_per_joule": tokens / energy,
        "joules_per_token": energy / tokens,
        # Idle power at or above the load's means a broken reading, so there is no net figure.
        "tokens_per_joule_net": tokens / net if net is not None and net > 0 else None,
        "joules_per_token_net": net / tokens if net is not None and net > 0 else None,
        "idle_power_w": idle_w,
    }
