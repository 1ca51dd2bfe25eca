"""A recorded run as the panes show it: its state at the moment of the replay's clock."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textual.message import Message

from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.checklist.model import Checklist, Section, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.events import EventFollower
from llmval_tui.runs.records import CommandStatus, Outcome, State, Status, Verdict
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import Sample
from llmval_tui.terminal.format import parse_utc
from llmval_tui.tui.data.artifacts import ArtifactLine, artifact_lines
from llmval_tui.tui.data.log_file import LogWindowFile
from llmval_tui.tui.data.replay_timeline import SECOND_NS, TimedLines, Timeline
from llmval_tui.tui.data.run_follower import RunFollower, RunSnapshot
from llmval_tui.tui.data.run_history import RunRow, StepFacts, seconds
from llmval_tui.tui.data.snapshot import Document, Selection, Snapshot, StepDetail
from llmval_tui.tui.data.watcher import RecorderStatus, SamplesTaken
from llmval_tui.tui.data.workspace_view import Workspace
from llmval_tui.tui.settings import LaunchSettings

PART = 400  # samples that are posted together
PAUSE_S = 0.02
Post = Callable[[Message], object]
STATE_OF_OUTCOME = {
    Outcome.PASS: StepState.PASSED,
    Outcome.FAIL: StepState.FAILED,
    Outcome.INVALID: StepState.INVALID,
    Outcome.INCONCLUSIVE: StepState.INCONCLUSIVE,
}


@dataclass(frozen=True)
class Replay:
    """An open recording: its clock, its samples, and its run if it has one."""

    timeline: Timeline
    samples: TimedLines
    events: TimedLines | None = None
    run: Run | None = None

    def log_limit(self, log: LogWindowFile, size: int) -> int:
        """How many bytes of a log were there at this moment; in logs of old runs, the share of the time is taken."""
        if self.timeline.ended:
            return size
        noted = log.size_at(self.timeline.now_ns / SECOND_NS)
        return round(size * self.timeline.fraction) if noted is None else min(noted, size)


def open_replay(path: Path) -> Replay:
    """Index a run folder or a telemetry.jsonl.

    Raises:
        Refused: it does not exist, is damaged, or has nothing to play.
    """
    run = Run(path) if path.is_dir() else None
    try:
        samples = TimedLines(path / "telemetry.jsonl" if run else path)
        events = TimedLines(run.events) if run else None
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): make it readable, or name another.") from error
    spans = [span for lines in (samples, events) if lines is not None and (span := lines.span_ns) is not None]
    if run is not None:
        status = run.status()
        moments = [parse_utc(status.started_utc), parse_utc(status.ended_utc), parse_utc(run.intent.created_utc)]
        known = [round(moment.timestamp() * SECOND_NS) for moment in moments if moment is not None]
        spans += [(moment, moment) for moment in known]
    if not spans:
        raise Refused(f"{path} holds no samples and no events: name a run that was recorded.")
    # One second more, so that the last event is shown and not only reached.
    timeline = Timeline(min(span[0] for span in spans), max(span[1] for span in spans) + SECOND_NS)
    return Replay(timeline, samples, events, run)


class RecordedEvents(EventFollower):
    """The events up to the moment of the replay, each returned once."""

    def __init__(self, path: Path, lines: TimedLines, clock: Callable[[], int]) -> None:
        super().__init__(path)
        self._lines, self._clock = lines, clock
        self._delivered_ns = -1

    def poll(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        until = self._clock()
        found = self._apply_lines(self._lines.between(self._delivered_ns, until))
        self._delivered_ns = until
        return found


class RecordedRun(RunFollower):
    """A recorded run at a moment that only moves forward; make another one to go back."""

    def __init__(self, replay: Replay) -> None:
        assert replay.run is not None and replay.events is not None
        super().__init__(replay.run)
        self.at_ns = replay.timeline.start_ns
        self._end_ns = replay.timeline.end_ns - SECOND_NS
        self._events = RecordedEvents(replay.run.events, replay.events, lambda: self.at_ns)
        self._limit = replay.log_limit

    def snapshot_at(self, moment_ns: int) -> RunSnapshot:
        """The run at that moment."""
        self.at_ns = moment_ns
        if self._sweep is not None:
            self._sweep.until_ns = moment_ns
        view = self.snapshot()
        # 0, because the telemetry pane would otherwise offer the whole recording beside the one that plays.
        return replace(view, telemetry_bytes=0)

    def _run_state(self) -> tuple[State, Status, Verdict | None]:
        state, status, verdict = super()._run_state()
        if self.at_ns >= self._end_ns:
            return (state if state is State.FINISHED else State.LOST), status, verdict
        commands = [CommandStatus(command.label) for command in status.commands]
        return State.RUNNING, replace(status, ended_utc=None, commands=commands, cancelled=None, notes=[]), None


class ReplayWorkspace(Workspace):
    """A workspace of one step, made from the run's own records, so that a run of any workspace can be played."""

    def __init__(self, settings: LaunchSettings, replay: Replay) -> None:
        super().__init__(settings, _refuse)
        assert replay.run is not None
        self._replay = replay
        self._shown = RecordedRun(replay)
        self._list = checklist_for(replay.run)
        self._root = replay.run.workspace  # the run's artifacts are there

    def snapshot(self, selection: Selection) -> Snapshot:
        now = self._replay.timeline.now_ns
        if now < self._shown.at_ns:
            self._shown = RecordedRun(self._replay)
        run = self._shown.snapshot_at(now)
        step = self._list.steps[0]
        verdict = run.verdict
        state = StepState.RUNNING if run.alive else STATE_OF_OUTCOME[verdict.outcome] if verdict else StepState.JUDGING
        status = StepStatus(step, state, self._replay.run, verdict)
        recorded = self._shown.run
        row = self._history.row(recorded) if verdict is not None else running_row(run)
        moment = row.judged_s or row.began_s
        lines = tuple(self._list.source.decode().splitlines())
        return Snapshot(
            checklist=self._list,
            steps=(status,),
            facts={step.key: StepFacts(moment, row, "llmval")},
            detail=StepDetail(step.key, None, 1, 0, run, self._artifacts(run), (row,)),
            document=Document(self._list.path.name, lines, step.line, (self._list.path.name,)),
        )

    def _artifacts(self, run: RunSnapshot) -> tuple[ArtifactLine, ...]:
        """The run's files; one that did not travel with the recording is no loss of evidence."""
        lines = artifact_lines(run, self._root)
        return tuple(
            replace(line, state="not with this recording", intact=None) if line.state == "missing" else line
            for line in lines
        )


