"""A fake GPU: power is a function of time, read by a stepwise energy counter and by noisy power readings."""

import math
import random
from collections.abc import Callable
from typing import Any

from llmval_runners.measure.nvml_meter import MeterFault, Reading


class VirtualTime:
    """A clock that advances only while somebody sleeps or a reading takes time."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-6)


class FakeMeter:
    """A `PowerMeter` of GPUs with one power curve (W over s) each.

    The counter is the exact integral of the curve, but changes only every 97 to 103 ms, as on an H200. Tests set
    attributes to simulate faults.
    """

    power_source = "fake, instant"

    def __init__(
        self, clock: Callable[[], float], *curves: Callable[[float], float], noise: float = 0.0, seed: int = 0,
        spend: Callable[[float], None] = lambda seconds: None,
    ) -> None:  # fmt: skip
        self._clock, self._spend = clock, spend
        self.curves, self.noise = curves, noise
        self._random = random.Random(seed)
        self._state = [(clock(), 50_000.0, clock(), 50_000.0) for _ in curves]  # integrated to, J; stepped at, shown J
        self._step = [0.1 for _ in curves]
        self.counter_factor = 1.0
        self.power_factor = 1.0
        self.reset_at: float | None = None
        self.stuck = False
        self.dead_at: float | None = None
        self.no_power = False
        self.utilisation: float | None = 99.0
        self.throttle: tuple[str, ...] | None = ("sw_power_cap",)
        self.closed = False

    def gpus(self) -> list[dict[str, Any]]:
        return [
            {"index": n, "uuid": f"GPU-{n}", "name": "NVIDIA H200", "driver": "580.159.04", "power_limit_w": 700.0}
            for n in range(len(self.curves))
        ]

    def energy_j(self, gpu: int) -> float:
        self._spend(0.0037)
        self._check_alive()
        now = self._clock()
        done, total, stepped, shown = self._state[gpu]
        while not self.stuck and now >= stepped + self._step[gpu]:
            stepped += self._step[gpu]
            total += self._integral(gpu, done, stepped)
            done, shown = stepped, total
            self._step[gpu] = self._random.uniform(0.097, 0.103)
        if self.reset_at is not None and now >= self.reset_at:
            self.reset_at, total, shown = None, 0.0, 0.0
        self._state[gpu] = (done, total, stepped, shown)
        return shown

    def read(self, gpu: int) -> Reading:
        self._spend(0.0003)
        self._check_alive()
        power = self.curves[gpu](self._clock()) * self.power_factor * (1 + self._random.gauss(0, self.noise))
        return Reading(None if self.no_power else power, self.utilisation, 1980.0, 3201.0, 61.0, self.throttle)

    def close(self) -> None:
        self.closed = True

    def _integral(self, gpu: int, start: float, end: float) -> float:
        """Simpson's rule over a step: exact enough for curves that change over seconds."""
        curve, middle = self.curves[gpu], (start + end) / 2
        return (end - start) / 6 * (curve(start) + 4 * curve(middle) + curve(end)) * self.counter_factor

    def _check_alive(self) -> None:
        if self.dead_at is not None and self._clock() >= self.dead_at:
            raise MeterFault("the GPU is lost")


def wave(base: float, parts: list[tuple[float, float, float]], drift: float = 0.0) -> Callable[[float], float]:
    """A steady load in W: a base, slow waves of (amplitude W, period s, phase) and a drift in W/s; at least 30 W."""

    def power(at: float) -> float:
        waves = sum(a * math.sin(2 * math.pi * at / period + phase) for a, period, phase in parts)
        return max(30.0, base + waves + drift * (at - 1000.0))

    return power
