"""One phase of one cell: warm up, keep the GPUs busy through the trials' windows, and count what was made in each."""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any, Protocol

from llmval_runners.power import validity
from llmval_runners.power.energy import Recorder, Stopped, Window, describe
from llmval_runners.power.grid import Cell
from llmval_runners.power.utilisation import tokens_per_step, utilisation

UNIT_S = 0.05  # steps are waited for in units of about this long: short against a window, long against a wait
MAX_STEPS_A_UNIT = 2000
IN_FLIGHT = 2  # units: the device never waits for the host, and a stop is never more than a moment away


class Work(Protocol):
    """A phase that can be stepped. Steps are enqueued; a mark tells when all before it are done."""

    copies: int  # of the model, one a GPU
    description: dict[str, Any]  # how it runs: attention kernel, launch, padding

    def step(self) -> None:
        """Enqueue one step on every GPU."""

    def mark(self) -> Callable[[], float]:
        """A function that waits until all steps enqueued so far are done, and returns when they were.

        By the host's clock, but as the GPU tells it: a host that is busy enqueueing sees a completion late, by up to
        a step where one fills the launch queue.
        """

    def finite(self) -> bool:
        """Whether the last step's output is all finite numbers."""

    def peak_memory_bytes(self) -> int | None:
        """The most that a GPU held."""


class Pump:
    """Keeps steps in flight and remembers when how many were done."""

    def __init__(self, work: Work, clock: Callable[[], float], stopped: Callable[[], bool]) -> None:
        self._work, self._clock, self._stopped = work, clock, stopped
        self._waiting: deque[tuple[Callable[[], float], int]] = deque()
        self._enqueued = 0
        self.done: list[tuple[float, int]] = [(clock(), 0)]
        self.steps_a_unit = 1

    def calibrate(self) -> None:
        """Choose the unit from the time of single steps; the first, which loads kernels, is not counted."""
        times = []
        for _ in range(3):
            began = self._clock()
            self.unit()
            self.drain()
            times.append(self._clock() - began)
        step = max(min(times[1:]), 1e-6)
        self.steps_a_unit = min(max(math.ceil(UNIT_S / step), 1), MAX_STEPS_A_UNIT)

    def unit(self) -> None:
        """Enqueue one unit, and wait for the oldest where enough are in flight.

        Raises:
            Stopped: the operator ended the run.
        """
        if self._stopped():
            raise Stopped
        for _ in range(self.steps_a_unit):
            self._work.step()
        self._enqueued += self.steps_a_unit
        self._waiting.append((self._work.mark(), self._enqueued))
        if len(self._waiting) > IN_FLIGHT:
            self._take()

    def drain(self) -> None:
        while self._waiting:
            self._take()

    def steps_at(self, at: float) -> float:
        """Steps done at a time, the one under way by its share: steps of one phase are all alike."""
        before = (self.done[0][0], 0)
        for after in self.done:
            if after[0] >= at:
                if after[0] == before[0]:
                    return float(after[1])
                return before[1] + (after[1] - before[1]) * (at - before[0]) / (after[0] - before[0])
            before = after
        raise ValueError("the window ended after the last step")

    def _take(self) -> None:
        wait, count = self._waiting.popleft()
        self.done.append((wait(), count))


def measure(
    cell: Cell,
    phase: str,
    work: Work,
    recorder: Recorder,
    *,
    gpu_name: str | None,
    idle_power_w: float | None,
    window_s: float,
    warmup_s: float,
    trials: int,
    clock: Callable[[], float],
    stopped: Callable[[], bool],
    tell: Callable[[str, int], None],
) -> dict[str, Any]:
    """The phase's record (`phases.<phase>` of `power_cell.schema.json`). `tell(stage, trial)` hears what begins.

    Raises:
        Stopped: the operator ended the run.
    """
    tokens_a_step = tokens_per_step(cell, phase) * work.copies
    tell("warmup", 0)
    pump = Pump(work, clock, stopped)
    pump.calibrate()
    began = clock()
    while clock() - began < warmup_s:
        pump.unit()
    warmed_s = clock() - began
    windows: list[Window] = []
    with ThreadPoolExecutor(1, thread_name_prefix="power") as pool:
        for index in range(trials):
            tell("measure", index + 1)
            recording = pool.submit(recorder.window, window_s)
            while not recording.done():
                pump.unit()
            windows.append(recording.result())
    pump.drain()
    pump.unit()
    pump.drain()  # so that a completion lies behind the last window
    records = []
    for window in windows:
        steps = pump.steps_at(window.end_s) - pump.steps_at(window.start_s)
        records.append(_trial(window, steps, tokens_a_step))
    missing = next((window.fault for window in windows if window.fault), None)
    rules = validity.judge(records, warmup_s=warmed_s, energy_missing=missing, finite=work.finite())
    rate = fmean(record["tokens_per_s"] for record in records)
    wrong = validity.reasons(rules)
    return {
        "valid": not wrong,
        "reasons": wrong,
        "rules": [rule.as_json() for rule in rules],
        "tokens_per_step": tokens_a_step,
        "step_ms": 1000 * tokens_a_step / rate,
        "tokens_per_s": rate,
        **_energy(records, missing, idle_power_w, rate),
        "warmup_s": warmed_s,
        "baseline_grade": not wrong and min(record["window_s"] for record in records) >= validity.BASELINE_WINDOW_S,
        "utilisation_of_peak": utilisation(cell, phase, gpu_name, rate / work.copies),
        "peak_memory_bytes": work.peak_memory_bytes(),
        "how": dict(work.description),
        "trials": records,
    }


def _trial(window: Window, steps: float, tokens_a_step: int) -> dict[str, Any]:
    tokens, energy = steps * tokens_a_step, window.energy_j
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


def _energy(records: list[dict[str, Any]], missing: str | None, idle_w: float | None, rate: float) -> dict[str, Any]:
    """Mean over the trials' energy and tokens together, so that tokens/J and J/token are each other's inverse."""
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
        # Idle power at or above the load's is a broken reading, not free tokens.
        "tokens_per_joule_net": tokens / net if net is not None and net > 0 else None,
        "joules_per_token_net": net / tokens if net is not None and net > 0 else None,
        "idle_power_w": idle_w,
    }
