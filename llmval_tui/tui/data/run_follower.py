"""Follows the files of one run by polling. Used in the watcher's thread only."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.bounds import Bound, bounds_of
from llmval_tui.actions.pair_matrix import PairMatrix
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.records import Intent, State, Status, Verdict, engine_url_of
from llmval_tui.runs.store import LogFile, Run
from llmval_tui.terminal.buckets import Buckets
from llmval_tui.tui.data.collectives import CollectiveFollower, collective_follower
from llmval_tui.tui.data.history import Recent, Series
from llmval_tui.tui.data.log_file import LogWindowFile, SizeLimit
from llmval_tui.tui.data.sweep import SweepFollower, SweepSnapshot, as_number, sweep_folder

if TYPE_CHECKING:
    from llmval_tui.telemetry.recording import SampleTail
    from llmval_tui.telemetry.sample import EngineSample, Sample
    from llmval_tui.tui.data.gpu_review import GpuReview, GpuReviewer

# What a server publishes of its engine, charted as `engine_running` …
ENGINE_METRICS = ("running", "waiting", "kv_cache_used_percent")
TAIL_LINES = 12
ALIVE = (State.STARTING, State.RUNNING, State.CANCELLING)
ENGINE_BACKLOG = 4 << 20  # bytes at the end of the telemetry of a run against a server that fill its charts
RATE_POINTS = 40  # progress events from which the remaining time is computed
MOST_PHASES = 64  # the newest that are kept; the mark of each is drawn in the charts
LONGEST_STEP_S = 10.0  # a metric's value counts at most this long, if the next one is late


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One metric of a run: its newest value, and the whole run in buckets."""

    name: str
    last: float | None
    peak: float | None
    # Since the first metrics of the run. Another thread goes on to fill them.
    buckets: Buckets = field(default_factory=Buckets)
    recent: Recent = field(default_factory=Recent)
    outside_s: float = 0.0  # seconds in which the value was not within its bound
    known_s: float = 0.0  # seconds in which it was known


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a run and when it began."""

    name: str
    wall_s: float
    at_s: float | None  # seconds after the first metrics; negative before them; None: there are none


@dataclass(frozen=True, slots=True)
class EngineState:
    """The server that a run uses, as it publishes itself."""

    url: str
    first: "EngineSample | None"  # the oldest answer known, from which counters are counted
    last: "EngineSample | None"  # the newest; None: it does not answer now
    problem: str  # why there is no figure; empty if there is


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """One run at one moment, for the panes."""

    id: str
    intent: Intent
    state: State
    status: Status
    verdict: Verdict | None
    progress: Progress
    eta_s: float | None
    metrics: tuple[MetricSeries, ...]
    logs: tuple[LogFile, ...]
    telemetry_bytes: int  # size of telemetry.jsonl, 0 without one
    tail: tuple[str, ...] = ()  # the last lines of the log `tail_of`
    tail_of: LogFile | None = None
    sweep: SweepSnapshot | None = None
    matrix: PairMatrix | None = None  # the bandwidths of the pairs of GPUs
    # By rank, the parts of the GPU's memory in bytes: the metrics `memory_…_bytes`.
    memory: tuple[tuple[int, Mapping[str, float | None]], ...] = ()
    bounds: Mapping[str, Bound] = field(default_factory=dict)  # by the metric's name
    baseline: Mapping[str, Bound] = field(default_factory=dict)  # what the section's baseline allows, likewise
    phases: tuple[Phase, ...] = ()
    metrics_began_s: float | None = None  # wall clock of the first metrics
    engine: EngineState | None = None  # None: the run uses no server
    expected_end_s: float | None = None  # wall clock of the end of the load, if the run says how long it lasts
    gpus: "GpuReview | None" = None  # of a judged run; None: it used none, or its recording is still being read

    def metric(self, name: str) -> MetricSeries | None:
        """The metric of this name; None if the run has not reported it."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def alive(self) -> bool:
        return self.state in ALIVE


