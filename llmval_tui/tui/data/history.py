"""Series of values for the charts, filled as samples and events arrive: the newest ones, and all of them in buckets."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmval_tui.terminal.buckets import Buckets

if TYPE_CHECKING:
    from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Process, Sample

HISTORY_SAMPLES = 720  # newest values of a series: more than two for each cell of a 300-column terminal
RECENT_SAMPLES = 240  # newest values with their times, for the window of the last two minutes


class Series:
    """One quantity: its newest values, None for a missing one, and all of them in buckets."""

    __slots__ = ("buckets", "count", "peak", "recent", "values")

    def __init__(self, longest: int = HISTORY_SAMPLES) -> None:
        self.values: deque[float | None] = deque(maxlen=longest)
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT_SAMPLES)  # seconds since the start, value
        self.buckets = Buckets()
        self.count = 0  # values ever added
        self.peak: float | None = None  # highest value ever added

    def add(self, value: float | None, at_s: float | None = None) -> None:
        """Append a value; `at_s` seconds after the start of the series, if its time is known."""
        self.values.append(value)
        self.count += 1
        if value is None or not math.isfinite(value):
            return
        if self.peak is None or value > self.peak:
            self.peak = value
        if at_s is not None:
            self.buckets.add(at_s, value)
            self.recent.append((at_s, value))

    @property
    def last(self) -> float | None:
        return self.values[-1] if self.values else None

    @property
    def first(self) -> int:
        """The number, since the start, of the oldest value in `values`."""
        return self.count - len(self.values)

    def near(self, start_s: float) -> Buckets:
        """Buckets with the time from `start_s` on as exactly as it is known: from single samples if they reach back."""
        if not self.recent or self.recent[0][0] > start_s + 2 or self.buckets.width_s <= 0.5:
            return self.buckets
        return recent_buckets(self.recent)


def recent_buckets(recent: Iterable[tuple[float, float]]) -> Buckets:
    """Buckets of half a second with only these values; those before them are empty."""
    found = Buckets(most=1 << 20)
    for at_s, value in recent:
        found.add(at_s, value)
    return found


GPU_FIELDS = (
    "sm_util_percent", "power_w", "temperature_c", "nvlink_tx_gb_per_s", "nvlink_rx_gb_per_s", "pcie_rx_gb_per_s",
)  # fmt: skip
HOST_FIELDS = ("cpu_percent", "load_1m", "network_tx_mb_per_s", "network_rx_mb_per_s")
ALL_FIELDS = ("sm_util_percent", "power_w", "nvlink_rx_gb_per_s", "temperature_c", "pcie_rx_gb_per_s")


@dataclass(slots=True)
class TelemetryHistory:
    """Series of every GPU and of the host, and the newest sample. Times count from the first sample."""

    gpus: dict[int, dict[str, Series]] = field(default_factory=dict)
    all_gpus: dict[str, Series] = field(default_factory=dict)  # the values of every GPU together, and their sum
    host: dict[str, Series] = field(default_factory=dict)
    last: "Sample | None" = None
    step_ns: int = 0  # time between the last two consecutive samples
    first_mono_ns: int = 0
    processes: "list[Process] | None" = None  # as last read; None: never recorded

    def add(self, sample: "Sample") -> None:
        """Append one sample; the charts get a gap if several samples are missing before it."""
        if self.last is None:
            self.first_mono_ns = sample.mono_ns
        else:
            step = sample.mono_ns - self.last.mono_ns
            if step <= 0:  # another recorder, a reboot, or a replay that went back: start again
                self.gpus.clear()
                self.all_gpus.clear()
                self.host.clear()
                self.step_ns, self.first_mono_ns, self.processes = 0, sample.mono_ns, None
            elif self.step_ns and step > 3 * self.step_ns:
                for _ in range(min(step // self.step_ns - 1, HISTORY_SAMPLES)):
                    self._append({}, None, None)
            else:
                self.step_ns = step
        self.last = sample
        if sample.processes is not None:
            self.processes = sample.processes
        self._append({gpu.index: gpu for gpu in sample.gpus}, sample.host, self.newest_s)

    @property
    def newest_s(self) -> float:
        """The time of the newest sample, in seconds after the first one."""
        return (self.last.mono_ns - self.first_mono_ns) / 1e9 if self.last else 0.0

    def at_s(self, wall_s: float) -> float:
        """A time of the wall clock, in seconds after the first sample. It may be negative.

        The newest sample has both clocks, so a wall clock that was set shifts only the times before that.
        """
        return self.newest_s + (wall_s - self.last.t_ns / 1e9) if self.last else 0.0

    def _append(self, sampled: "dict[int, GpuSample]", host: "HostSample | None", at_s: float | None) -> None:
        for index in sampled.keys() | self.gpus.keys():
            series = self.gpus.setdefault(
                index, {name: Series() for name in (*GPU_FIELDS, "memory_percent", "memory_gib")}
            )
            gpu = sampled.get(index)
            for name in GPU_FIELDS:
                series[name].add(getattr(gpu, name) if gpu else None, at_s)
            series["memory_percent"].add(_percent(gpu.memory_used_bytes, gpu.memory_total_bytes) if gpu else None)
            used = gpu.memory_used_bytes if gpu else None
            series["memory_gib"].add(None if used is None else used / 2**30, at_s)
        if at_s is not None and sampled:
            self._append_all(list(sampled.values()), at_s)
        if host is not None or self.host:
            if not self.host:
                self.host = {name: Series() for name in (*HOST_FIELDS, "memory_gib")}
            for name in HOST_FIELDS:
                self.host[name].add(getattr(host, name) if host else None, at_s)
            used = host.memory_used_bytes if host else None
            # The unit of the text beside the chart.
            self.host["memory_gib"].add(None if used is None else used / 2**30, at_s)

    def _append_all(self, gpus: "list[GpuSample]", at_s: float) -> None:
        for name in ALL_FIELDS:
            series = self.all_gpus.setdefault(name, Series(1))
            for gpu in gpus:
                series.add(getattr(gpu, name), at_s)
        memory = self.all_gpus.setdefault("memory_gib", Series(1))
        for gpu in gpus:
            memory.add(None if gpu.memory_used_bytes is None else gpu.memory_used_bytes / 2**30, at_s)
        total = self.all_gpus.setdefault("total_power_w", Series(1))
        total.add(sum_of([gpu.power_w for gpu in gpus]), at_s)

    def extend(self, samples: "Iterable[Sample]") -> None:
        for sample in samples:
            self.add(sample)

    @property
    def notes(self) -> "list[Note]":
        return self.last.notes if self.last else []


def sum_of(values: "list[float | None]") -> float | None:
    """The sum; None if a value is missing, because a partial sum would look like a whole one."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _percent(used: int | None, total: int | None) -> float | None:
    return None if used is None or not total else 100.0 * used / total
