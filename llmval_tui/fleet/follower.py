"""Looks at the folders of a run's nodes again and again, for screens that show all of them.

Clocks of nodes do not compare: a node's age counts from the moment at which this process saw its files grow.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmval_tui.fleet.compare import excuse
from llmval_tui.fleet.configuration import Value, of_intent
from llmval_tui.fleet.differences import differences, fewer_gpus
from llmval_tui.fleet.launch import LaunchKind
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.fleet.outliers import group_of, reasons, statistics
from llmval_tui.fleet.overview import SILENT_S, NodeView, Overview, with_telemetry
from llmval_tui.fleet.record import (
    FLEET_FILE,
    Difference,
    Fleet,
    MetricStatistics,
    NodeOutcome,
    NodeResult,
    node_runs,
    read_fleet,
)
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.tail import LineTail
from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.records import JOB_WAITS, JobStatus, Outcome, State, Verdict
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import Sample

if TYPE_CHECKING:
    from llmval_tui.telemetry.dcgm.exporters import NodeTelemetry

MOST_NODES_A_LOOK = 64  # of a large fleet, a look reads the files of this many; the next look reads others
_SAMPLE_BACKLOG, _EVENT_BACKLOG = 64 << 10, 16 << 10
_OF_OUTCOME = {
    NodeOutcome.PASS: NodeState.PASSED,
    NodeOutcome.FAIL: NodeState.FAILED,
    NodeOutcome.INVALID: NodeState.INVALID,
    NodeOutcome.INCONCLUSIVE: NodeState.INCONCLUSIVE,
    NodeOutcome.LOST: NodeState.LOST,
}


class FleetFollower:
    """Looks at one run on several nodes again and again. Each look reads only what has changed."""

    def __init__(
        self, run: Run, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.run = run
        self._clock, self._wall = clock, wall
        self._nodes: dict[str, _NodeFollower] = {}
        self._fleet: tuple[tuple[int, int], Fleet] | None = None
        self._next = 0
        self._live: tuple[object, dict[str, MetricStatistics], tuple[Difference, ...]] | None = None

    def look(self, telemetry: "Mapping[str, NodeTelemetry] | None" = None) -> Overview:
        """The present state. `telemetry`: of the nodes' exporters, in place of the run's recordings.

        Raises:
            Refused: a record of the run is damaged.
        """
        run, now = self.run, self._clock()
        status, fleet = run.status(), self._read_fleet()
        runs = node_runs(run)
        for name, node_run in runs.items():
            if name not in self._nodes:
                self._nodes[name] = _NodeFollower(name, node_run)
        followers = [self._nodes[name] for name in runs]
        first_look = all(one.seen is None for one in followers)
        count = len(followers) if first_look else min(MOST_NODES_A_LOOK, len(followers))
        for at in range(count):
            followers[(self._next + at) % len(followers)].read(now, self._wall())
        self._next = (self._next + count) % max(1, len(followers))
        over = fleet is not None or status.state is State.FINISHED
        lost = status.job.lost if status.job is not None else {}
        refused = status.job is not None and status.job.refused is not None
        verdict = run.verdict()
        intent = run.intent
        begun = status.job is not None and status.job.state not in (None, *JOB_WAITS)
        views = [one.view(now, over=over, begun=begun, lost=lost.get(one.name), refused=refused) for one in followers]
        if intent.how == LaunchKind.COLLECTIVE:
            # The verdict of the first node has the figures of all replicas: not its own.
            pairs = zip(views, followers, strict=True)
            views = [replace(view, metrics={}) if one.verdict is not None else view for view, one in pairs]
        if intent.how == LaunchKind.COLLECTIVE and status.job is not None:
            views = _excused(views, status.job, status.cancelled or run.cancelled_by())
        if fleet is not None:
            said = reasons(fleet.statistics)
            views = [_judged(view, fleet, said.get(view.name, [])) for view in views]
            found, different = fleet.statistics, tuple(fleet.differences)
        else:
            found, different = self._compare(followers, views)
        views = _with_differences(views, different)
        if telemetry is not None:
            views = [with_telemetry(view, telemetry.get(view.name), now) for view in views]
        job = status.job
        return Overview(
            tuple(views),
            run.id,
            intent.step.number,
            intent.step.text,
            intent.how or "",
            intent.launcher or "",
            " ".join(part for part in (job.state, f"({job.reason})" if job.reason else None) if part) if job else "",
            (job.refused or "") if job else "",
            verdict.outcome if verdict is not None else None,
            fleet is not None,
            found,
            different,
        )

    def _read_fleet(self) -> Fleet | None:
        """`fleet.json`, read again only if it has changed."""
        try:
            status = (self.run.folder / FLEET_FILE).stat()
        except OSError:
            return None
        stamp = (status.st_ino, status.st_mtime_ns)
        if self._fleet is None or self._fleet[0] != stamp:
            fleet = read_fleet(self.run.folder)
            if fleet is None:
                return None
            self._fleet = stamp, fleet
        return self._fleet[1]

    def _compare(
        self, followers: "Sequence[_NodeFollower]", views: Sequence[NodeView]
    ) -> tuple[dict[str, MetricStatistics], tuple[Difference, ...]]:
        """What the nodes that are ready show so far."""
        key = tuple((one.verdict is not None, bool(one.configuration)) for one in followers)
        if self._live is None or self._live[0] != key:
            results = {
                view.name: NodeResult(NodeOutcome.PASS, metrics=dict(view.metrics), group=view.group)
                for view, one in zip(views, followers, strict=True)
                if one.verdict is not None and one.verdict.outcome is not Outcome.INVALID
            }
            found = differences({one.name: one.configuration for one in followers})
            self._live = key, statistics(results), tuple(found)
        return self._live[1], self._live[2]


class _NodeFollower:
    """The files of one node."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.run = name, run
        self.seen: float | None = None  # when its files were read
        self.verdict: Verdict | None = None
        self.configuration: dict[str, Value] = {}
        self._problem = ""
        self._state: State | None = None  # of its status; None: it has none yet
        self._status_stamp: tuple[int, int] | None = None
        self._events = EventFollower(run.events, backlog_bytes=_EVENT_BACKLOG)
        self._samples = LineTail(run.telemetry, backlog_bytes=_SAMPLE_BACKLOG)
        self._sample: Sample | None = None
        self._grown: tuple[int, ...] | None = None  # sizes of the files at the last look
        self._arrived: float | None = None

    @property
    def _progress(self) -> Progress:
        return self._events.progress

    def read(self, now: float, wall: float) -> None:
        """Read what has changed since the last look."""
        first, self.seen = self.seen is None, now
        try:
            self.verdict = self.run.verdict()
            self._read_status()
            self._problem = ""
        except Refused as refusal:
            self._problem = str(refusal)
        if not self.configuration:
            self._read_configuration()
        sizes, newest = [], None
        for path in (self.run.telemetry, self.run.events):
            try:
                status = path.stat()
            except OSError:
                sizes.append(-1)
                continue
            sizes.append(status.st_size)
            newest = max(newest or 0.0, status.st_mtime)
        if self._grown == tuple(sizes):
            return
        if newest is not None:
            self._arrived = now - max(0.0, wall - newest) if first else now
        self._grown = tuple(sizes)
        self._events.poll()
        try:
            lines = self._samples.poll()
        except OSError:
            return
        self._sample = next((found for line in reversed(lines) if (found := Sample.from_line(line))), self._sample)

    def _read_status(self) -> None:
        try:
            status = (self.run.folder / "status.json").stat()
        except OSError:
            return
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._status_stamp:
            self._state, self._status_stamp = self.run.status().state, stamp

    def _read_configuration(self) -> None:
        try:
            self.configuration = of_intent(self.run.intent)
        except Refused:
            return  # it has not started yet; a damaged record is named by the verdict

    def view(self, now: float, *, over: bool, begun: bool, lost: str | None, refused: bool) -> NodeView:
        """The node as its files show it. `over`: the run has ended. `begun`: its job has. `lost`: why the launcher gave
        the node up. `refused`: the run was refused before its start."""
        age = None if self._arrived is None else max(0.0, now - self._arrived)
        state, reason = self._state_of(age, over=over, begun=begun, lost=lost, refused=refused)
        return NodeView(
            self.name,
            state,
            reason,
            self.verdict.metrics if self.verdict is not None else self._progress.metrics,
            group_of(self.configuration) if self.configuration else "",
            self._progress.fraction,
            self._progress.phase,
            age,
            tuple(self._sample.gpus) if self._sample is not None else (),
        )

    def _state_of(
        self, age: float | None, *, over: bool, begun: bool, lost: str | None, refused: bool
    ) -> tuple[NodeState, str]:
        if self._problem:
            return NodeState.INCONCLUSIVE, self._problem
        if self.verdict is not None:
            outcome = NodeOutcome(self.verdict.outcome.value)
            return _OF_OUTCOME[outcome], "" if outcome is NodeOutcome.PASS else self.verdict.summary
        if lost is not None:
            return NodeState.LOST, lost
        if refused and self._state is None and age is None:
            return NodeState.NOT_STARTED, ""  # nothing says that anything is wrong with it
        seen = f"; last seen in phase {self._progress.phase}" if self._progress.phase else ""
        if over:
            return NodeState.LOST, f"it left no verdict{seen}"
        if self._state is None and age is None:
            # Without a shared file system its files come when it has ended.
            return (NodeState.RUNNING if begun else NodeState.QUEUED), ""
        if self._state is State.FINISHED:
            return NodeState.JUDGING, ""
        if age is not None and age > SILENT_S:
            return NodeState.NO_ANSWER, f"nothing new in its files{seen}"
        return NodeState.RUNNING, ""


