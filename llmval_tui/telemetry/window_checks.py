"""Checks of a run's telemetry: gaps, throttling, XIDs, lost GPUs, and foreign processes on the GPUs."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from llmval_tui.telemetry.sample import GpuSample, Note, Sample

# These slow a GPU down for heat or power supply. A software power cap is the operator's own limit: only recorded.
FAULT_THROTTLING = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake"})
_NO_GPU_CODES = frozenset({"no_driver", "no_gpu"})
_MAX_UNKNOWN = 0.1  # share of a GPU's samples in which a reading may be missing; one may always be missing
_LOST_CODES = frozenset({"gpu_lost", "reset_required", "gpu_not_found"})
_SILENT_SAMPLES = 3  # at the end, without any value: the GPU no longer answers


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `outcome` is "pass", "fail", "invalid" or "inconclusive"."""

    name: str
    outcome: str
    measured: str
    bound: str
    reason: str = ""


def check_telemetry(
    samples: Sequence[Sample],
    interval_s: float,
    window: tuple[int, int] | None = None,
    own_pids: Collection[int] | None = None,
    *,
    gpus: Collection[int] | None = None,
) -> list[Finding]:
    """Check a run's telemetry.

    Args:
        samples: the run's recording.
        interval_s: the intended interval between samples.
        window: start and end of the measurement on the monotonic clock, ns; None: the whole recording. Gaps,
            throttling and foreign processes count only inside; an XID or a lost GPU always counts.
        own_pids: the run's own processes; None: use the recorder's result for the run's mark (`--mark`).
        gpus: indices of the run's GPUs; None: all recorded GPUs.
    """
    samples = sorted(samples, key=lambda sample: sample.mono_ns)
    findings = [_sample_gaps(samples, interval_s, window)]
    if not samples:
        return findings
    inside = _samples_in(samples, window)
    seen = {gpu.index for sample in samples for gpu in sample.gpus}
    used = seen if gpus is None else set(gpus)
    if not seen and not gpus:
        return [*findings, _no_gpus(samples)]
    findings.append(_lost_gpus(samples, used))
    findings.append(_xids(samples, used))
    findings.append(_throttling(inside, used))
    findings.append(_foreign_processes(inside, used, own_pids))
    return findings


def _samples_in(samples: Sequence[Sample], window: tuple[int, int] | None) -> list[Sample]:
    if window is None:
        return list(samples)
    start, end = window
    return [sample for sample in samples if start <= sample.mono_ns <= end]


def _sample_gaps(samples: Sequence[Sample], interval_s: float, window: tuple[int, int] | None) -> Finding:
    most_s = max(3 * interval_s, 5.0)
    bound = f"no gap over {most_s:g} s"
    name = "telemetry.samples"
    if not samples:
        return Finding(name, "inconclusive", "no samples", bound, "nothing was recorded")
    times = [sample.mono_ns for sample in samples]
    if window is not None:
        # Only the part of a gap inside the window counts, even if no sample lies inside.
        start, end = window
        times = [start, *(time for time in times if start <= time <= end), end]
        inside = len(times) - 2
        if inside == 0 and not _watched_around(samples, start, end, most_s):
            return Finding(
                name, "invalid", "no samples in the measured window", bound, "no telemetry covers the window"
            )
    else:
        inside = len(times)
    longest_s = max((later - earlier for earlier, later in pairwise(times)), default=0) / 1e9
    measured = f"{inside} sample{'' if inside == 1 else 's'}, longest gap {longest_s:.1f} s"
    if longest_s > most_s:
        return Finding(name, "invalid", measured, bound, "the state of the hardware during the gap is unknown")
    return Finding(name, "pass", measured, bound)


def _watched_around(samples: Sequence[Sample], start: int, end: int, most_s: float) -> bool:
    """Whether a window between two samples has one close enough on both sides."""
    before = max((sample.mono_ns for sample in samples if sample.mono_ns < start), default=None)
    after = min((sample.mono_ns for sample in samples if sample.mono_ns > end), default=None)
    if before is None or after is None:
        return False
    return (after - before) / 1e9 <= most_s


def _no_gpus(samples: Sequence[Sample]) -> Finding:
    notes = {note.code: note.message for sample in samples for note in sample.notes if note.source == "nvml"}
    host_only = not notes or bool(_NO_GPU_CODES & notes.keys())
    reason = "; ".join(notes.values()) or "GPUs were not recorded"
    if host_only:
        return Finding("telemetry.gpus", "pass", "host only", "all GPUs recorded", reason)
    return Finding("telemetry.gpus", "inconclusive", "not readable", "all GPUs recorded", reason)


def _lost_gpus(samples: Sequence[Sample], used: Collection[int]) -> Finding:
    """Whether every GPU of the run answered to the end.

    A GPU dies in several ways: its note says so, it is no longer listed (the driver dropped it, perhaps before a
    restart of the recorder), another GPU has taken its index, or it is listed and no reading of it has a value.
    """
    name, bound = "telemetry.gpu_lost", "no GPU lost"
    noted = [note for sample in samples for note in sample.notes if note.gpu in used]
    lost = {note.gpu: "lost" for note in noted if note.code in _LOST_CODES and note.gpu is not None}
    listed = [{gpu.index: gpu for gpu in sample.gpus} for sample in samples]
    silent, denied = set(), {note.gpu for note in noted if note.code == "no_permission"}
    for index in set(used) - lost.keys():
        seen = [gpus[index] for gpus in listed if index in gpus]
        first = next((place for place, gpus in enumerate(listed) if index in gpus), 0)
        if any(index not in gpus for gpus in listed[first:]):
            lost[index] = "not listed"
        elif len({gpu.uuid for gpu in seen if gpu.uuid is not None}) > 1:
            lost[index] = "replaced by another GPU"
        elif not any(map(_has_reading, seen[-_SILENT_SAMPLES:])):
            silent.add(index)
    lost |= dict.fromkeys(silent - denied, "without any reading")
    if lost:
        how = ", ".join(f"GPU {index} {what}" for index, what in sorted(lost.items()))
        return Finding(name, "fail", how, bound, _first_message(noted, _LOST_CODES))
    if silent:
        return Finding(name, "inconclusive", f"{_gpus(silent)} not readable", bound, "this user may not read it")
    return Finding(name, "pass", f"{len(used)} of {len(used)} GPUs present to the end", bound)


