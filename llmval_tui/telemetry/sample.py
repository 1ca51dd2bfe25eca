"""One telemetry sample: the format of `telemetry.jsonl` and of everything the dashboard draws.

A value that cannot be had is None, never 0; a note says why.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from llmval_tui.foundation.decode import decode


@dataclass(frozen=True, slots=True)
class Note:
    """Why something is not there: its own message for its own cause."""

    source: str  # "nvml", "host", "replay"
    code: str  # "no_driver", "no_gpu", "version_mismatch", "no_permission", "mig", "gpu_lost", "not_supported", …
    message: str  # one sentence for the operator
    gpu: int | None = None  # the GPU it is about; None: the whole source


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one instant. Rates are over the time since the previous sample."""

    index: int
    uuid: str | None = None
    name: str | None = None
    sm_util_percent: float | None = None  # GPM SM utilisation; NVML's GPU utilisation where GPM is missing
    sm_util_source: str | None = None  # "gpm": share of SMs busy; "nvml": share of time in which any kernel ran
    sm_occupancy_percent: float | None = None  # GPM only
    tensor_util_percent: float | None = None  # GPM only
    dram_util_percent: float | None = None  # GPM DRAM bandwidth utilisation
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None  # NVML's 1 s average
    power_instant_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None  # counter since the driver was loaded; steps every 100 ms
    energy_mono_ns: int | None = None  # when the counter was read; older than the sample where it is read more rarely
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: list[str] | None = None  # [] = none; None = not known
    nvlink_tx_gb_per_s: float | None = None  # all links together, 1e9 bytes a second
    nvlink_rx_gb_per_s: float | None = None
    pcie_tx_gb_per_s: float | None = None  # GPM only: the plain NVML call blocks
    pcie_rx_gb_per_s: float | None = None
    processes: list[int] | None = None  # pids that compute on this GPU
    foreign_processes: list[int] | None = None  # those that do not carry the run's mark; None: no mark was given
    xid: int | None = None  # the newest XID seen since the recorder started


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one instant."""

    cpu_percent: float | None = None  # of all cores together, 0–100
    cpu_count: int | None = None
    load_1m: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    network_tx_mb_per_s: float | None = None
    network_rx_mb_per_s: float | None = None
    disk_free_bytes: int | None = None  # of the file system that holds the workspace


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything that was seen in one pass over the sources."""

    t_ns: int  # wall clock
    mono_ns: int  # monotonic clock
    host: HostSample | None = None
    gpus: list[GpuSample] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    v: int = 1

    def to_line(self) -> bytes:
        """The sample as one JSON line; NaN and infinities become null."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, line: bytes | str) -> "Sample | None":
        """Read one line back; None where it is torn or not a sample. Unknown keys are ignored."""
        try:
            sample = decode(cls, orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError, ValueError, AttributeError):
            return None
        return sample if isinstance(sample.t_ns, int) and isinstance(sample.mono_ns, int) else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source gives in one pass: any part may be missing."""

    host: HostSample | None = None
    gpus: list[GpuSample] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


class Source(Protocol):
    """Something that can be sampled. No method raises for a fault of the hardware or the driver: it gives a `Note`."""

    name: str

    def open(self) -> None:
        """Get ready; a source that cannot be used says so in the notes of every `read`."""

    def read(self) -> Reading:
        """One reading, now."""

    def inventory(self) -> dict[str, Any]:
        """What does not change: driver and CUDA version, each GPU's name, memory, power limit, links."""

    def close(self) -> None:
        """Let go of the driver."""
