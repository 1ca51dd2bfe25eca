"""One sample out of several sources, and when the next one is due."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample, Source


def take(sources: Sequence[Source]) -> Sample:
    """Read every source once. The sample's times are those before the first reading."""
    t_ns, mono_ns = time.time_ns(), time.monotonic_ns()
    host: HostSample | None = None
    gpus: list[GpuSample] = []
    notes: list[Note] = []
    for source in sources:
        reading = source.read()
        host = reading.host or host
        gpus += reading.gpus
        notes += reading.notes
    return Sample(t_ns=t_ns, mono_ns=mono_ns, host=host, gpus=gpus, notes=notes)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Deadlines on a fixed grid, so that the time a reading takes never adds up to a drift."""

    start_ns: int
    interval_ns: int

    def next_after(self, now_ns: int) -> int:
        """The first deadline after `now_ns`; those missed meanwhile are left out, not made up for."""
        return self.start_ns + ((now_ns - self.start_ns) // self.interval_ns + 1) * self.interval_ns