def _has_reading(gpu: GpuSample) -> bool:
    """Whether any reading of the GPU has a value; its identity and its last XID are none."""
    identity = ("index", "uuid", "name", "xid")
    return any(getattr(gpu, item.name) is not None for item in fields(gpu) if item.name not in identity)


def _first_message(notes: Sequence[Note], codes: Collection[str]) -> str:
    return next((note.message for note in notes if note.code in codes), "")


def _xids(samples: Sequence[Sample], used: Collection[int]) -> Finding:
    found = {(gpu.index, gpu.xid) for gpu in _gpus_of(samples, used) if gpu.xid is not None}
    if found:
        listed = ", ".join(f"XID {xid} on GPU {index}" for index, xid in sorted(found))
        return Finding("telemetry.xid", "fail", listed, "no XID", "look up the XID in NVIDIA's list and in dmesg")
    unavailable = [note.message for note in samples[-1].notes if note.code == "xid_unavailable"]
    if unavailable:
        return Finding("telemetry.xid", "inconclusive", "not recorded", "no XID", unavailable[0])
    return Finding("telemetry.xid", "pass", "none", "no XID")


def _throttling(samples: Sequence[Sample], used: Collection[int]) -> Finding:
    name, bound = "telemetry.throttling", "no thermal or power-brake throttling"
    known = [gpu for gpu in _gpus_of(samples, used) if gpu.throttle_reasons is not None]
    unknown = set(used) - {gpu.index for gpu in known}
    bad = _counts(known, lambda gpu: [name for name in gpu.throttle_reasons or [] if name in FAULT_THROTTLING])
    if bad:
        return Finding(name, "invalid", bad, bound, "the GPU was slowed down during the measurement")
    if unknown and samples:
        return Finding(name, "inconclusive", f"not readable on {_gpus(unknown)}", bound)
    if unknown:
        return Finding(name, "inconclusive", "no samples in the measured window", bound)
    if sparse := _rarely_known(samples, Counter(gpu.index for gpu in known), used):
        return Finding(name, "inconclusive", sparse, bound, "the other samples have no value")
    capped = _counts(known, lambda gpu: [name for name in gpu.throttle_reasons or [] if name == "sw_power_cap"])
    return Finding(name, "pass", f"none; recorded: {capped}" if capped else "none", bound)


def _rarely_known(samples: Sequence[Sample], known: Counter[int], used: Collection[int]) -> str:
    """The GPUs for which a reading is missing in too many samples; "" for none."""
    totals = Counter(gpu.index for gpu in _gpus_of(samples, used))
    return ", ".join(
        f"GPU {index} known in {known[index]} of {total} samples"
        for index, total in sorted(totals.items())
        if total - known[index] > max(1, _MAX_UNKNOWN * total)
    )


def _counts(gpus: Sequence[GpuSample], reasons: Callable[[GpuSample], list[str]]) -> str:
    totals = Counter(gpu.index for gpu in gpus)
    counts = Counter((gpu.index, reason) for gpu in gpus for reason in reasons(gpu))
    return ", ".join(
        f"GPU {index} {reason} in {count} of {totals[index]} samples"
        for (index, reason), count in sorted(counts.items())
    )


def _foreign_processes(samples: Sequence[Sample], used: Collection[int], own_pids: Collection[int] | None) -> Finding:
    name, bound = "telemetry.foreign_processes", "only the run's own processes on its GPUs"
    known: Counter[int] = Counter()
    found: set[tuple[int, int]] = set()
    for gpu in _gpus_of(samples, used):
        if gpu.processes is None:
            continue
        if own_pids is not None:
            foreign = [pid for pid in gpu.processes if pid not in own_pids]
        elif gpu.foreign_processes is not None:
            foreign = gpu.foreign_processes
        elif gpu.processes:
            continue  # there are processes, and their owner is unknown
        else:
            foreign = []
        known[gpu.index] += 1
        found |= {(gpu.index, pid) for pid in foreign}
    own_namespace = [note.message for sample in samples[-1:] for note in sample.notes if note.code == "pid_namespace"]
    listed = ", ".join(f"pid {pid} on GPU {index}" for index, pid in sorted(found))
    if found and not own_namespace:
        return Finding(name, "invalid", listed, bound, "another process used the GPU during the measurement")
    if found:
        return Finding(name, "inconclusive", listed, bound, own_namespace[0])
    if set(used) - known.keys():
        unknown = _gpus(set(used) - known.keys())
        return Finding(
            name, "inconclusive", f"not known on {unknown}", bound, "the owners of its processes are unknown"
        )
    if sparse := _rarely_known(samples, known, used):
        return Finding(name, "inconclusive", sparse, bound, "the owners of the processes are unknown in the others")
    return Finding(name, "pass", "none", bound, *own_namespace[:1])


def _gpus_of(samples: Sequence[Sample], used: Collection[int]) -> list[GpuSample]:
    return [gpu for sample in samples for gpu in sample.gpus if gpu.index in used]


def _gpus(indices: Collection[int]) -> str:
    return ("GPU " if len(indices) == 1 else "GPUs ") + ", ".join(str(index) for index in sorted(indices))
