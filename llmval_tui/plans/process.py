"""A plan: one or many steps in order, each proposed, run, judged, ticked and recorded; resumes where it stopped.

A plan is always a process of its own, `python -m llmval_tui.plans.process PLAN`, in a session of its own: a closed
line, Ctrl-C or the end of the dashboard cannot take it along. Its runs outlive it in turn; see `runs/supervisor.py`.
"""

import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Context, Options, Proposal
from llmval_tui.actions.registry import propose
from llmval_tui.actions.settle import settle, settle_all
from llmval_tui.actions.step_state import ticks
from llmval_tui.checklist.model import StepKey, load
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import read_json, take_lock, try_lock, write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.plans.client import context_for, exit_code_of, gpu_count_of
from llmval_tui.plans.records import (
    CANCEL_FILE,
    Plan,
    PlannedStep,
    PlanStatus,
    StepResult,
    workspace_lock,
)
from llmval_tui.runs import client
from llmval_tui.runs.inventory import (
    git_revision,
    gpu_inventory,
    host_inventory,
    recorded_environment,
    software_versions,
)
from llmval_tui.runs.records import Intent, Outcome, StepRef
from llmval_tui.runs.store import Run, RunStore, create_run, new_run_id


class PlanProcess:
    """The loop over the steps, in the plan's own process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.intent = plan.intent
        self.workspace = plan.folder.parents[2]
        self.store = RunStore(self.workspace)
        self.options = _options(self.intent.options)
        self.status = PlanStatus(identity=Identity.of(os.getpid()))
        self._stop: str | None = None

    def work(self) -> None:
        """Carry out every step; a step that fails does not stop those after it, a cancel does."""
        self.status.state = "running"
        self._save()
        inventory = gpu_inventory()
        for problem in settle_all(self.store):
            print(problem, flush=True)
        for planned in self.intent.steps:
            if self._cancel_asked():
                break
            self.status.current = planned.number
            self._save()
            try:
                result = self._carry_out(planned, inventory)
            except Refused as refusal:
                result = StepResult(planned.number, "refused", self.status.run_id, str(refusal))
            except Exception as error:  # noqa: BLE001  (a defect met in one step must not cost the night's other steps)
                traceback.print_exc()
                message = f"internal error: {type(error).__name__}: {error}; see {self.plan.folder / 'plan.log'}."
                result = StepResult(planned.number, "refused", self.status.run_id, message)
            if result is None:
                break
            self.status.results.append(result)
            self.status.run_id = None
            self._save()

    def finish(self, message: str | None = None) -> None:
        """The last word: nothing follows.

        Raises:
            Refused: it cannot be written, so that who watches will say that the plan did not reach its end.
        """
        self.status.cancelled = self._cancel_asked() is not None
        self.status.state, self.status.current, self.status.message = "finished", None, message
        write_json(self._status_file, self.status)

    def ask_to_stop(self, number: int, _frame: object) -> None:
        self._stop = signal.Signals(number).name

    def _carry_out(self, planned: PlannedStep, inventory: dict[str, Any]) -> StepResult | None:
        """One step from proposal to record; None where the plan was cancelled before it began."""
        checklist = load(self.workspace / self.intent.checklist)  # read anew: the operator may have edited it
        key = StepKey(planned.section, planned.text, planned.occurrence)
        step = checklist.find(key)
        if step is None:
            raise Refused(f"step {planned.number} ({planned.text[:60]}) is no longer in {checklist.path.name}.")
        if step.checked and not planned.checked and (backing := self._passed(key)):
            # A run that an earlier plan left behind has been settled since: it is the answer.
            return StepResult(step.number, Outcome.PASS.value, backing.id, "completed by a run found in flight", True)
        run = self._in_flight(key)
        if run is None:
            if not self._wait_for_others():
                return None
            context = context_for(checklist, step, self.workspace, self.options, gpu_count_of(inventory), self.store)
            proposal = propose(context)
            if proposal.refusal:
                return StepResult(step.number, "refused", None, proposal.refusal)
            run = create_run(self.store, self._freeze(context, proposal, inventory))
            self.status.run_id = run.id
            self._save()
            client.start(run)
        self.status.run_id = run.id
        self._save()
        while not client.wait(run, 0.2):
            if asker := self._cancel_asked():
                client.request_cancel(run, asker)
        verdict = settle(run, self.store)
        if verdict is None:
            raise Refused(f"{run.id} ended and cannot be judged; look at {run.folder}.")
        if run.status().cancelled and self._stop is None:
            self._stop = f"run {run.id} was cancelled"
        ticked = ticks(run, verdict)
        return StepResult(step.number, verdict.outcome.value, run.id, verdict.summary, ticked)

    def _wait_for_others(self) -> bool:
        """Wait for runs of other steps that an earlier plan left at work, and settle them; False on a cancel.

        Two runs at once would share GPUs, cores and perhaps an output's path, and neither's figures would be its own.
        """
        for other in self.store.active():
            print(f"waiting for {other.id}, which an earlier plan left at work", flush=True)
            while not client.wait(other, 0.2):
                if self._cancel_asked():
                    return False
            try:
                settle(other, self.store)
            except Refused as refusal:  # that run's own trouble, of which this step is not to suffer
                print(f"{other.id}: {refusal}", flush=True)
        return True

    def _in_flight(self, key: StepKey) -> Run | None:
        """A run of this step that an earlier plan left at work: it is waited for, not started twice.

        One with other options (a trial, say) is not what was asked for: it is waited for as any other.
        """
        return next((run for run in self._of_step(key) if run.alive() and self._as_wanted(run)), None)

    def _as_wanted(self, run: Run) -> bool:
        intent = run.intent
        return (intent.preset, intent.tick) == (self.options.preset, self.options.tick)

    def _passed(self, key: StepKey) -> Run | None:
        newest = next(iter(self._of_step(key)), None)
        verdict = newest.verdict() if newest else None
        return newest if newest and verdict and ticks(newest, verdict) else None

    def _of_step(self, key: StepKey) -> list[Run]:
        return self.store.of_step(*key, checklist=self.intent.checklist)

    def _freeze(self, context: Context, proposal: Proposal, inventory: dict[str, Any]) -> Intent:
        step = context.step
        return Intent(
            v=1,
            run_id=new_run_id(step.number),
            action=proposal.action,
            step=StepRef(step.number, *step.key, checklist=self.intent.checklist),
            commands=list(proposal.commands),
            cwd=str(self.workspace),
            created_utc=utc_iso(),
            artifacts=list(proposal.artifacts),
            tick=self.options.tick,
            preset=self.options.preset,
            deviations=list(proposal.deviations),
            telemetry=proposal.telemetry,
            params={**proposal.params, "demo": context.demo},
            plan_id=self.plan.id,
            host={**host_inventory(), "gpu": inventory},
            versions=self._versions(),
            git=git_revision(self.workspace),
            environment=recorded_environment(os.environ),
        )

    def _versions(self) -> dict[str, str]:
        python = self.options.runner_python or sys.executable
        try:
            return software_versions(python)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise Refused(f"{python} does not say its versions ({error}): name another by --runner-python.") from error

    def _cancel_asked(self) -> str | None:
        request = read_json(self.plan.folder / CANCEL_FILE)
        return str(request.get("by", "somebody")) if isinstance(request, dict) else self._stop

    @property
    def _status_file(self) -> Path:
        return self.plan.folder / "status.json"

    def _save(self) -> None:
        """Write how far the plan is; where that fails, go on: what it does is recorded with its runs."""
        try:
            write_json(self._status_file, self.status)
        except Refused as refusal:
            print(refusal, flush=True)


def _options(value: dict[str, Any]) -> Options:
    gpus = value.get("gpus")
    return Options(**{**value, "gpus": tuple(gpus) if gpus is not None else None})


def main(arguments: list[str] | None = None) -> int:
    """Be the process of one plan; 2 where another plan has the workspace."""
    folder = Path((arguments or sys.argv[1:])[0])
    for ignored in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    process = PlanProcess(Plan(folder))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, process.ask_to_stop)
    # Both locks last as long as this process: one for the workspace, one by which others see that the plan lives.
    try:
        held = take_lock(process.plan.lock) is not None and try_lock(workspace_lock(process.workspace)) is not None
    except Refused as refusal:
        process.finish(str(refusal))
        return ExitCode.REFUSED
    if not held:
        process.finish(f"another plan is at work on {process.workspace}: wait for it or end it with `llmval cancel`.")
        return ExitCode.REFUSED
    try:
        process.work()
        process.finish()
    except BaseException as error:
        process.finish(f"the plan stopped on an internal error: {type(error).__name__}: {error}")
        raise
    return exit_code_of(process.status.results, process.status.cancelled)


if __name__ == "__main__":
    raise SystemExit(main())
