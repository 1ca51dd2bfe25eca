"""One telemetry sample: the format of `telemetry.jsonl` and of everything the dashboard draws.

An unavailable value is None, never 0; a note gives the reason.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import orjson

from llmval_tui.foundation.decode import decode


@dataclass(frozen=True, slots=True)
class Note:
    """The reason why something is missing, with one code and message for each cause."""

    source: str  # "nvml", "host", "engine", "replay"
    code: str  # "no_driver", "no_gpu", "version_mismatch", "no_permission", "mig", "gpu_lost", "not_supported", …
    message: str  # one sentence for the operator
    gpu: int | None = None  # None: the whole source


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one time. Rates cover the time since the previous sample."""

    index: int
    uuid: str | None = None
    name: str | None = None
    sm_util_percent: float | None = None  # GPM SM utilisation; without GPM, NVML's GPU utilisation
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
    energy_mono_ns: int | None = None  # when the counter was read; may be older than the sample
    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: list[str] | None = None  # [] = none; None = not known
    nvlink_tx_gb_per_s: float | None = None  # all links together, 1e9 bytes a second
    nvlink_rx_gb_per_s: float | None = None
    pcie_tx_gb_per_s: float | None = None  # GPM only: the plain NVML call blocks
    pcie_rx_gb_per_s: float | None = None
    processes: list[int] | None = None  # pids that compute on this GPU
    foreign_processes: list[int] | None = None  # those without the run's mark; None: no mark was given
    xid: int | None = None  # the newest XID seen since the recorder started


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one time."""

    cpu_percent: float | None = None  # mean of all cores, 0–100
    cpu_count: int | None = None
    load_1m: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    network_tx_mb_per_s: float | None = None
    network_rx_mb_per_s: float | None = None
    disk_free_bytes: int | None = None  # free space on the workspace's file system


@dataclass(frozen=True, slots=True)
class Process:
    """A process that computes on a GPU: its memory there from NVML, the rest from /proc, which may hide it."""

    gpu: int
    pid: int
    gpu_memory_bytes: int | None = None
    foreign: bool | None = None  # whether it belongs to none of the recorded runs; None: not checked
    run_id: str | None = None  # the run of llmval that it belongs to, as far as its environment is readable
    rank: int | None = None  # torchrun's RANK
    user: str | None = None
    state: str | None = None  # "running", "sleeping", "disk sleep", "zombie", …
    cpu_percent: float | None = None  # share of one core, since the previous reading
    host_memory_bytes: int | None = None  # resident
    threads: int | None = None
    age_s: float | None = None  # since it started
    command: str | None = None


@dataclass(frozen=True, slots=True)
class TimeTotal:
    """The sum and the count of a histogram of times, since the server started."""

    seconds: float
    count: float


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One process of a server on this host."""

    pid: int
    name: str
    cpu_s: float  # user and system time since it started
    memory_bytes: int  # resident


@dataclass(frozen=True, slots=True)
class EngineSample:
    """What an inference server publishes of its engine, and its processes if it runs on this host.

    Counts of events, tokens and times are totals since the server started.
    """

    url: str
    mono_ns: int  # when the server was asked; may be older than the sample
    engine: str | None = None  # "vLLM", "SGLang", "TensorRT-LLM", "Dynamo"; None: it publishes no metrics
    running: float | None = None  # requests in the batch
    waiting: float | None = None  # requests that the scheduler has not started
    kv_cache_used_percent: float | None = None  # share used in the fullest engine, 0–100
    preemptions: float | None = None  # requests that lost their place in the batch
    prefix_cache_queries: float | None = None  # prompt tokens
    prefix_cache_hits: float | None = None  # prompt tokens that were in the cache
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    # The server's own clock: "queue", "prefill", "decode", "ttft", "e2e" of each request, "inter_token" of each token.
    times: dict[str, TimeTotal | None] = field(default_factory=dict)
    processes: list[ServerProcess] | None = None  # the busiest; None: on another host, or not visible
    cpu_s: float | None = None  # CPU time of all running processes of the server


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of all sources."""

    t_ns: int  # wall clock
    mono_ns: int  # monotonic clock
    host: HostSample | None = None
    gpus: list[GpuSample] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    processes: list[Process] | None = None  # every few seconds; None: not read with this sample
    engine: EngineSample | None = None  # only in a run against a server
    v: int = 1

    def to_line(self) -> bytes:
        """The sample as one JSON line; NaN and infinities become null."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, line: bytes | str) -> "Sample | None":
        """Decode one line; None if it is incomplete or not a sample. Unknown keys are ignored."""
        try:
            sample = decode(cls, orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError, ValueError, AttributeError):
            return None
        return sample if isinstance(sample.t_ns, int) and isinstance(sample.mono_ns, int) else None


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one source; any part may be missing."""

    host: HostSample | None = None
    gpus: list[GpuSample] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    processes: list[Process] | None = None
    engine: EngineSample | None = None


@runtime_checkable
class CanBeAskedAgain(Protocol):
    """A source that is read by a thread of its own, and can be asked once more when the recorder ends."""

    def ask_again(self) -> bool:
        """Ask now, for at most two seconds; returns whether there is something new to read."""


class Source(Protocol):
    """A source of samples. No method raises for a hardware or driver fault; `read` reports it in a `Note`."""

    name: str

    def open(self) -> None:
        """Prepare the source. If it cannot be used, every `read` says so in its notes."""

    def read(self) -> Reading:
        """Read the present values."""

    def inventory(self) -> dict[str, Any]:
        """Constant facts: driver and CUDA version, each GPU's name, memory, power limit, links."""

    def close(self) -> None:
        """Release the driver."""
