"""Follows a plan for `run` and `attach`: prints what happens, with one live progress line on a terminal."""

import shutil
import signal
import time
from datetime import UTC, datetime
from typing import TextIO

from llmval_tui.actions.tick_basis import ticks
from llmval_tui.console.stdio import terminal_of
from llmval_tui.fleet.follower import FleetFollower
from llmval_tui.fleet.overview import progress_text
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.plans.records import REFUSED, Plan, PlanStatus, StepResult, cancel_plan
from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.hindrances import Hindrance, HindranceWatch
from llmval_tui.runs.records import Outcome, State, Verdict
from llmval_tui.runs.server_life import sentence
from llmval_tui.runs.store import Run, RunStore, same_step
from llmval_tui.terminal.format import duration
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS

# The metrics on a progress line: event key, label, unit.
SHOWN_METRICS = (
    ("offered_qps", "offered", "QPS"),
    ("completed_qps", "completed", "QPS"),
    ("output_tokens_per_s", "output", "tok/s"),
    ("ttft_p50_ms", "TTFT p50", "ms"),
    ("ttft_p99_ms", "p99", "ms"),
    ("tpot_p50_ms", "TPOT p50", "ms"),
    ("queued", "queued", ""),
)
QUIET_INTERVAL_S = 5.0  # between progress lines without a terminal
NODES_INTERVAL_S = 2.0  # between looks at the folders of a run's nodes, which may be hundreds on a shared file system


def settled_status(plan: Plan, store: RunStore) -> PlanStatus:
    """The status of a plan that has ended. If the plan was killed, later verdicts of its runs are added."""
    status = plan.status()
    if status.state == "finished":
        return status
    runs = [run for run in store.runs() if belongs_to(run, plan, status)]
    known = {result.number for result in status.results}  # a server's result comes after those that rest on it
    for step in (step for step in plan.intent.steps if step.number not in known):
        key = (step.section, step.text, step.occurrence)
        run = next((run for run in runs if same_step(run.intent.step, *key)), None)
        if run is not None and (verdict := run.verdict()) is not None:
            ticked = ticks(run, verdict)
            status.results.append(StepResult(step.number, verdict.outcome.value, run.id, verdict.summary, ticked))
    return status


def belongs_to(run: Run, plan: Plan, status: PlanStatus) -> bool:
    """Whether the plan started the run, or found it running and waited for it."""
    return run.intent.plan_id == plan.id or run.id == status.run_id


