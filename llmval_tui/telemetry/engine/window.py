"""What an inference server did in a part of a run: differences of its own counters, and its processes' CPU time."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from llmval_tui.telemetry.engine.exposition import TIMES
from llmval_tui.telemetry.sample import EngineSample, Sample, TimeTotal

_COUNTERS = ("preemptions", "prefix_cache_queries", "prefix_cache_hits", "prompt_tokens", "generation_tokens")


@dataclass(frozen=True, slots=True)
class ProcessLoad:
    """One process of the server: its mean load, in cores."""

    pid: int
    name: str
    cores: float


@dataclass(frozen=True, slots=True)
class EngineWindow:
    """The server between two of its answers. A value that was not published is None; `reasons` say why."""

    engine: str | None
    seconds: float  # between the two answers
    counts: dict[str, float | None] = field(default_factory=dict)  # the growth of each counter
    times: dict[str, TimeTotal | None] = field(default_factory=dict)  # times of the requests that ended in between
    processes: tuple[ProcessLoad, ...] | None = None  # the busiest first
    cores: float | None = None  # busy cores, of all the server's processes together
    reasons: tuple[str, ...] = ()

    @property
    def prefix_hit_percent(self) -> float | None:
        """The share of prompt tokens that were in the prefix cache."""
        queries, hits = self.counts.get("prefix_cache_queries"), self.counts.get("prefix_cache_hits")
        return 100 * hits / queries if queries and hits is not None else None

    def mean_s(self, name: str) -> float | None:
        """The mean of one of the server's times, in seconds; None if it is not known or nothing was timed."""
        total = self.times.get(name)
        return total.seconds / total.count if total is not None and total.count > 0 else None


def engine_window(
    samples: Iterable[Sample], start_ns: int | None = None, end_ns: int | None = None
) -> EngineWindow | None:
    """The server from its last answer before `start_ns` to its first answer after `end_ns`, on the monotonic clock.

    Without bounds, or if there is no answer outside of them, the first and the last answer count. Answers without
    metrics of an engine count only if there are no others. None if the server did not answer twice. Reads the samples
    once and keeps none.
    """
    first: EngineSample | None = None
    last: EngineSample | None = None
    restarted = False
    for sample in samples:
        answer = sample.engine
        if answer is None or (last is not None and answer.mono_ns <= last.mono_ns):
            continue
        if last is not None and last.engine is not None and answer.engine is None:
            continue
        begins = start_ns is not None and answer.mono_ns <= start_ns
        if first is None or begins or (last is not None and last.engine is None and answer.engine is not None):
            first, last, restarted = answer, answer, False
        else:
            restarted |= _fell(last, answer)
            last = answer
        if end_ns is not None and answer.mono_ns >= end_ns and not begins:
            break
    if first is None or last is None or first is last:
        return None
    seconds = (last.mono_ns - first.mono_ns) / 1e9
    processes, cores = _load(first, last, seconds)
    return EngineWindow(
        engine=last.engine,
        seconds=seconds,
        counts={name: None if restarted else _grown(getattr(first, name), getattr(last, name)) for name in _COUNTERS},
        times={name: None if restarted else _between(first.times.get(name), last.times.get(name)) for name in TIMES},
        processes=processes,
        cores=cores,
        reasons=("the server's counters fell: it was started again in between",) if restarted else (),
    )


def _fell(earlier: EngineSample | None, later: EngineSample) -> bool:
    if earlier is None or earlier.generation_tokens is None or later.generation_tokens is None:
        return False
    return later.generation_tokens < earlier.generation_tokens


def _grown(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _between(first: TimeTotal | None, last: TimeTotal | None) -> TimeTotal | None:
    if first is None or last is None:
        return None
    return TimeTotal(last.seconds - first.seconds, last.count - first.count)


def _load(
    first: EngineSample, last: EngineSample, seconds: float
) -> tuple[tuple[ProcessLoad, ...] | None, float | None]:
    """The load of each process that is there at the end; one that started in between counts from its start."""
    if first.processes is None or last.processes is None or first.cpu_s is None or last.cpu_s is None:
        return None, None
    before = {process.pid: process.cpu_s for process in first.processes}
    loads = [
        ProcessLoad(process.pid, process.name, (process.cpu_s - before.get(process.pid, 0.0)) / seconds)
        for process in last.processes
    ]
    loads.sort(key=lambda load: -load.cores)
    return tuple(loads), max(0.0, last.cpu_s - first.cpu_s) / seconds
