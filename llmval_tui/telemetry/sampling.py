"""One sample from several sources, the time of the next one, and rates from counters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.telemetry.sample import EngineSample, GpuSample, HostSample, Note, Process, Sample, Source


def take_sample(sources: Sequence[Source]) -> Sample:
    """Read every source once. The sample gets the time before the first reading."""
    t_ns, mono_ns = time.time_ns(), time.monotonic_ns()
    host: HostSample | None = None
    engine: EngineSample | None = None
    gpus: list[GpuSample] = []
    notes: list[Note] = []
    processes: list[Process] | None = None
    for source in sources:
        reading = source.read()
        host = reading.host or host
        engine = reading.engine or engine
        gpus += reading.gpus
        notes += reading.notes
        processes = processes if reading.processes is None else [*(processes or []), *reading.processes]
    return Sample(t_ns=t_ns, mono_ns=mono_ns, host=host, gpus=gpus, notes=notes, processes=processes, engine=engine)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Deadlines on a fixed grid, so that the duration of readings does not add up to a drift."""

    start_ns: int
    interval_ns: int

    def next_after(self, now_ns: int) -> int:
        """The first deadline after `now_ns`; missed deadlines are skipped."""
        return self.start_ns + ((now_ns - self.start_ns) // self.interval_ns + 1) * self.interval_ns


class CounterRate:
    """The rate of a monotonic counter between two readings.

    If the counter fell, it was reset or has wrapped and its growth is unknown: the rate is None once and right again
    from the next reading on. Two readings at the same time have no rate either.
    """

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None

    def update(self, value: float, now_ns: int) -> float | None:
        """Units per second since the previous call; None at the first call, after a reset, or if no time has passed."""
        last, self._last = self._last, (value, now_ns)
        if last is None:
            return None
        grown, elapsed_ns = value - last[0], now_ns - last[1]
        if elapsed_ns <= 0:
            self._last = last  # the earlier reading stays the base of the next rate
            return None
        return grown / elapsed_ns * 1e9 if grown >= 0 else None
