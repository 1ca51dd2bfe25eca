"""What is read out of a trace, whichever tool made it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

KERNELS, OPERATORS = "kernels", "operators"


@dataclass(slots=True)
class Total:
    """Calls of one name, and their time together."""

    calls: int = 0
    ns: float = 0.0

    def add(self, ns: float, calls: int = 1) -> None:
        self.calls += calls
        self.ns += ns


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU's kernels. `busy_ns` counts a moment once, however many kernels run in it."""

    name: str
    kernels: int
    kernel_ns: float
    busy_ns: float
    span_ns: float  # from the first kernel's start to the last one's end


@dataclass(frozen=True, slots=True)
class Timeline:
    """Kernels of all traced GPUs, or, of a run on a CPU, operators with the time that is their own."""

    unit: str
    work: dict[str, Total]
    devices: list[Device] = field(default_factory=list)
    ranges: dict[str, Total] = field(default_factory=dict)


def device_of(name: str, intervals: Iterable[tuple[float, float]]) -> Device:
    """A GPU's figures from its kernels' (start, end) in ns, in the order of their starts."""
    first: float | None = None
    until, busy, total, count = 0.0, 0.0, 0.0, 0
    for start, end in intervals:
        if first is None:
            first = until = start
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
        total += end - start
        count += 1
    return Device(name, count, total, busy, until - (first or 0.0) if count else 0.0)
