"""One run as its files tell it, kept up to date by polling; used in the watcher's thread only."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.records import Intent, State, Status, Verdict
from llmval_tui.runs.store import LogFile, Run
from llmval_tui.tui.history import Series
from llmval_tui.tui.log_file import LogFile as LogFileReader

KEPT = 400  # values of each metric that a chart can show
TAIL_LINES = 12
RATE_POINTS = 40  # progress events that the remaining time is taken from


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """The newest values of one metric of a run."""

    name: str
    values: tuple[float | None, ...]
    first: int
    peak: float | None


@dataclass(frozen=True, slots=True)
class RunView:
    """What the panes show of one run; a picture that does not change."""

    id: str
    intent: Intent
    state: State
    status: Status
    verdict: Verdict | None
    progress: Progress
    eta_s: float | None
    metrics: tuple[MetricSeries, ...]
    logs: tuple[LogFile, ...]
    telemetry_bytes: int  # size of telemetry.jsonl, 0 where there is none
    tail: tuple[str, ...] = ()  # the last lines of what the run said
    tail_of: LogFile | None = None

    @property
    def alive(self) -> bool:
        return self.state in (State.STARTING, State.RUNNING, State.CANCELLING)


@dataclass(slots=True)
class RunFollower:
    """Follows the events of one run and draws the picture of it when asked."""

    run: Run
    _events: EventFollower = field(init=False)
    _series: dict[str, Series] = field(default_factory=dict)
    _points: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RATE_POINTS))
    _metrics: tuple[MetricSeries, ...] = ()

    def __post_init__(self) -> None:
        self._events = EventFollower(self.run.events)

    def look(self) -> RunView:
        """The run as it stands.

        Raises:
            Refused: `run.json` is gone or damaged.
        """
        # The state first: what ended in between is then seen whole at the next look.
        state = self.run.state()
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
        status = self.run.status()
        try:
            recorded = self.run.telemetry.stat().st_size
        except OSError:
            recorded = 0
        logs = tuple(self.run.logs())
        chosen = preferred(logs, failed=any(command.exit_code for command in status.commands))
        return RunView(
            id=self.run.id,
            intent=self.run.intent,
            state=state,
            status=status,
            verdict=self.run.verdict(),
            progress=replace(progress, metrics=dict(progress.metrics), problems=list(progress.problems)),
            eta_s=self._eta(progress),
            metrics=self._metrics,
            logs=logs,
            telemetry_bytes=recorded,
            tail=last_lines(chosen.path) if chosen else (),
            tail_of=chosen,
        )

    def _take(self, event: dict[str, object]) -> bool:
        data = event["data"]
        assert isinstance(data, dict)  # EventFollower passes on no other
        kind = event.get("kind")
        if kind == "phase":
            self._points.clear()
        elif kind == "progress":
            done, moment = data.get("done"), event.get("t_ns")
            if isinstance(done, int | float) and isinstance(moment, int):
                if self._points and done < self._points[-1][1]:
                    self._points.clear()
                self._points.append((moment, float(done)))
        elif kind == "metrics":
            for name, value in data.items():
                series = self._series.setdefault(str(name), Series(KEPT))
                series.add(float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None)
            return True
        return False

    def _eta(self, progress: Progress) -> float | None:
        """Seconds to the end at the pace of the newest progress events; None where it cannot be known."""
        if len(self._points) < 2 or progress.total is None or progress.done is None:
            return None
        (start_ns, before), (end_ns, done) = self._points[0], self._points[-1]
        pace = (done - before) / max(1, end_ns - start_ns) * 1e9
        return (progress.total - progress.done) / pace if pace > 0 else None


def preferred(logs: Sequence[LogFile], *, failed: bool = False) -> LogFile | None:
    """The log that says most: rank 0's output, else the command's; after a failure what went to an error output."""
    order = [("stdout", 0), ("stdout", None), ("stderr", 0), ("stderr", None)]
    for stream, rank in sorted(order, key=lambda kind: kind[0] != "stderr") if failed else order:
        for log in logs:
            if (log.stream, log.rank) == (stream, rank) and _filled(log.path):
                return log
    return logs[0] if logs else None


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def last_lines(path: Path, count: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log, cleaned."""
    file = LogFileReader(path)
    try:
        file.poll()
        return tuple(line.text for line in file.backward(file.size, count).lines)
    finally:
        file.close()
