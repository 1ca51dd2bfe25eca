"""Follows the files of one run by polling. Used in the watcher's thread only."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.records import Intent, State, Status, Verdict
from llmval_tui.runs.store import LogFile, Run
from llmval_tui.tui.data.history import Series
from llmval_tui.tui.data.log_file import LogWindowFile, SizeLimit
from llmval_tui.tui.data.sweep import SweepFollower, SweepSnapshot, as_number, sweep_folder

METRIC_HISTORY = 400  # values of each metric that are kept for the charts
TAIL_LINES = 12
ALIVE = (State.STARTING, State.RUNNING, State.CANCELLING)
RATE_POINTS = 40  # progress events from which the remaining time is computed


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """The newest values of one metric of a run."""

    name: str
    values: tuple[float | None, ...]
    first: int
    peak: float | None


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
    # By rank, the parts of the GPU's memory in bytes: the metrics `memory_…_bytes`.
    memory: tuple[tuple[int, Mapping[str, float | None]], ...] = ()

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
    _left: tuple[float, int] | None = None  # seconds to the end, and when the run reported them (ns)
    _limit: SizeLimit | None = None

    def __post_init__(self) -> None:
        self._events = EventFollower(self.run.events)
        folder = sweep_folder(self.run.intent.commands, self.run.intent.cwd)
        self._sweep = SweepFollower(folder) if folder else None

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
        if fresh:
            self._metrics = tuple(
                MetricSeries(name, tuple(series.values), series.first, series.peak)
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
            memory=tuple((rank, dict(parts)) for rank, parts in sorted(self._memory.items())),
        )

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
        elif kind == "progress":
            done, moment = data.get("done"), event.get("t_ns")
            if isinstance(done, int | float) and isinstance(moment, int):
                if self._points and done < self._points[-1][1]:
                    self._points.clear()
                self._points.append((moment, float(done)))
        elif kind == "metrics":
            self._take_metrics({str(name): as_number(value) for name, value in data.items()}, event)
            return True
        return False

    def _take_metrics(self, data: dict[str, float | None], event: dict[str, object]) -> None:
        rank, moment = event.get("rank"), event.get("t_ns")
        if parts := {name: value for name, value in data.items() if is_memory(name)}:
            self._memory.setdefault(rank if isinstance(rank, int) else 0, {}).update(parts)
        if rank:
            return  # every rank reports its memory, but only the first one the metrics of the run
        left = data.get("time_left_s")
        if left is not None and isinstance(moment, int):
            self._left = (left, moment)
        for name, value in data.items():
            if name not in parts and name != "time_left_s":
                self._series.setdefault(name, Series(METRIC_HISTORY)).add(value)

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
