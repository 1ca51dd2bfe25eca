"""Watching a plan from a terminal, a pipe or a script: lines that say what happens, on a terminal one live line."""

import shutil
import signal
import time
from datetime import UTC, datetime
from typing import TextIO

from llmval_tui.actions.step_state import ticks
from llmval_tui.plans.process import cancel_plan
from llmval_tui.plans.records import Plan, PlanStatus, StepResult
from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.records import Outcome, Verdict
from llmval_tui.runs.store import Run, RunStore, same_step
from llmval_tui.terminal.format import duration
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS

# The figures worth a line, in this order, with the name people use.
SHOWN = (
    ("offered_qps", "offered", "QPS"),
    ("completed_qps", "completed", "QPS"),
    ("output_tokens_per_s", "output", "tok/s"),
    ("ttft_p50_ms", "TTFT p50", "ms"),
    ("ttft_p99_ms", "p99", "ms"),
    ("tpot_p50_ms", "TPOT p50", "ms"),
    ("queued", "queued", ""),
)
QUIET_INTERVAL_S = 5.0  # between progress lines where there is no live line


def standing(plan: Plan, store: RunStore) -> PlanStatus:
    """How a plan that has ended stands: what it wrote, and of one that was killed also what its runs came to since."""
    status = plan.status()
    if status.state == "finished":
        return status
    runs = [run for run in store.runs() if is_of(run, plan, status)]
    for step in plan.intent.steps[len(status.results) :]:
        key = (step.section, step.text, step.occurrence)
        run = next((run for run in runs if same_step(run.intent.step, *key)), None)
        if run is not None and (verdict := run.verdict()) is not None:
            ticked = ticks(run, verdict)
            status.results.append(StepResult(step.number, verdict.outcome.value, run.id, verdict.summary, ticked))
    return status


def is_of(run: Run, plan: Plan, status: PlanStatus) -> bool:
    """Whether a plan made a run, or found it at work and waited for it."""
    return run.intent.plan_id == plan.id or run.id == status.run_id


class Follower:
    """Prints a plan's course until its end; Ctrl-C asks the plan to stop, once."""

    def __init__(self, plan: Plan, store: RunStore, out: TextIO) -> None:
        self.plan = plan
        self.store = store
        self.out = out
        self.live = out.isatty()
        self._events: EventFollower | None = None
        self._run: Run | None = None
        self._printed = 0
        self._step: str | None = None
        self._phase: str | None = None
        self._next_line = 0.0
        self._interrupts = 0

    def follow(self) -> None:
        """Until the plan has ended; a second Ctrl-C stops watching and leaves the plan to its end."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            while True:
                alive = self.plan.alive()  # before the look, so that the last word is seen
                self._look(alive=alive)
                if not alive or self._interrupts > 1:
                    break
                time.sleep(0.2)
        finally:
            signal.signal(signal.SIGINT, before)
            self._clear()

    def _interrupted(self, _number: int, _frame: object) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._line("stopping: the run gets SIGINT, then SIGTERM, then SIGKILL; Ctrl-C again to stop watching only")
            cancel_plan(self.plan, "Ctrl-C")

    def _look(self, *, alive: bool) -> None:
        status = self.plan.status() if alive else standing(self.plan, self.store)
        if status.run_id and (self._run is None or self._run.id != status.run_id):
            self._run = self.store.get(status.run_id)
            self._events, self._phase = EventFollower(self._run.events), None
            intent = self._run.intent
            self._line(f"▸ {intent.step.number}  {intent.action}  run {self._run.id}")
            for command in intent.commands:
                self._line(f"    $ {command.display}")
            for deviation in intent.deviations:
                self._line(f"    deviation: {deviation}")
        if self._events is not None:
            problems = len(self._events.progress.problems)
            self._events.poll()
            for problem in self._events.progress.problems[problems:]:
                self._line(f"    ! {problem}")
            killed = not alive and status.state != "finished"
            if self._run is not None and (not killed or self._run.alive()):
                self._show(self._run, self._events.progress)
        for result in status.results[self._printed :]:
            self._result(result)
            self._printed += 1

    def _show(self, run: Run, progress: Progress) -> None:
        stage, elapsed_s = (progress.phase, None) if progress.phase else stage_of(run)
        text = describe(progress, stage if elapsed_s is None else f"{stage} {duration(elapsed_s)}")
        if self.live:
            width = shutil.get_terminal_size().columns
            self.out.write("\r\x1b[K" + f"    {text}"[: width - 1])
            self.out.flush()
        elif stage != self._phase or (text and time.monotonic() >= self._next_line):
            self._phase = stage
            self._next_line = time.monotonic() + QUIET_INTERVAL_S
            if text:
                self._line(f"    {text}")

    def _result(self, result: StepResult) -> None:
        if self._events is not None:
            self._events.poll()
        self._events = None
        if result.run_id is None:
            self._line(f"{_mark(result.outcome)} {result.number}  {result.outcome}: {result.message}")
            return
        verdict = self.store.get(result.run_id).verdict()
        if verdict is not None:
            for line in verdict_lines(verdict):
                self._line(f"    {line}")
        word = f"{result.outcome}, ticked" if result.ticked else result.outcome
        self._line(f"{_mark(result.outcome)} {result.number}  {word}: {result.message}")

    def _line(self, text: str) -> None:
        self._clear()
        self.out.write(text + "\n")
        self.out.flush()

    def _clear(self) -> None:
        if self.live:
            self.out.write("\r\x1b[K")
            self.out.flush()


def _mark(outcome: str) -> str:
    return OUTCOME_SIGNS[Outcome(outcome)].unicode if outcome in set(Outcome) else "⊘"


def stage_of(run: Run) -> tuple[str, float | None]:
    """What a run is at of which no phase is known, as of a command that is none of the runners, and for how long."""
    commands = run.status().commands
    if not commands or commands[-1].started_utc is None:
        return "starting", None
    if commands[-1].ended_utc is not None:
        return "ended, to be judged" if len(commands) == len(run.intent.commands) else "starting", None
    began = datetime.fromisoformat(commands[-1].started_utc)
    label = f" {commands[-1].label}" if len(run.intent.commands) > 1 else ""
    return f"running{label}", max((datetime.now(UTC) - began).total_seconds(), 0.0)


def describe(progress: Progress, stage: str) -> str:
    """A run's progress in one line: phase or other stage, bar, figures."""
    parts = [stage]
    if progress.fraction is not None and progress.total is not None and progress.done is not None:
        filled = round(progress.fraction * 20)
        parts.append(f"[{'█' * filled}{'░' * (20 - filled)}] {progress.done:.0f}/{progress.total:.0f} {progress.unit}")
    for key, name, unit in SHOWN:
        value = progress.metrics.get(key)
        if value is not None:
            parts.append(f"{name} {value:.1f} {unit}".rstrip())
    return "  ".join(parts)


def verdict_lines(verdict: Verdict) -> list[str]:
    """The gates of a verdict, a line each, aligned."""
    width = max((len(gate.name) for gate in verdict.gates), default=0)
    lines = []
    for gate in verdict.gates:
        reason = f"  {gate.reason}" if gate.reason and gate.outcome is not Outcome.PASS else ""
        sign = OUTCOME_SIGNS[gate.outcome].unicode
        lines.append(f"{sign} {gate.name:<{width}}  {gate.measured}  (asked: {gate.bound}){reason}")
    return lines
