"""The host through psutil: CPUs, memory, network, and the disk of the artifacts. No call blocks."""

import os
import time
from pathlib import Path
from typing import Any

import psutil

from llmval_tui.telemetry.sample import HostSample, Note, Reading
from llmval_tui.telemetry.sampling import CounterRate

_NETWORK = Path("/sys/class/net")


class HostSource:
    """The host's own telemetry; see `Source`.

    Args:
        folder: the free space of its file system is reported; None: no free space.
    """

    name = "host"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._cpu_started = False
        self._rates: dict[str, tuple[CounterRate, CounterRate]] = {}

    def open(self) -> None:
        """Does nothing. The first `read` has no CPU load and no rates, because there is no interval before it."""

    def read(self) -> Reading:
        """Read the host; rates and CPU load cover the time since the previous call."""
        values: dict[str, Any] = {}
        notes: list[Note] = []
        now_ns = time.monotonic_ns()
        for label, part in (
            ("processor load", self._cpu),
            ("memory", self._memory),
            ("network traffic", lambda: self._network(now_ns)),
            ("free disk space", self._disk),
        ):
            try:
                values |= part()
            except (OSError, psutil.Error) as error:
                notes.append(Note("host", "read_failed", f"The host's {label} could not be read ({error})."))
        return Reading(host=HostSample(**values), notes=notes)

    def inventory(self) -> dict[str, Any]:
        """CPU counts (logical and physical) and memory in bytes."""
        return {
            "cpu_count": psutil.cpu_count(),
            "cpu_count_physical": psutil.cpu_count(logical=False),
            "memory_total_bytes": psutil.virtual_memory().total,
        }

    def close(self) -> None:
        """Does nothing."""

    def _cpu(self) -> dict[str, Any]:
        percent = psutil.cpu_percent(interval=None)
        # psutil's first answer in a process is always 0.0; it is not a measurement.
        started, self._cpu_started = self._cpu_started, True
        return {
            "cpu_percent": percent if started else None,
            "cpu_count": psutil.cpu_count(),
            "load_1m": os.getloadavg()[0],
        }

    def _memory(self) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        # Used: memory that a new process cannot get. psutil's `used` would mislead: the page cache can be freed.
        return {"memory_used_bytes": memory.total - memory.available, "memory_total_bytes": memory.total}

    def _network(self, now_ns: int) -> dict[str, Any]:
        sent = received = None
        counters = psutil.net_io_counters(pernic=True)
        for name in _interfaces(list(counters)):
            tx, rx = self._rates.setdefault(name, (CounterRate(), CounterRate()))
            out = tx.update(counters[name].bytes_sent, now_ns)
            into = rx.update(counters[name].bytes_recv, now_ns)
            sent = sent if out is None else (sent or 0.0) + out / 1e6
            received = received if into is None else (received or 0.0) + into / 1e6
        return {"network_tx_mb_per_s": sent, "network_rx_mb_per_s": received}

    def _disk(self) -> dict[str, Any]:
        if self._folder is None:
            return {}
        return {"disk_free_bytes": psutil.disk_usage(str(self._folder)).free}


def _interfaces(names: list[str]) -> list[str]:
    """The hardware interfaces, because bridges and bonds count the same bytes again; without any (in a container), all
    interfaces except the loopback."""
    physical = [name for name in names if (_NETWORK / name / "device").exists()]
    return physical or [name for name in names if name != "lo"]
