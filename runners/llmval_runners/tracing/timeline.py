"""The content of a trace in one form for all tools."""

from collections.abc import Iterable
from dataclasses import dataclass, field

KERNELS, OPERATORS = "kernels", "operators"


@dataclass(slots=True)
class CallTotal:
    """Number and total time of the calls with one name."""

    calls: int = 0
    ns: float = 0.0

    def add(self, ns: float, calls: int = 1) -> None:
        self.calls += calls
        self.ns += ns


@dataclass(frozen=True, slots=True)
class Device:
    """The kernels of one GPU. `busy_ns` counts overlapping kernels once, `kernel_ns` each."""

    name: str
    kernels: int
    kernel_ns: float
    busy_ns: float
    span_ns: float  # from the start of the first kernel to the end of the last


@dataclass(frozen=True, slots=True)
class Timeline:
    """Kernels of all traced GPUs, or operators with their self time for a run on a CPU."""

    unit: str
    totals: dict[str, CallTotal]  # name of the call → total
    devices: list[Device] = field(default_factory=list)
    ranges: dict[str, CallTotal] = field(default_factory=dict)


def device_time(name: str, intervals: Iterable[tuple[float, float]]) -> Device:
    """The figures of one GPU from the (start, end) of its kernels in ns, sorted by start."""
    first: float | None = None
    last_end, busy, total, count = 0.0, 0.0, 0.0, 0
    for start, end in intervals:
        if first is None:
            first = last_end = start
        busy += max(0.0, end - max(start, last_end))
        last_end = max(last_end, end)
        total += end - start
        count += 1
    return Device(name, count, total, busy, last_end - (first or 0.0) if count else 0.0)