def running_row(run: RunSnapshot) -> RunRow:
    """The row of a run before its end."""
    began = seconds(run.status.started_utc or run.intent.created_utc)
    ranks = [command.nproc for command in run.intent.commands if command.nproc]
    return RunRow(run.id, run.state, None, began, None, None, gpus=max(ranks, default=None), preset=run.intent.preset)


def checklist_for(run: Run) -> Checklist:
    """A checklist with only the step of a run."""
    ref = run.intent.step
    title = f"Replay of {run.id}"
    source = f"# {title}\n\n## {ref.section}\n- [ ] {ref.text}\n".encode()
    step = Step(ref.number, ref.section, ref.text, (), False, ref.occurrence, 4, len(source), len(source), {})
    section = Section("1", ref.section, 3, (step,))
    return Checklist(Path(ref.checklist), title, (section,), source)


def _refuse(context: object) -> Any:
    raise Refused("A replay starts nothing: open the dashboard without --replay.")


class ReplayTelemetry(threading.Thread):
    """Posts the recorded samples when the replay's clock reaches them, in place of the live recorder."""

    def __init__(self, replay: Replay, post: Post, interval: float) -> None:
        super().__init__(name="replay", daemon=True)
        self._replay, self._post = replay, post
        self._interval = interval
        self._wake = threading.Event()
        self._ended = False

    def refresh_now(self) -> None:
        """The operator has moved the clock: post the samples at once."""
        self._wake.set()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        delivered = self._replay.timeline.start_ns - 1
        while not self._ended:
            self._wake.clear()
            now = self._replay.timeline.now_ns
            back = now < delivered
            delivered = 0 if back else delivered
            try:
                lines = self._replay.samples.between(delivered, now, PART)
            except OSError as error:
                self._post(RecorderStatus(f"the recording cannot be read any more ({error.strerror})."))
                return
            samples = [sample for line in lines if (sample := Sample.from_line(line)) is not None]
            if samples or back:
                self._post(SamplesTaken("live", samples, restart=back))
            if len(lines) == PART and samples:
                delivered = samples[-1].t_ns  # the rest at once, but in parts: the keys are answered between them
                self._wake.wait(PAUSE_S)
                continue
            delivered = now
            self._wake.wait(self._interval)
