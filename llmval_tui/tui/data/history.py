"""Series of values for the charts, filled as samples and events arrive: the newest ones, and all of them in buckets."""

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from llmval_tui.terminal.axis import usual_step
from llmval_tui.terminal.buckets import Buckets

if TYPE_CHECKING:
    from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Process, Sample

STEP_SAMPLES = 15  # newest values from which the time between two values is known
RECENT_SAMPLES = 240  # newest values with their times, for the window of the last two minutes


class Recent:
    """The newest values of a series with their times: in arrays, because objects that live for minutes among those that
    live for a moment would keep the memory of both."""

    __slots__ = ("_times", "_values")

    def __init__(self) -> None:
        self._times = array("d")  # seconds since the start
        self._values = array("d")

    def add(self, at_s: float, value: float) -> None:
        self._times.append(at_s)
        self._values.append(value)
        if len(self._times) > 2 * RECENT_SAMPLES:
            del self._times[:RECENT_SAMPLES], self._values[:RECENT_SAMPLES]

    def copy(self) -> "Recent":
        """These values, for another thread."""
        found = Recent()
        found._times, found._values = self._times[-RECENT_SAMPLES:], self._values[-RECENT_SAMPLES:]
        return found

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self._times[-RECENT_SAMPLES:], self._values[-RECENT_SAMPLES:], strict=True)

    def reaches(self, start_s: float) -> bool:
        """Whether the values go back to this time."""
        return bool(self._times) and self._times[-RECENT_SAMPLES:][0] <= start_s + 2

    @property
    def step_s(self) -> float:
        """The usual time between two of these values; 0 if there are fewer than two."""
        times = self._times[-STEP_SAMPLES:]
        return usual_step([later - earlier for earlier, later in pairwise(times)])

    def buckets(self) -> Buckets:
        """Buckets of half a second with only these values."""
        values = list(self)
        found = Buckets(most=1 << 20, start_s=math.floor(values[0][0]) if values else 0.0)
        for at_s, value in values:
            found.add(at_s, value)
        return found


class Series:
    """One quantity: its newest value, None for a missing one, and all of them in buckets."""

    __slots__ = ("buckets", "last", "peak", "recent")

    def __init__(self) -> None:
        self.last: float | None = None
        self.peak: float | None = None  # highest value ever added
        self.recent = Recent()
        self.buckets = Buckets()

    def add(self, value: float | None, at_s: float | None = None) -> None:
        """Append a value; `at_s` seconds after the start of the series, if its time is known."""
        self.last = value
        if value is None or not math.isfinite(value):
            return
        if self.peak is None or value > self.peak:
            self.peak = value
        if at_s is not None:
            self.buckets.add(at_s, value)
            self.recent.add(at_s, value)

    def near(self, start_s: float) -> Buckets:
        """Buckets with the time from `start_s` on as exactly as it is known: from single samples if they reach back."""
        return self.recent.buckets() if self.buckets.width_s > 0.5 and self.recent.reaches(start_s) else self.buckets


GPU_FIELDS = (
    "sm_util_percent", "power_w", "temperature_c", "nvlink_tx_gb_per_s", "nvlink_rx_gb_per_s", "pcie_rx_gb_per_s",
    "sm_clock_mhz",
)  # fmt: skip
HOST_FIELDS = ("cpu_percent", "load_1m", "network_tx_mb_per_s", "network_rx_mb_per_s")
ALL_FIELDS = ("sm_util_percent", "power_w", "nvlink_rx_gb_per_s", "temperature_c", "pcie_rx_gb_per_s", "sm_clock_mhz")


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
        """Append one sample."""
        if self.last is None:
            self.first_mono_ns = sample.mono_ns
        else:
            step = sample.mono_ns - self.last.mono_ns
            if step <= 0:  # another recorder, a reboot, or a replay that went back: start again
                self.gpus.clear()
                self.all_gpus.clear()
                self.host.clear()
                self.step_ns, self.first_mono_ns, self.processes = 0, sample.mono_ns, None
            elif not self.step_ns or step <= 3 * self.step_ns:  # a longer one is a gap
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

    def _append(self, sampled: "dict[int, GpuSample]", host: "HostSample | None", at_s: float) -> None:
        for index in sampled.keys() | self.gpus.keys():
            series = self.gpus.setdefault(index, {name: Series() for name in (*GPU_FIELDS, "memory_gib")})
            gpu = sampled.get(index)
            for name in GPU_FIELDS:
                series[name].add(getattr(gpu, name) if gpu else None, at_s)
            used = gpu.memory_used_bytes if gpu else None
            series["memory_gib"].add(None if used is None else used / 2**30, at_s)
        if sampled:
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
            series = self.all_gpus.setdefault(name, Series())
            for gpu in gpus:
                series.add(getattr(gpu, name), at_s)
        memory = self.all_gpus.setdefault("memory_gib", Series())
        for gpu in gpus:
            memory.add(None if gpu.memory_used_bytes is None else gpu.memory_used_bytes / 2**30, at_s)
        total = self.all_gpus.setdefault("total_power_w", Series())
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