@dataclass
class RunFollower:
    """Follows the events of one run and makes snapshots of it."""

    run: Run
    _events: EventFollower = field(init=False)
    _series: dict[str, Series] = field(default_factory=dict)
    _points: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RATE_POINTS))
    _metrics: tuple[MetricSeries, ...] = ()
    _memory: dict[int, dict[str, float | None]] = field(default_factory=dict)
    _sweep: SweepFollower | None = None
    _collectives: CollectiveFollower | None = None
    _left: tuple[float, int] | None = None  # seconds to the end, and when the run reported them (ns)
    _limit: SizeLimit | None = None
    _bounds: dict[str, Bound] = field(default_factory=dict)
    _outside: dict[str, tuple[float, float]] = field(default_factory=dict)  # seconds outside the bound, and known
    _last_s: float = 0.0  # of the newest metrics
    _phases: deque[tuple[str, int, int]] = field(default_factory=lambda: deque(maxlen=MOST_PHASES))
    _began: tuple[int, int] | None = None  # wall and monotonic time of the first metrics, ns
    _engine: EngineState | None = None
    _telemetry: "SampleTail | None" = None
    _expected_end_s: float | None = None
    _reviewer: "GpuReviewer | None" = None
    _reviewed: bool = False  # whether `_reviewer` is decided

    def __post_init__(self) -> None:
        self._events = EventFollower(self.run.events)
        folder = sweep_folder(self.run.intent.commands, self.run.intent.cwd)
        self._sweep = SweepFollower(folder) if folder else None
        self._collectives = collective_follower(self.run)
        self._bounds = bounds_of(self.run.intent)
        if url := engine_url_of(self.run.intent):
            from llmval_tui.telemetry.recording import SampleTail

            self._engine = EngineState(url, None, None, "no answer is recorded yet")
            self._telemetry = SampleTail(self.run.telemetry, backlog_bytes=ENGINE_BACKLOG)

    def snapshot(self) -> RunSnapshot:
        """The run now.

        Raises:
            Refused: `run.json` is gone or damaged.
        """
        # The state first: a run that ends in between is then complete in the next snapshot.
        state, status, verdict = self._run_state()
        fresh = False
        while events := self._events.poll():
            for event in events:
                fresh |= self._take(event)
        if self._telemetry is not None:
            for sample in self._telemetry.poll():
                fresh |= self._take_engine(sample)
        if fresh:
            self._metrics = tuple(
                MetricSeries(
                    name,
                    series.last,
                    series.peak,
                    series.buckets,
                    series.recent.copy(),
                    *self._outside.get(name, (0.0, 0.0)),
                )
                for name, series in self._series.items()
            )
        progress = self._events.progress
        sweep = self._sweep.snapshot(alive=state in ALIVE) if self._sweep else None
        if sweep is not None and sweep.cells and progress.done is None:
            # Each phase of a cell restarts the progress; the number of finished cells is the useful figure.
            progress = replace(progress, done=float(sweep.done), total=float(len(sweep.cells)), unit="cells")
        try:
            recorded = self.run.telemetry.stat().st_size
        except OSError:
            recorded = 0
        logs = tuple(self.run.logs())
        chosen = preferred_log(logs, failed=any(command.exit_code for command in status.commands))
        return RunSnapshot(
            id=self.run.id,
            intent=self.run.intent,
            state=state,
            status=status,
            verdict=verdict,
            progress=replace(progress, metrics=dict(progress.metrics), problems=list(progress.problems)),
            eta_s=self._eta(progress),
            metrics=self._metrics,
            logs=logs,
            telemetry_bytes=recorded,
            tail=last_lines(chosen.path, limit=self._limit) if chosen else (),
            tail_of=chosen,
            sweep=sweep,
            matrix=self._collectives.snapshot(status.started_utc, verdict) if self._collectives else None,
            memory=tuple((rank, dict(parts)) for rank, parts in sorted(self._memory.items())),
            bounds=self._bounds,
            phases=self._all_phases(),
            metrics_began_s=self._began[0] / 1e9 if self._began else None,
            engine=self._engine,
            expected_end_s=self._expected_end_s,
            gpus=self._review(verdict) if verdict is not None else None,
        )

    def _review(self, verdict: Verdict) -> "GpuReview | None":
        if not self._reviewed:
            from llmval_tui.tui.data.gpu_review import reviewer_of

            self._reviewer, self._reviewed = reviewer_of(self.run, self.run.intent, verdict), True
        return self._reviewer.poll() if self._reviewer is not None else None

    def _run_state(self) -> tuple[State, Status, Verdict | None]:
        return self.run.state(), self.run.status(), self.run.verdict()

    def _take(self, event: dict[str, object]) -> bool:
        data = event["data"]
        assert isinstance(data, dict)  # EventFollower returns no other
        kind = event.get("kind")
        if self._sweep is not None:
            self._sweep.take(str(kind), data)
        if kind == "phase":
            self._points.clear()
            self._take_phase(data, event)
        elif kind == "progress":
            done, moment = data.get("done"), event.get("t_ns")
            if isinstance(done, int | float) and isinstance(moment, int):
                if self._points and done < self._points[-1][1]:
                    self._points.clear()
                if not self._points:
                    self._expect_end(data, moment / 1e9 - done)
                self._points.append((moment, float(done)))
        elif kind == "metrics":
            self._take_metrics({str(name): as_number(value) for name, value in data.items()}, event)
            return True
        return False

    def _expect_end(self, data: dict[str, object], began_s: float) -> None:
        """Once a phase, so that the axis of the charts stands still."""
        total = as_number(data.get("total"))
        if data.get("unit") == "s" and total is not None and total > 0:
            self._expected_end_s = began_s + total

    def _take_phase(self, data: dict[str, object], event: dict[str, object]) -> None:
        name, (wall_ns, mono_ns) = clean_line(str(data.get("name", ""))), _times_of(event)
        if wall_ns is not None and (not self._phases or self._phases[-1][0] != name):
            self._phases.append((name, wall_ns, mono_ns))

    def _all_phases(self) -> tuple[Phase, ...]:
        began = self._began
        return tuple(
            Phase(name, wall_ns / 1e9, None if began is None else (mono_ns - began[1]) / 1e9)
            for name, wall_ns, mono_ns in self._phases
        )

    def _seconds_of(self, event: dict[str, object]) -> float:
        """The time of metrics, in seconds after the first ones. The monotonic clock: the other one may be set."""
        wall_ns, mono_ns = _times_of(event)
        if wall_ns is None:
            return self._last_s
        if self._began is None:
            self._began = wall_ns, mono_ns
        return max(self._last_s, (mono_ns - self._began[1]) / 1e9)

    def _take_metrics(self, data: dict[str, float | None], event: dict[str, object]) -> None:
        rank, moment = event.get("rank"), event.get("t_ns")
        if parts := {name: value for name, value in data.items() if is_memory(name)}:
            self._memory.setdefault(rank if isinstance(rank, int) else 0, {}).update(parts)
        if rank:
            return  # every rank reports its memory, but only the first one the metrics of the run
        left = data.get("time_left_s")
        if left is not None and isinstance(moment, int):
            self._left = (left, moment)
        at_s = self._seconds_of(event)
        step_s, self._last_s = min(at_s - self._last_s, LONGEST_STEP_S), at_s
        for name, value in data.items():
            if name not in parts and name != "time_left_s":
                self._series.setdefault(name, Series()).add(value, at_s)
                if value is not None and (bound := self._bounds.get(name)) is not None:
                    outside, known = self._outside.get(name, (0.0, 0.0))
                    self._outside[name] = outside + (0.0 if bound.holds(value) else step_s), known + step_s

    def _take_engine(self, sample: "Sample") -> bool:
        """Add what the server publishes to the metrics, once for each of its answers."""
        state, engine = self._engine, sample.engine
        assert state is not None
        problem = next((note.message for note in sample.notes if note.source == "engine"), "")
        if engine is None or engine.engine is None:
            self._engine = replace(state, last=engine, problem=problem or "it did not answer")
            return False
        if state.last is not None and state.last.mono_ns == engine.mono_ns:
            return False
        self._engine = replace(state, first=state.first or engine, last=engine, problem="")
        at_s = None if self._began is None else (engine.mono_ns - self._began[1]) / 1e9
        for name in ENGINE_METRICS:
            series = self._series.setdefault(f"engine_{name}", Series())
            # Before the first metrics of the run there is no time axis yet.
            series.add(getattr(engine, name), at_s if at_s is not None and at_s >= 0 else None)
        return True

    def _eta(self, progress: Progress) -> float | None:
        """Seconds to the end as the run reports, else from the pace of its progress; None if unknown."""
        if self._left is not None and progress.last_t_ns is not None:
            seconds, said_ns = self._left
            return max(0.0, seconds - (progress.last_t_ns - said_ns) / 1e9)
        if len(self._points) < 2 or progress.total is None or progress.done is None:
            return None
        (start_ns, before), (end_ns, done) = self._points[0], self._points[-1]
        pace = (done - before) / max(1, end_ns - start_ns) * 1e9
        return (progress.total - progress.done) / pace if pace > 0 else None


