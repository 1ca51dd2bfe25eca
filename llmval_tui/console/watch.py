"""`watch`: what happens, in plain lines: for screen readers, dumb terminals, pipes. It looks and never interferes."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_tui.console.follow import SHOWN, stage_of
from llmval_tui.console.options import workspace_of
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.foundation.files import to_json
from llmval_tui.foundation.text import clean_line, utc_iso
from llmval_tui.plans.records import Plan, active_plan
from llmval_tui.runs.events import EventFollower, Progress
from llmval_tui.runs.records import Outcome, Verdict
from llmval_tui.runs.store import Run, RunStore

LOOK_S = 0.5  # between looks at the files
SILENCE_S = 30.0  # the runners give a sign of life every second
JUDGED_WITHIN_S = 10.0  # a run without a plan may be judged by nobody; no longer is it waited for


def watch(options: argparse.Namespace) -> int:
    """Say what changes until the work ends; Ctrl-C stops the watching and leaves the run alone."""
    watcher = Watcher(workspace_of(options), every_s=options.every, as_json=options.json)
    try:
        watcher.until_the_end()
    except KeyboardInterrupt:
        watcher.say("stopped", "Stopped watching. The run goes on; llmval watch shows it again.")
        return ExitCode.INTERRUPTED
    return ExitCode.PASSED


@dataclass(slots=True)
class _Watched:
    """One run as far as it has been told."""

    run: Run
    events: EventFollower
    phase: str | None = None
    state: str | None = None
    next_progress: float = 0.0
    ended_at: float | None = None
    done: bool = False


class Watcher:
    """Looks at a workspace's work and writes one whole line for each thing that changed.

    Args:
        every_s: between two lines of progress of a run.
        as_json: each line as a JSON object with `t_utc`, `kind`, `text` and what it is about.
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

    def until_the_end(self) -> None:
        """Until nothing is at work any more."""
        self.plan = active_plan(self.workspace)
        active = self.store.active()
        if self.plan is None and not active:
            self.say("idle", "Nothing is at work here. Start something with llmval run, then watch it.")
            return
        if self.plan is not None:
            steps = ", ".join(step.number for step in self.plan.intent.steps)
            word = "step" if len(self.plan.intent.steps) == 1 else "steps"
            self.say("plan", f"Plan {self.plan.id} is at work on {word} {steps}.", plan_id=self.plan.id)
        for run in reversed(active):
            self._begin(run)
        while True:
            # Before the look, so that the last word of whatever ends now is still read.
            alive = self.plan is not None and self.plan.alive()
            self._look_at_plan()
            for watched in self._watched.values():
                self._look_at_run(watched)
            if not alive and all(watched.done for watched in self._watched.values()):
                break
            time.sleep(LOOK_S)
        self._look_at_plan()
        self.say("end", f"The work has ended at {utc_iso()}.")

    def say(self, kind: str, text: str, **about: Any) -> None:
        """One line; never a cursor movement, never half a line."""
        text = clean_line(text)
        if self.as_json:
            line = to_json({"t_utc": utc_iso(), "kind": kind, "text": text, **about}).decode()
        else:
            line = text + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()

    def _begin(self, run: Run) -> None:
        if run.id in self._watched:
            return
        self._watched[run.id] = _Watched(run, EventFollower(run.events))
        intent = run.intent
        self.say("run", f"Step {intent.step.number}: run {run.id} started {intent.created_utc}.", run_id=run.id)
        for command in intent.commands:
            self.say("command", f"Command: {command.display}", run_id=run.id)
        for deviation in intent.deviations:
            self.say("deviation", f"Deviation from the item: {deviation}", run_id=run.id)

    def _look_at_plan(self) -> None:
        if self.plan is None:
            return
        status = self.plan.status()
        if status.run_id:
            self._begin(self.store.get(status.run_id))
        if status.cancelled and not self._cancelling:
            self._cancelling = True
            self.say("cancelling", "The plan was asked to stop.")
        for result in status.results[self._results :]:
            if result.run_id:
                watched = self._watched.get(result.run_id)
                if watched is None:  # over before it was ever seen at work
                    self._begin(self.store.get(result.run_id))
                    watched = self._watched[result.run_id]
                self._look_at_run(watched)
            ticked = ", and the item is ticked" if result.ticked else ""
            # A run's own sentence was told with its verdict.
            message = f": {result.message}" if result.message and not result.run_id else "."
            self.say("result", f"Step {result.number}: {result.outcome}{ticked}{message}", step=result.number)
        self._results = len(status.results)
        if status.message and status.message != self._message:
            self._message = status.message
            self.say("plan", f"The plan says: {status.message}")

    def _look_at_run(self, watched: _Watched) -> None:
        if watched.done:
            return
        run = watched.run
        state = run.state()  # before the events, so that the last of them is read
        for event in watched.events.poll():
            self._event(watched, event)
        self._progress(watched)
        if state.value != watched.state:
            watched.state = state.value
            self.say("state", f"Step {run.intent.step.number} is {state.value}.", run_id=run.id, state=state.value)
        verdict = run.verdict()
        if verdict is not None:
            watched.done = True
            self._verdict(run, verdict)
        elif state.value in ("finished", "lost"):
            self._wait_for_judgement(watched)

    def _wait_for_judgement(self, watched: _Watched) -> None:
        now = time.monotonic()
        watched.ended_at = watched.ended_at or now
        planned = self.plan is not None and self.plan.alive()
        if not planned and now - watched.ended_at > JUDGED_WITHIN_S:
            watched.done = True
            self.say("unjudged", f"Run {watched.run.id} has ended and is not judged: llmval status judges it.")

    def _event(self, watched: _Watched, event: dict[str, Any]) -> None:
        data, number = event["data"], watched.run.intent.step.number
        if event.get("kind") == "phase" and data.get("name") != watched.phase:
            watched.phase = str(data.get("name"))
            message = f": {data['message']}" if data.get("message") else ""
            self.say("phase", f"Step {number}: phase {watched.phase}{message}", phase=clean_line(watched.phase))
            watched.next_progress = time.monotonic() + self.every_s
        elif event.get("kind") in ("warning", "error"):
            text = f"{event['kind']} from rank {event.get('rank')}: {data.get('message') or data.get('code')}"
            self.say(event["kind"], f"Step {number}: {text}")

    def _progress(self, watched: _Watched) -> None:
        now = time.monotonic()
        progress = watched.events.progress
        if now < watched.next_progress:
            return
        if progress.phase is None:
            stage, elapsed_s = stage_of(watched.run)
            if elapsed_s is not None and elapsed_s >= self.every_s:  # that it runs at all was just told as its state
                watched.next_progress = now + self.every_s
                spoken = f"{elapsed_s:.0f} seconds" if elapsed_s < 120 else f"{elapsed_s / 60:.0f} minutes"
                self.say("progress", f"Step {watched.run.intent.step.number}: {stage} for {spoken}")
            return
        watched.next_progress = now + self.every_s
        silent_s = (time.time_ns() - progress.last_t_ns) / 1e9 if progress.last_t_ns else 0.0
        text = in_words(progress)
        if silent_s > SILENCE_S:
            text = f"no news from the run for {silent_s:.0f} seconds"
        if text:
            figures = {"fraction": progress.fraction, "metrics": progress.metrics}
            self.say("progress", f"Step {watched.run.intent.step.number}: {text}", **figures)

    def _verdict(self, run: Run, verdict: Verdict) -> None:
        number = run.intent.step.number
        passed = sum(gate.outcome is Outcome.PASS for gate in verdict.gates)
        self.say(
            "verdict",
            f"Step {number}: verdict {verdict.outcome.value}, {passed} of {len(verdict.gates)} gates passed. "
            f"{verdict.summary}",
            run_id=run.id,
            outcome=verdict.outcome.value,
        )
        for gate in verdict.gates:
            if gate.outcome is not Outcome.PASS:
                reason = f". Reason: {gate.reason}" if gate.reason else ""
                text = f"gate {gate.name}: {gate.outcome.value}. Measured {gate.measured}; asked {gate.bound}{reason}"
                self.say("gate", f"Step {number}: {text}", outcome=gate.outcome.value)
        for item in verdict.evidence:
            self.say("evidence", f"Step {number}: evidence {item.path}, SHA-256 {item.sha256}", path=item.path)
        if verdict.question is not None:
            asked = verdict.question.get("text") or "the run asks for a decision"
            self.say("question", f"Step {number}: {asked} Answer with llmval accept {run.id}.")


def in_words(progress: Progress) -> str:
    """A run's progress as a phrase that can be read aloud; empty where nothing is known yet."""
    parts = []
    if progress.done is not None and progress.total:
        share = f", {progress.fraction:.0%}" if progress.fraction is not None else ""
        parts.append(f"{progress.done:.0f} of {progress.total:.0f} {progress.unit}{share}".strip())
    for key, name, unit in SHOWN:
        value = progress.metrics.get(key)
        if value is not None:
            # `p99` alone stands beside its median on a live line; read aloud it needs its own name.
            spoken = "TTFT p99" if key == "ttft_p99_ms" else name
            parts.append(f"{spoken} {value:.1f} {unit}".strip())
    return ", ".join(parts)