class Follower:
    """Prints the progress of a plan until it ends. The first Ctrl-C cancels the plan."""

    def __init__(self, plan: Plan, store: RunStore, out: TextIO) -> None:
        self.plan = plan
        self.store = store
        self.out = out
        self.live = out.isatty()
        self._several = len(plan.intent.steps) > 1  # then each line begins with its step's number
        self._events: EventFollower | None = None
        self._run: Run | None = None
        self._printed = 0
        self._step: str | None = None
        self._phase: str | None = None
        self._shown = ""  # the last progress line without a terminal
        self._next_line = 0.0
        self._fleet: FleetFollower | None = None  # of a run on several nodes
        self._nodes_text, self._next_look = "", 0.0
        self._interrupts = 0
        self._hindrances = HindranceWatch(store.workspace)
        self._named: set[Hindrance] = set()

    def follow(self) -> None:
        """Print until the plan has ended. A second Ctrl-C stops only the watching."""
        previous = signal.signal(signal.SIGINT, self._interrupted)
        try:
            while True:
                alive = self.plan.alive()  # before reading, so that the final state is not missed
                self._update(alive=alive)
                if not alive or self._interrupts > 1:
                    break
                time.sleep(0.2)
        finally:
            signal.signal(signal.SIGINT, previous)
            self._clear()

    def _interrupted(self, _number: int, _frame: object) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._line("stopping the run: SIGINT, then SIGTERM, then SIGKILL; Ctrl-C again to stop watching only")
            cancel_plan(self.plan, "Ctrl-C")

    def _update(self, *, alive: bool) -> None:
        status = self.plan.status() if alive else settled_status(self.plan, self.store)
        for result in status.results[self._printed :]:  # first: the plan may be at the next step already
            self._result(result)
            self._printed += 1
        if status.run_id:
            self._begin(status.run_id)
        if self._events is not None and self._run is not None:
            self._poll(self._run, self._events)
            for hindrance in self._hindrances.look([self._run] if self._run.alive() else []):
                if hindrance not in self._named:
                    self._named.add(hindrance)
                    self._detail(f"! held up: {hindrance.sentence}")
            killed = not alive and status.state != "finished"
            if not killed or self._run.alive():
                self._show(self._run, self._events.progress)

    def _begin(self, run_id: str) -> None:
        """Print the head of a run, unless that is done already."""
        if self._run is not None and self._run.id == run_id:
            return
        self._run = self.store.get(run_id)
        self._events, self._phase = EventFollower(self._run.events), None
        intent = self._run.intent
        self._fleet = FleetFollower(self._run) if intent.how is not None else None
        self._shown, self._nodes_text, self._next_look = "", "", 0.0  # nothing of the run before
        self._line(f"▸ {intent.step.number}  {intent.action}  run {self._run.id}")
        for command in intent.commands:
            self._detail(f"$ {command.display}")
        for deviation in intent.deviations:
            self._detail(f"deviation: {deviation}")
        for server in (self.store.get(name) for name in intent.servers):
            self._detail(f"server of {server.intent.step.number}: {sentence(server)}")

    def _poll(self, run: Run, events: EventFollower) -> None:
        problems = len(events.progress.problems)
        events.poll()
        for problem in events.progress.problems[problems:]:
            self._detail(f"! {problem}")

    def _show(self, run: Run, progress: Progress) -> None:
        if self._fleet is not None and (nodes := self._nodes(self._fleet)):
            stage, text = "on its nodes", nodes
        else:
            stage, elapsed_s = (progress.phase, None) if progress.phase else stage_of(run)
            text = describe(progress, stage if elapsed_s is None else f"{stage} {duration(elapsed_s)}")
        if self.live:
            width = shutil.get_terminal_size().columns
            terminal_of(self.out).write("\r\x1b[K" + f"{self._indent(run)}{clean_line(text)}"[: width - 1])
            self.out.flush()
        elif stage != self._phase or (text and time.monotonic() >= self._next_line):
            self._phase = stage
            self._next_line = time.monotonic() + QUIET_INTERVAL_S
            if text and text != self._shown:
                self._detail(text)
                self._shown = text

    def _nodes(self, fleet: FleetFollower) -> str:
        """How far the nodes of the run are."""
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + NODES_INTERVAL_S
            try:
                self._nodes_text = progress_text(fleet.look())
            except Refused as refusal:  # a damaged record of a node: its verdict names it, too
                self._nodes_text = str(refusal)
        return self._nodes_text

    def _result(self, result: StepResult) -> None:
        if result.run_id is None:
            self._line(f"{_sign(result.outcome)} {result.number}  {result.outcome}: {result.message}")
            return
        self._begin(result.run_id)
        assert self._run is not None
        if self._events is not None:
            self._poll(self._run, self._events)
        self._events = None
        verdict = self._run.verdict()
        if verdict is not None:
            for line in verdict_lines(verdict):
                self._detail(line)
        outcome = f"{result.outcome}, ticked" if result.ticked else result.outcome
        self._line(f"{_sign(result.outcome)} {result.number}  {outcome}: {result.message}")

    def _detail(self, text: str) -> None:
        """Print a line about the present run."""
        self._line(self._indent(self._run) + text)

    def _indent(self, run: Run | None) -> str:
        return f"{run.intent.step.number} │ " if self._several and run is not None else "    "

    def _line(self, text: str) -> None:
        self._clear()
        self.out.write(clean_line(text) + "\n")
        self.out.flush()

    def _clear(self) -> None:
        if self.live:
            terminal_of(self.out).write("\r\x1b[K")
            self.out.flush()


def _sign(outcome: str) -> str:
    if outcome in set(Outcome):
        return OUTCOME_SIGNS[Outcome(outcome)].unicode
    return "⊘" if outcome == REFUSED else "○"


def stage_of(run: Run) -> tuple[str, float | None]:
    """The stage of a run that reports no phases, and how long its command has run in seconds.

    Only the runners report phases.
    """
    commands = run.status().commands
    if not commands or commands[-1].started_utc is None:
        return "starting", None
    if run.intent.server is not None and run.alive():
        return sentence(run), None
    if commands[-1].ended_utc is not None:
        over = len(commands) == len(run.intent.commands) or run.status().state is State.FINISHED
        return "ended, not yet judged" if over else "starting", None
    started = datetime.fromisoformat(commands[-1].started_utc)
    label = f" {commands[-1].label}" if len(run.intent.commands) > 1 else ""
    return f"running{label}", max((datetime.now(UTC) - started).total_seconds(), 0.0)


def describe(progress: Progress, stage: str) -> str:
    """One progress line: stage, bar, metrics."""
    parts = [stage]
    if progress.fraction is not None and progress.total is not None and progress.done is not None:
        filled = round(progress.fraction * 20)
        parts.append(f"[{'█' * filled}{'░' * (20 - filled)}] {progress.done:.0f}/{progress.total:.0f} {progress.unit}")
    for key, name, unit in SHOWN_METRICS:
        value = progress.metrics.get(key)
        if value is not None:
            parts.append(f"{name} {value:.1f} {unit}".rstrip())
    return "  ".join(parts)


def verdict_lines(verdict: Verdict) -> list[str]:
    """The gates of a verdict as aligned lines."""
    several = len({gate.line for gate in verdict.gates if gate.line is not None}) > 1
    names = [f"{gate.name} (line {gate.line})" if several and gate.line else gate.name for gate in verdict.gates]
    width = max(map(len, names), default=0)
    lines = []
    for name, gate in zip(names, verdict.gates, strict=True):
        reason = f"  {gate.reason}" if gate.reason and gate.outcome is not Outcome.PASS else ""
        sign = OUTCOME_SIGNS[gate.outcome].unicode
        lines.append(f"{sign} {name:<{width}}  {gate.measured}  (required: {gate.bound}){reason}")
    return lines
