"""Energy of the GPUs over a steady window, by the total-energy counter. Integrated power serves as a cross-check.

The counter changes every 100 ms (97 to 103 on an H200). A window with arbitrary ends would be off by up to one step at
each end, so a window starts and ends at the moment the counter changes. Clock and sleep are arguments, so that tests
can run in virtual time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from llmval_runners.measure.nvml_meter import MeterFault, NoMeter, PowerMeter, Reading

SAMPLE_INTERVAL_S = 0.1
COUNTER_CHECK_EVERY = 10  # samples; a reset in the window shows as a counter that went back
EDGE_POLL_S = 0.002
EDGE_LIMIT_S = 1.0

Edge = tuple[float, float]  # the time at which the counter changed, and its new value (J)


class Stopped(Exception):
    """The operator ended the run while a window was open."""


@dataclass(frozen=True, slots=True)
class GpuEnergyWindow:
    """One GPU over its own window. Both ends are at a change of its counter."""

    start: Edge
    end: Edge
    samples: list[tuple[float, Reading]]
    fault: str | None = None  # why the energy cannot be trusted

    @property
    def seconds(self) -> float:
        return self.end[0] - self.start[0]

    @property
    def energy_j(self) -> float | None:
        return None if self.fault else self.end[1] - self.start[1]

    @property
    def integrated_j(self) -> float | None:
        """Trapezoids under the power samples; the first and the last value are extended to the ends of the window."""
        powers = [(at, reading.power_w) for at, reading in self.samples if reading.power_w is not None]
        return integral(powers, self.start[0], self.end[0])


@dataclass(frozen=True, slots=True)
class EnergyWindow:
    """All GPUs over one window. Without a meter, `gpus` is empty and `missing` is the reason."""

    start_s: float
    end_s: float
    gpus: list[GpuEnergyWindow] = field(default_factory=list)
    missing: str | None = None

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    @property
    def fault(self) -> str | None:
        return self.missing or next((gpu.fault for gpu in self.gpus if gpu.fault), None)

    @property
    def energy_j(self) -> float | None:
        """Sum over GPUs, by the counters.

        Each GPU's own window differs from this one by up to a counter step, so its mean power is scaled to this one.
        """
        return self._sum(lambda gpu: gpu.energy_j)

    @property
    def integrated_j(self) -> float | None:
        """Sum over GPUs, by integrated power."""
        return self._sum(lambda gpu: gpu.integrated_j)

    @property
    def disagreement_percent(self) -> float | None:
        """Difference between integral and counter, of the GPU where it is largest: a sum could hide two errors."""
        found = []
        for gpu in self.gpus:
            if gpu.energy_j is None or gpu.integrated_j is None:
                return None
            found.append(
                100 * abs(gpu.integrated_j - gpu.energy_j) / gpu.energy_j if gpu.energy_j > 0 else float("inf")
            )
        return max(found, default=None)

    def _sum(self, value: Callable[[GpuEnergyWindow], float | None]) -> float | None:
        values = [item for gpu in self.gpus if (item := value(gpu)) is not None]
        if not values or len(values) < len(self.gpus):
            return None
        if len(values) == 1:
            return values[0]
        return sum(item / gpu.seconds * self.seconds for item, gpu in zip(values, self.gpus, strict=True))


def integral(points: list[tuple[float, float]], start: float, end: float) -> float | None:
    """Trapezoids under (time, value) from `start` to `end`; None with fewer than two points."""
    if len(points) < 2:
        return None
    inside = [(min(max(at, start), end), value) for at, value in points]
    inside = [(start, inside[0][1]), *inside, (end, inside[-1][1])]
    return sum((t1 - t0) * (v0 + v1) / 2 for (t0, v0), (t1, v1) in pairwise(inside))


class EnergyRecorder:
    """Measures the GPUs over windows. Use it in its own thread: NVML calls block for milliseconds."""

    def __init__(
        self,
        meter: PowerMeter | NoMeter,
        gpu_count: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        stopped: Callable[[], bool] = lambda: False,
        on_power: Callable[[float], None] = lambda watts: None,
    ) -> None:
        self.meter = meter
        self._gpus = range(gpu_count)
        self._clock, self._sleep, self._stopped, self._on_power = clock, sleep, stopped, on_power

    def window(self, seconds: float) -> EnergyWindow:
        """Measure for at least `seconds`; blocks. If the meter fails, the window has no energy and names the reason.

        Raises:
            Stopped: the operator ended the run.
        """
        began = self._clock()
        if isinstance(self.meter, NoMeter):
            self._wait_until(began + seconds)
            return EnergyWindow(began, self._clock(), missing=self.meter.reason)
        try:
            return self._record(self.meter, seconds)
        except MeterFault as fault:
            self._wait_until(began + seconds)
            return EnergyWindow(began, self._clock(), missing=f"the meter failed within the window: {fault}")

    def _record(self, meter: PowerMeter, seconds: float) -> EnergyWindow:
        starts = self._edges(meter)
        first = max(at for at, _ in starts)
        samples: list[list[tuple[float, Reading]]] = [[] for _ in self._gpus]
        last_seen = [energy for _, energy in starts]
        faults: list[str | None] = [None for _ in self._gpus]
        count = 0
        while (due := first + count * SAMPLE_INTERVAL_S) < first + seconds:
            self._wait_until(due)
            total = 0.0
            for gpu in self._gpus:
                reading = meter.read(gpu)
                samples[gpu].append((self._clock(), reading))
                total += reading.power_w or 0.0
                if count % COUNTER_CHECK_EVERY == 0:
                    self._check_counter(meter.energy_j(gpu), gpu, last_seen, faults)
            if count % COUNTER_CHECK_EVERY == 0:
                self._on_power(total)
            # By the clock, not by the last sample: one late sample must not delay all later ones.
            count = max(count + 1, int((self._clock() - first) / SAMPLE_INTERVAL_S))
        self._wait_until(first + seconds)
        ends = self._edges(meter)
        for gpu in self._gpus:
            samples[gpu].append((self._clock(), meter.read(gpu)))
            self._check_counter(ends[gpu][1], gpu, last_seen, faults)
        gpus = [GpuEnergyWindow(*parts) for parts in zip(starts, ends, samples, faults, strict=True)]
        return EnergyWindow(first, min(at for at, _ in ends), gpus)

    def _edges(self, meter: PowerMeter) -> list[Edge]:
        """Wait until each GPU's counter changes; the time and new value of each.

        Raises:
            MeterFault: a counter did not change.
        """
        initial = {gpu: meter.energy_j(gpu) for gpu in self._gpus}
        found: dict[int, Edge] = {}
        limit = self._clock() + EDGE_LIMIT_S
        while len(found) < len(initial):
            self._sleep_unless_stopped(EDGE_POLL_S)
            for gpu in initial.keys() - found.keys():
                before_read = self._clock()
                energy = meter.energy_j(gpu)
                if energy != initial[gpu]:
                    found[gpu] = ((before_read + self._clock()) / 2, energy)
            if len(found) < len(initial) and self._clock() > limit:
                missing = min(initial.keys() - found.keys())
                raise MeterFault(f"the energy counter of GPU {missing} did not move for {EDGE_LIMIT_S:g} s")
        return [found[gpu] for gpu in self._gpus]

    def _check_counter(self, energy: float, gpu: int, last_seen: list[float], faults: list[str | None]) -> None:
        if energy < last_seen[gpu]:
            faults[gpu] = (
                f"the energy counter of GPU {gpu} went back from {last_seen[gpu]:.1f} J to {energy:.1f} J within "
                "the window"
            )
        last_seen[gpu] = energy

    def _wait_until(self, at: float) -> None:
        while (left := at - self._clock()) > 0:
            self._sleep_unless_stopped(min(left, 0.5))
        if self._stopped():
            raise Stopped

    def _sleep_unless_stopped(self, seconds: float) -> None:
        if self._stopped():
            raise Stopped
        self._sleep(seconds)


def describe(window: EnergyWindow) -> list[dict[str, Any]]:
    """The figures of each GPU in the window, for the record; None for a value that the driver does not report."""
    found = []
    for gpu in window.gpus:
        readings = [reading for _, reading in gpu.samples]
        throttled = [reading.throttle_reasons for reading in readings if reading.throttle_reasons is not None]
        names = sorted({name for reasons in throttled for name in reasons})
        found.append(
            {
                "window_s": gpu.seconds,
                "energy_j": gpu.energy_j,
                "integrated_j": gpu.integrated_j,
                "mean_power_w": gpu.energy_j / gpu.seconds if gpu.energy_j is not None else None,
                "max_power_w": _of_known(max, [reading.power_w for reading in readings]),
                "samples": len(readings),
                "known": {
                    "utilisation_percent": sum(reading.utilisation_percent is not None for reading in readings),
                    "throttle_share": len(throttled),
                },
                "utilisation_percent": _of_known(fmean, [reading.utilisation_percent for reading in readings]),
                "sm_clock_mhz": _spread([reading.sm_clock_mhz for reading in readings]),
                "memory_clock_mhz": _spread([reading.memory_clock_mhz for reading in readings]),
                "temperature_c": _spread([reading.temperature_c for reading in readings]),
                "throttle_share": {
                    name: sum(name in reasons for reasons in throttled) / len(throttled) for name in names
                }
                if throttled
                else None,
            }
        )
    return found


def _of_known(reduce: Callable[[list[float]], float], values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(reduce(known)) if known else None


def _spread(values: list[float | None]) -> dict[str, float] | None:
    known = [float(value) for value in values if value is not None]
    return {"min": min(known), "mean": fmean(known), "max": max(known)} if known else None