def _excused(views: Sequence[NodeView], job: JobStatus, cancelled: str | None) -> list[NodeView]:
    """The nodes of one launch, without blaming those whose ranks failed because others ended."""
    lost = [view.name for view in views if view.state is NodeState.LOST]
    found = []
    for view in views:
        if view.state is NodeState.FAILED and (why := excuse(view.name, job, lost, cancelled)) is not None:
            view = replace(view, state=NodeState.INCONCLUSIVE, reason=f"{why}; {view.reason}")
        found.append(view)
    return found


def _judged(view: NodeView, fleet: Fleet, named: Sequence[str]) -> NodeView:
    """The node as `fleet.json` has it. `named`: why it is called slow."""
    result = fleet.nodes.get(view.name)
    if result is None or view.state is NodeState.NOT_STARTED:
        return view
    state, reason = _OF_OUTCOME[result.outcome], result.reason or ""
    if named:
        state, reason = NodeState.SLOW, "; ".join([*named, *([reason] if reason else [])])
    return replace(view, state=state, reason=reason, metrics=result.metrics, group=result.group)


def _with_differences(views: Sequence[NodeView], found: Sequence[Difference]) -> list[NodeView]:
    fewer = fewer_gpus(list(found))
    keys: dict[str, list[str]] = {}
    for one in found:
        if one.majority is not None or len(one.nodes) < len(views):
            for name in one.nodes:
                keys.setdefault(name, []).append(one.key)
    return [
        replace(
            view,
            different=tuple(keys.get(view.name, ())),
            reason="; ".join(part for part in (fewer.get(view.name), view.reason) if part),
        )
        if view.name in keys
        else view
        for view in views
    ]