def _times_of(event: Mapping[str, object]) -> tuple[int | None, int]:
    """The wall and the monotonic time of an event in ns; without the monotonic one, the wall time for both."""
    wall_ns, mono_ns = event.get("t_ns"), event.get("mono_ns")
    wall_ns = wall_ns if isinstance(wall_ns, int) else None
    return wall_ns, mono_ns if isinstance(mono_ns, int) else wall_ns or 0


def is_memory(name: str) -> bool:
    """Whether a metric is a GPU's memory or a part of it."""
    return name.startswith("memory_") and name.endswith("_bytes")


def preferred_log(logs: Sequence[LogFile], *, failed: bool = False) -> LogFile | None:
    """The most useful log: rank 0's output, else the command's; after a failure an error output."""
    order = [("stdout", 0), ("stdout", None), ("stderr", 0), ("stderr", None)]
    for stream, rank in sorted(order, key=lambda kind: kind[0] != "stderr") if failed else order:
        for log in logs:
            if (log.stream, log.rank) == (stream, rank) and _has_content(log.path):
                return log
    return logs[0] if logs else None


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def last_lines(path: Path, count: int = TAIL_LINES, limit: SizeLimit | None = None) -> tuple[str, ...]:
    """The last lines of a log, cleaned; `limit` hides the end of the file in a replay."""
    file = LogWindowFile(path, limit)
    try:
        file.poll()
        return tuple(line.text for line in file.backward(file.size, count).lines)
    finally:
        file.close()
