"""What else used the host's CPUs during a measurement: other processes, and the hypervisor. Reads /proc; no torch."""

import os
import time
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_STOLEN = 7  # column of /proc/stat after the name: user nice system idle iowait irq softirq steal guest guest_nice
_IDLE = (3, 4)


class HostNoise:
    """From its construction to `read`. Only the own process counts as the measurement, so use it on one rank a host."""

    def __init__(self) -> None:
        self._began, self._own, self._host = time.monotonic(), _own_s(), _host_s()

    def read(self) -> dict[str, float | None]:
        """`other_cpu_percent` and `stolen_percent`, of all CPUs of the host; None if /proc does not say."""
        seconds, host = time.monotonic() - self._began, _host_s()
        if self._host is None or host is None or seconds <= 0:
            return {"other_cpu_percent": None, "stolen_percent": None}
        whole = seconds * (os.cpu_count() or 1)
        busy, stolen = (after - before for before, after in zip(self._host, host, strict=True))
        own = _own_s() - self._own
        return {
            "other_cpu_percent": min(max(100 * (busy - own) / whole, 0.0), 100.0),
            "stolen_percent": min(max(100 * stolen / whole, 0.0), 100.0),
        }


def _own_s() -> float:
    used = os.times()
    return used.user + used.system


def _host_s() -> tuple[float, float] | None:
    """(seconds in which a CPU worked, without stolen ones; stolen seconds), over all CPUs since the boot."""
    try:
        columns = [int(text) * _TICK_S for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    if len(columns) <= _STOLEN:
        return None
    return sum(columns) - sum(columns[index] for index in (*_IDLE, _STOLEN)), columns[_STOLEN]
