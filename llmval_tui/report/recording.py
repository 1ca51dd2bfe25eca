"""Reads the telemetry of a run as a stream into series of bounded size, so that 8 hours fit as well as a minute."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmval_tui.foundation.text import GIB, clean_line
from llmval_tui.report.downsample import DownsampledSeries, Summary
from llmval_tui.report.timeline import Timeline
from llmval_tui.runs.run_recorder import TELEMETRY_INTERVAL_S
from llmval_tui.telemetry.engine.window import EngineWindow, engine_window
from llmval_tui.telemetry.recording import SampleTail
from llmval_tui.telemetry.sample import GpuSample, HostSample, Sample

GAP_S = max(3 * TELEMETRY_INTERVAL_S, 5.0)  # the telemetry gates use the same bound


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a sample: its field, title, unit, and the divisor that converts it to the unit."""

    field: str
    title: str
    unit: str
    divisor: float = 1.0


GPU_READINGS = (
    Reading("sm_util_percent", "GPU utilisation", "%"),
    Reading("memory_used_bytes", "GPU memory used", "GiB", GIB),
    Reading("power_w", "GPU power", "W"),
    Reading("nvlink_tx_gb_per_s", "NVLink out", "GB/s"),
    Reading("nvlink_rx_gb_per_s", "NVLink in", "GB/s"),
    Reading("temperature_c", "GPU temperature", "°C"),
)
HOST_READINGS = (
    Reading("cpu_percent", "Host CPU, all cores", "%"),
    Reading("memory_used_bytes", "Host memory used", "GiB", GIB),
)
# What the server of the run publishes of its engine.
ENGINE_READINGS = (
    Reading("running", "Requests in the batch", "requests"),
    Reading("waiting", "Requests waiting", "requests"),
    Reading("kv_cache_used_percent", "KV cache used", "%"),
)


@dataclass(slots=True)
class Track:
    """One reading over the run, and its summary within the measured windows."""

    reading: Reading
    series: DownsampledSeries = field(default_factory=lambda: DownsampledSeries(gap_s=GAP_S))
    measured: Summary = field(default_factory=Summary)

    def add(self, time_s: float, raw: float | None, measured: bool) -> None:
        value = None if raw is None else raw / self.reading.divisor
        self.series.add(time_s, value)
        if measured:
            self.measured.add(value)


@dataclass(slots=True)
class GpuTracks:
    """The readings of one GPU."""

    index: int
    name: str = ""
    tracks: dict[str, Track] = field(default_factory=dict)
    memory_total_gib: float | None = None
    power_limit_w: float | None = None
    util_source: str | None = None
    throttled: dict[str, int] = field(default_factory=dict)  # reason → number of samples


@dataclass(slots=True)
class Recording:
    """The telemetry of a run; times in seconds on the run's axis."""

    samples: int = 0
    start_s: float = 0.0
    end_s: float = 0.0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    gpus: dict[int, GpuTracks] = field(default_factory=dict)
    host: dict[str, Track] = field(default_factory=dict)
    host_memory_gib: float | None = None
    engine: dict[str, Track] = field(default_factory=dict)  # empty if the run used no server
    engine_window: EngineWindow | None = None
    notes: dict[str, int] = field(default_factory=dict)  # message → number of samples

    @property
    def bucket_s(self) -> float:
        """Seconds per point of the plots; 0 if every sample is drawn."""
        return max((track.series.width_s for track in self.tracks()), default=0.0)

    def tracks(self) -> list[Track]:
        """Every reading of the GPUs, the host and the server."""
        devices = [*(gpu.tracks for gpu in self.gpus.values()), self.host, self.engine]
        return [track for tracks in devices for track in tracks.values()]


def first_sample(path: Path) -> tuple[int, int] | None:
    """Monotonic and wall time of the first sample, in ns; None without samples."""
    for sample in _stream(path):
        return sample.mono_ns, sample.t_ns
    return None


def read_recording(path: Path, line: Timeline) -> Recording:
    """Read the telemetry at `path`; a missing file gives an empty recording."""
    recording = Recording()
    for sample in _stream(path):
        time_s = line.seconds(sample.mono_ns)
        if recording.samples and time_s <= recording.end_s:
            continue  # from a second recorder, written late; a plot needs rising times
        if recording.samples and time_s - recording.end_s > GAP_S:
            recording.gaps.append((recording.end_s, time_s))
        if not recording.samples:
            recording.start_s = time_s
        recording.samples += 1
        recording.end_s = time_s
        measured = line.is_measured(time_s)
        _add_host(recording, sample.host, time_s, measured)
        present = {gpu.index: gpu for gpu in sample.gpus}
        for index in present.keys() | recording.gpus.keys():
            _add_gpu(recording, index, present.get(index), time_s, measured)
        _add_engine(recording, sample, time_s, measured)
        for note in sample.notes:
            message = clean_line(note.message)
            recording.notes[message] = recording.notes.get(message, 0) + 1
    if recording.engine:
        recording.engine_window = engine_window(_stream(path), *line.measured_ns)
    line.end_s = max(line.end_s, recording.end_s)
    return recording


def _stream(path: Path) -> Iterator[Sample]:
    tail = SampleTail(path)
    while batch := tail.poll():
        yield from batch


def _add_host(recording: Recording, host: HostSample | None, time_s: float, measured: bool) -> None:
    for reading in HOST_READINGS:
        track = recording.host.setdefault(reading.field, Track(reading))
        track.add(time_s, getattr(host, reading.field, None), measured)
    if host is not None and host.memory_total_bytes:
        recording.host_memory_gib = host.memory_total_bytes / GIB


def _add_engine(recording: Recording, sample: Sample, time_s: float, measured: bool) -> None:
    if not recording.engine and (sample.engine is None or sample.engine.engine is None):
        return
    for reading in ENGINE_READINGS:
        track = recording.engine.setdefault(reading.field, Track(reading))
        track.add(time_s, getattr(sample.engine, reading.field, None), measured)


def _add_gpu(recording: Recording, index: int, gpu: GpuSample | None, time_s: float, measured: bool) -> None:
    entry = recording.gpus.setdefault(index, GpuTracks(index))
    for reading in GPU_READINGS:
        track = entry.tracks.setdefault(reading.field, Track(reading))
        track.add(time_s, getattr(gpu, reading.field, None), measured)
    if gpu is None:
        return
    entry.name = clean_line(gpu.name or entry.name)
    entry.util_source = gpu.sm_util_source or entry.util_source
    if gpu.memory_total_bytes:
        entry.memory_total_gib = gpu.memory_total_bytes / GIB
    entry.power_limit_w = gpu.power_limit_w or entry.power_limit_w
    for reason in gpu.throttle_reasons or []:
        if reason != "gpu_idle":
            entry.throttled[reason] = entry.throttled.get(reason, 0) + 1
