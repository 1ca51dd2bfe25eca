"""`watch`: prints what happens as plain lines, for screen readers, dumb terminals and pipes. It only reads."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_tui.console.follow import SHOWN_METRICS, stage_of
from llmval_tui.console.options import workspace_of
from llmval_tui.export.sources import Sources
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.foundation.files import is_locked, to_json
from llmval_tui.foundation.text import clean_line, utc_iso
from llmval_tui.plans.records import Plan, active_plan
from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.hindrances import Hindrance, HindranceWatch
from llmval_tui.runs.records import Outcome, Verdict
from llmval_tui.runs.store import Run, RunStore, plan_lock

POLL_S = 0.5
SILENCE_S = 30.0  # the runners write an event every second
JUDGED_WITHIN_S = 10.0  # longest wait for a verdict: a run without a plan may never be judged


def watch(options: argparse.Namespace) -> int:
    """Print changes until nothing runs any more. Ctrl-C stops the watching, not the run."""
    workspace = workspace_of(options)
    with Sources(workspace) as sources:
        named = [sources.run(name)[1] for name in options.runs]
        watcher = Watcher(workspace, every_s=options.every, as_json=options.json)
        try:
            watcher.watch(named)
        except KeyboardInterrupt:
            watcher.write_line("stopped", "Stopped watching. The run goes on; llmval watch shows it again.")
            return ExitCode.INTERRUPTED
    return ExitCode.PASSED


@dataclass(slots=True)
class _Watched:
    """A run and what was already printed about it."""

    run: Run
    events: EventFollower
    phase: str | None = None
    state: str | None = None
    next_progress: float = 0.0
    ended_at: float | None = None
    done: bool = False


class Watcher:
    """Polls the plan and the runs of a workspace and prints one line for each change.

    Args:
        every_s: seconds between progress lines of a run.
        as_json: print each line as a JSON object with `t_utc`, `kind`, `text` and details.
    """

    def __init__(self, workspace: Path, *, every_s: float, as_json: bool) -> None:
        self.workspace = workspace
        self.store = RunStore(workspace)
        self.every_s = every_s
        self.as_json = as_json
        self.plan: Plan | None = None
        self._results = 0
        self._cancelling = False
        self._message: str | None = None
        self._watched: dict[str, _Watched] = {}
        self._hindrances = HindranceWatch(workspace)
        self._named: set[Hindrance] = set()

    def watch(self, named: Sequence[Run] = ()) -> None:
        """Print until nothing runs any more, or until these runs have ended; of an ended run, print its records."""
        self.plan = None if named else active_plan(self.workspace)
        active = list(named[::-1]) or self.store.active()
        if self.plan is None and not active:
            self.write_line("idle", "Nothing is running here. Start something with llmval run, then watch it.")
            return
        if self.plan is not None:
            steps = ", ".join(step.number for step in self.plan.intent.steps)
            noun = "step" if len(self.plan.intent.steps) == 1 else "steps"
            self.write_line("plan", f"Plan {self.plan.id} is running {noun} {steps}.", plan_id=self.plan.id)
        for run in reversed(active):
            self._begin(run)
        while True:
            # Before reading, so that the final state is not missed.
            alive = self.plan is not None and self.plan.alive()
            self._update_plan()
            for watched in self._watched.values():
                self._update_run(watched)
            for hindrance in self._hindrances.look([one.run for one in self._watched.values() if not one.done]):
                if hindrance not in self._named:
                    self._named.add(hindrance)
                    self.write_line("held up", f"Held up: {hindrance.sentence}")
            if not alive and all(watched.done for watched in self._watched.values()):
                break
            time.sleep(POLL_S)
        self._update_plan()
        self.write_line("end", f"Everything has ended at {utc_iso()}.")

    def write_line(self, kind: str, text: str, **details: Any) -> None:
        """Print one complete line, without control characters."""
        text = clean_line(text)
        if self.as_json:
            line = to_json({"t_utc": utc_iso(), "kind": kind, "text": text, **details}).decode()
        else:
            line = text + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()

    def _begin(self, run: Run) -> None:
        if run.id in self._watched:
            return
        self._watched[run.id] = _Watched(run, EventFollower(run.events))
        intent = run.intent
        self.write_line("run", f"Step {intent.step.number}: run {run.id} started {intent.created_utc}.", run_id=run.id)
        for command in intent.commands:
            self.write_line("command", f"Command: {command.display}", run_id=run.id)
        for deviation in intent.deviations:
            self.write_line("deviation", f"Deviation from the item: {deviation}", run_id=run.id)

    def _update_plan(self) -> None:
        if self.plan is None:
            return
        status = self.plan.status()
        if status.run_id:
            self._begin(self.store.get(status.run_id))
        if status.cancelled and not self._cancelling:
            self._cancelling = True
            self.write_line("cancelling", "The plan was asked to stop.")
        for result in status.results[self._results :]:
            if result.run_id:
                watched = self._watched.get(result.run_id)
                if watched is None:  # it ended between two polls
                    self._begin(self.store.get(result.run_id))
                    watched = self._watched[result.run_id]
                self._update_run(watched)
            ticked = ", and the item is ticked" if result.ticked else ""
            # The message of a run was printed with its verdict.
            message = f": {result.message}" if result.message and not result.run_id else "."
            self.write_line("result", f"Step {result.number}: {result.outcome}{ticked}{message}", step=result.number)
        self._results = len(status.results)
        if status.message and status.message != self._message:
            self._message = status.message
            self.write_line("plan", f"The plan says: {status.message}")

    def _update_run(self, watched: _Watched) -> None:
        if watched.done:
            return
        run = watched.run
        state = run.state()  # before the events, so that the last one is not missed
        for event in watched.events.poll():
            self._event(watched, event)
        self._progress(watched)
        if state.value != watched.state:
            watched.state = state.value
            self.write_line(
                "state", f"Step {run.intent.step.number} is {state.value}.", run_id=run.id, state=state.value
            )
        verdict = run.verdict()
        if verdict is not None:
            watched.done = True
            self._verdict(run, verdict)
        elif state.value in ("finished", "lost"):
            self._wait_for_verdict(watched)

    def _wait_for_verdict(self, watched: _Watched) -> None:
        now = time.monotonic()
        watched.ended_at = watched.ended_at or now
        plan_id = watched.run.intent.plan_id
        has_plan = plan_id is not None and is_locked(plan_lock(watched.run.workspace, plan_id))
        own = watched.run.workspace == self.workspace
        if not has_plan and (not own or now - watched.ended_at > JUDGED_WITHIN_S):
            watched.done = True
            self.write_line(
                "unjudged",
                f"Run {watched.run.id} has ended without a verdict: llmval status judges it in its workspace.",
            )

    def _event(self, watched: _Watched, event: dict[str, Any]) -> None:
        data, number = event["data"], watched.run.intent.step.number
        if event.get("kind") == "phase" and data.get("name") != watched.phase:
            watched.phase = str(data.get("name"))
            message = f": {data['message']}" if data.get("message") else ""
            self.write_line("phase", f"Step {number}: phase {watched.phase}{message}", phase=clean_line(watched.phase))
            watched.next_progress = time.monotonic() + self.every_s
        elif event.get("kind") in ("warning", "error"):
            text = f"{event['kind']} from rank {event.get('rank')}: {data.get('message') or data.get('code')}"
            self.write_line(event["kind"], f"Step {number}: {text}")

    def _progress(self, watched: _Watched) -> None:
        now = time.monotonic()
        progress = watched.events.progress
        if now < watched.next_progress:
            return
        if progress.phase is None:
            stage, elapsed_s = stage_of(watched.run)
            if elapsed_s is not None and elapsed_s >= self.every_s:  # the state line has just said that it runs
                watched.next_progress = now + self.every_s
                length = f"{elapsed_s:.0f} seconds" if elapsed_s < 120 else f"{elapsed_s / 60:.0f} minutes"
                self.write_line("progress", f"Step {watched.run.intent.step.number}: {stage} for {length}")
            return
        watched.next_progress = now + self.every_s
        silent_s = (time.time_ns() - progress.last_t_ns) / 1e9 if progress.last_t_ns else 0.0
        text = describe_progress(progress)
        if silent_s > SILENCE_S:
            text = f"no news from the run for {silent_s:.0f} seconds"
        if text:
            figures = {"fraction": progress.fraction, "metrics": progress.metrics}
            self.write_line("progress", f"Step {watched.run.intent.step.number}: {text}", **figures)

    def _verdict(self, run: Run, verdict: Verdict) -> None:
        number = run.intent.step.number
        passed = sum(gate.outcome is Outcome.PASS for gate in verdict.gates)
        self.write_line(
            "verdict",
            f"Step {number}: verdict {verdict.outcome.value}, {passed} of {len(verdict.gates)} gates passed. "
            f"{verdict.summary}",
            run_id=run.id,
            outcome=verdict.outcome.value,
        )
        for gate in verdict.gates:
            if gate.outcome is not Outcome.PASS:
                reason = f". Reason: {gate.reason}" if gate.reason else ""
                text = (
                    f"gate {gate.name}: {gate.outcome.value}. Measured {gate.measured}; required {gate.bound}{reason}"
                )
                self.write_line("gate", f"Step {number}: {text}", outcome=gate.outcome.value)
        for item in verdict.evidence:
            self.write_line("evidence", f"Step {number}: evidence {item.path}, SHA-256 {item.sha256}", path=item.path)
        if verdict.question is not None:
            question = verdict.question.get("text") or "the run needs a decision"
            self.write_line("question", f"Step {number}: {question} Answer with llmval accept {run.id}.")


def describe_progress(progress: Progress) -> str:
    """A run's progress as a phrase that can be read aloud; empty if nothing is known yet."""
    parts = []
    if progress.done is not None and progress.total:
        share = f", {progress.fraction:.0%}" if progress.fraction is not None else ""
        parts.append(f"{progress.done:.0f} of {progress.total:.0f} {progress.unit}{share}".strip())
    for key, name, unit in SHOWN_METRICS:
        value = progress.metrics.get(key)
        if value is not None:
            # On a live line `p99` follows its median; read aloud it needs its full name.
            label = "TTFT p99" if key == "ttft_p99_ms" else name
            parts.append(f"{label} {value:.1f} {unit}".strip())
    return ", ".join(parts)
