"""Bounded series of values for the charts, filled as samples and events arrive."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample

HISTORY_SAMPLES = 720  # per series: more than two for each cell of a 300-column terminal


class Series:
    """The newest values of one quantity; None for a missing value."""

    __slots__ = ("count", "peak", "values")

    def __init__(self, longest: int = HISTORY_SAMPLES) -> None:
        self.values: deque[float | None] = deque(maxlen=longest)
        self.count = 0  # values ever added
        self.peak: float | None = None  # highest value ever added

    def add(self, value: float | None) -> None:
        self.values.append(value)
        self.count += 1
        if value is not None and (self.peak is None or value > self.peak):
            self.peak = value

    @property
    def last(self) -> float | None:
        return self.values[-1] if self.values else None

    @property
    def first(self) -> int:
        """The number, since the start, of the oldest value in `values`."""
        return self.count - len(self.values)


GPU_FIELDS = ("sm_util_percent", "power_w", "temperature_c", "nvlink_tx_gb_per_s", "nvlink_rx_gb_per_s")
HOST_FIELDS = ("cpu_percent", "load_1m", "network_tx_mb_per_s", "network_rx_mb_per_s")


@dataclass(slots=True)
class TelemetryHistory:
    """Series of every GPU and of the host, and the newest sample."""

    gpus: dict[int, dict[str, Series]] = field(default_factory=dict)
    host: dict[str, Series] = field(default_factory=dict)
    last: "Sample | None" = None
    step_ns: int = 0  # time between the last two consecutive samples

    def add(self, sample: "Sample") -> None:
        """Append one sample; the charts get a gap if several samples are missing before it."""
        if self.last is not None:
            step = sample.mono_ns - self.last.mono_ns
            if step <= 0:  # another recorder, a reboot, or a replay that went back: start again
                self.gpus.clear()
                self.host.clear()
                self.step_ns = 0
            elif self.step_ns and step > 3 * self.step_ns:
                for _ in range(min(step // self.step_ns - 1, HISTORY_SAMPLES)):
                    self._append({}, None)
            else:
                self.step_ns = step
        self.last = sample
        self._append({gpu.index: gpu for gpu in sample.gpus}, sample.host)

    def _append(self, sampled: "dict[int, GpuSample]", host: "HostSample | None") -> None:
        for index in sampled.keys() | self.gpus.keys():
            series = self.gpus.setdefault(index, {name: Series() for name in (*GPU_FIELDS, "memory_percent")})
            gpu = sampled.get(index)
            for name in GPU_FIELDS:
                series[name].add(getattr(gpu, name) if gpu else None)
            series["memory_percent"].add(_percent(gpu.memory_used_bytes, gpu.memory_total_bytes) if gpu else None)
        if host is not None or self.host:
            if not self.host:
                self.host = {name: Series() for name in (*HOST_FIELDS, "memory_gib")}
            for name in HOST_FIELDS:
                self.host[name].add(getattr(host, name) if host else None)
            used = host.memory_used_bytes if host else None
            self.host["memory_gib"].add(None if used is None else used / 2**30)  # the unit of the text beside the chart

    def extend(self, samples: "Iterable[Sample]") -> None:
        for sample in samples:
            self.add(sample)

    @property
    def notes(self) -> "list[Note]":
        return self.last.notes if self.last else []


def _percent(used: int | None, total: int | None) -> float | None:
    return None if used is None or not total else 100.0 * used / total
