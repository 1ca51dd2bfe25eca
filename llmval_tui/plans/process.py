"""The process of one plan: `python -m llmval_tui.plans.process PLAN`.

It proposes, runs, judges, ticks and records the steps in order. It has its own session, so that a closed connection,
Ctrl-C or the end of the dashboard does not end it. Its runs outlive it in turn; see `runs/supervisor.py`.
"""

import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Condition, Options
from llmval_tui.actions.reading.model import MANUAL
from llmval_tui.actions.registry import propose
from llmval_tui.actions.settle import settle, settle_all
from llmval_tui.actions.steps.yardstick import YARDSTICK, propose_yardstick
from llmval_tui.actions.tick_basis import ticks
from llmval_tui.actions.yardstick.evidence import judged_result
from llmval_tui.checklist.model import Step, load
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.fleet.compare import nodes_to_repeat, record_repeat
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import read_json, take_lock, write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.plans.client import context_for, gpu_count_of
from llmval_tui.plans.records import (
    BY_HAND,
    NOT_RUN,
    REFUSED,
    SKIPPED,
    Plan,
    PlannedStep,
    PlanStatus,
    StepResult,
    exit_code_of,
    recorded,
    workspace_lock,
)
from llmval_tui.plans.run_intents import intent_of, intent_of_repeat
from llmval_tui.runs import client
from llmval_tui.runs.create import create_run
from llmval_tui.runs.inventory import (
    gpu_inventory,
)
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.server_life import is_serving, request_stop, sentence
from llmval_tui.runs.store import Run, RunStore

_LAST_WORDS_S = 60.0  # for the supervisor of a server that has ended, to say why


class PlanProcess:
    """The loop over the steps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.intent = plan.intent
        self.workspace = plan.folder.parents[2]
        self.store = RunStore(self.workspace)
        self.options = _options(plan.options())
        self.status = PlanStatus(identity=Identity.of(os.getpid()))
        self._stop: str | None = None
        self._servers: dict[str, Run] = {}  # by the numbers of their steps

    def work(self) -> None:
        """Carry out every step. A failed step stops the next ones only if it was asked to; a cancel does."""
        self.status.state = "running"
        self._save()
        inventory = gpu_inventory()
        for problem in settle_all(self.store):
            print(problem, flush=True)
        try:
            self._carry_out_all(inventory)
        finally:
            self._end_servers()
        # Only now: our engine needs the memory that the servers held.
        for planned in self.intent.steps:
            if planned.yardstick and not self._cancelled_by():
                self._carry_out_yardstick(planned, inventory)

    def _carry_out_all(self, inventory: dict[str, Any]) -> None:
        for planned in self.intent.steps:
            self._end_servers(but_of=planned.section)
            if self._cancelled_by():
                break
            if reason := self._not_run(planned):
                self.status.results.append(StepResult(planned.number, NOT_RUN, None, reason))
                self._save()
                continue
            self.status.current = planned.number
            self._save()
            try:
                result = self._carry_out(planned, inventory)
            except Refused as refusal:
                result = StepResult(planned.number, REFUSED, self.status.run_id, str(refusal))
            except Exception as error:  # noqa: BLE001  (a defect in one step must not cost a night's other steps)
                traceback.print_exc()
                message = f"internal error: {type(error).__name__}: {error}; see {self.plan.folder / 'plan.log'}."
                result = StepResult(planned.number, REFUSED, self.status.run_id, message)
            if result is None and planned.number not in self._servers:
                break
            if result is not None:
                self.status.results.append(result)
            self.status.run_id = None
            self._save()

    def _carry_out_yardstick(self, planned: PlannedStep, inventory: dict[str, Any]) -> None:
        """Put our engine under the load that a step's server had, and record the result."""
        number = f"{planned.number} {YARDSTICK}"
        self.status.current = number
        try:
            result = self._yardstick(number, planned, inventory)
        except Refused as refusal:
            result = StepResult(number, REFUSED, None, str(refusal))
        self.status.results.append(result)
        self.status.run_id = None
        self._save()

    def _yardstick(self, number: str, planned: PlannedStep, inventory: dict[str, Any]) -> StepResult:
        ran = next((one for one in self.status.results if one.number == planned.number and one.run_id), None)
        load_run = self.store.get(ran.run_id) if ran is not None and ran.run_id is not None else None
        if load_run is None or not load_run.intent.servers or (found := judged_result(load_run)) is None:
            return StepResult(number, NOT_RUN, None, f"{planned.number} left no result of a load test")
        if not found.done:
            return StepResult(number, NOT_RUN, None, f"the server of {planned.number} completed no request")
        checklist = load(self.workspace / self.intent.checklist)
        step = checklist.find(StepKey(planned.section, planned.text, planned.occurrence))
        if step is None:
            raise Refused(f"step {planned.number} is no longer in {checklist.path.name}.")
        context = context_for(checklist, step, self.workspace, self.options, gpu_count_of(inventory), self.store)
        proposal = propose_yardstick(context, load_run, self.store.get(load_run.intent.servers[-1]))
        intent = intent_of(self.plan, context, proposal, inventory, ())
        # Not the item itself: the run neither ticks it nor counts as its newest one.
        reference = replace(intent.step, text=f"Yardstick of run {load_run.id}: {intent.step.text}")
        run = create_run(self.store, replace(intent, step=reference, tick=False, preset=load_run.intent.preset))
        self.status.run_id = run.id
        self._save()
        client.start(run)
        return self._result_of(number, run)

    def _not_run(self, planned: PlannedStep) -> str | None:
        """Why a step does not begin: an earlier one failed and ends the plan, or one that it rests on did not pass."""
        outcomes = {result.number: result.outcome for result in self.status.results}
        stops = {step.number for step in self.intent.steps if step.stops}
        if failed := next(
            (number for number in outcomes if number in stops and outcomes[number] == Outcome.FAIL), None
        ):
            return f"{failed} failed"
        for rest in planned.rests:
            if rest.condition == Condition.SERVES:
                dead = next((number for number in rest.numbers if not self._serves(number)), None)
                if dead is not None:
                    return f"it rests on the server of {dead}, which {self._why_not(dead)}"
                continue
            missing = [number for number in rest.numbers if outcomes.get(number) != Outcome.PASS]
            if rest.condition == Condition.PASSES and missing and (rest.every or len(missing) == len(rest.numbers)):
                return f"it rests on {missing[0]}, which {_in_words(outcomes.get(missing[0]))}"
        return None

    def finish(self, message: str | None = None) -> None:
        """Write the final status.

        Raises:
            Refused: it cannot be written; `llmval attach` then reports that the plan did not reach its end.
        """
        self.status.cancelled = self._cancelled_by() is not None
        self.status.state, self.status.current, self.status.message = "finished", None, message
        write_json(self._status_file, recorded(self.status))
        self.plan.forget_secrets()

    def ask_to_stop(self, number: int, _frame: object) -> None:
        self._stop = signal.Signals(number).name

    def _carry_out(self, planned: PlannedStep, inventory: dict[str, Any]) -> StepResult | None:
        """One step from proposal to record; None if the plan was cancelled before the step began."""
        checklist = load(self.workspace / self.intent.checklist)  # read again: the operator may have edited it
        step = checklist.find(StepKey(planned.section, planned.text, planned.occurrence))
        if step is None:
            raise Refused(f"step {planned.number} ({planned.text[:60]}) is no longer in {checklist.path.name}.")
        if step.checked and not planned.checked and planned.server is None and (backing := self._passed_run(step)):
            # A run of an earlier plan has been settled in the meantime: its verdict is the result.
            return StepResult(
                step.number, Outcome.PASS.value, backing.id, "completed by a run of an earlier plan", True
            )
        run = None if planned.server is not None else self._running_run(step)
        if run is None:
            if not self._wait_for_other_runs():
                return None
            context = context_for(checklist, step, self.workspace, self.options, gpu_count_of(inventory), self.store)
            if planned.server is not None:
                self._end_servers_at(planned.server)
            proposal = propose(context)
            if proposal.action == MANUAL:
                return StepResult(step.number, BY_HAND, None, proposal.refusal or proposal.summary)
            if proposal.refusal:
                return StepResult(step.number, SKIPPED if proposal.is_skip else REFUSED, None, proposal.refusal)
            if proposal.unreviewed:  # the list, a script or the answers changed after the plan was made
                return StepResult(step.number, REFUSED, None, f"{proposal.unreviewed} It was not started.")
            intent = intent_of(self.plan, context, proposal, inventory, self._servers_of(planned))
            run = create_run(self.store, intent)
            self.status.run_id = run.id
            self._save()
            client.start(run)
        self.status.run_id = run.id
        self._save()
        if run.intent.server is not None:
            return self._wait_until_ready(planned, run)
        return self._result_of(step.number, run)

    def _result_of(self, number: str, run: Run) -> StepResult:
        """Wait for the end of a run, settle it, and give its result."""
        while not client.wait(run, 0.2):
            if requester := self._cancelled_by():
                client.request_cancel(run, requester)
        if run.intent.launcher is not None:
            self._measure_again(number, run)
        verdict = settle(run, self.store)
        if verdict is None:
            raise Refused(f"{run.id} ended and cannot be judged; see {run.folder}.")
        if (run.status().cancelled or run.cancelled_by()) and self._stop is None:
            self._stop = f"run {run.id} was cancelled"
        if (refused := run.refused()) is not None and verdict.outcome is not Outcome.PASS:
            return StepResult(number, REFUSED, run.id, refused)  # nothing was started on any node
        ticked = ticks(run, verdict)
        return StepResult(number, verdict.outcome.value, run.id, verdict.summary, ticked)

    def _measure_again(self, number: str, run: Run) -> None:
        """Measure suspected nodes again beside nodes at the median, before the run is judged."""
        nodes = nodes_to_repeat(run)
        if not nodes or self._cancelled_by():
            return
        again = create_run(self.store, intent_of_repeat(run, nodes))
        record_repeat(run, again)
        client.start(again)
        self._result_of(number, again)

    def _wait_until_ready(self, planned: PlannedStep, run: Run) -> StepResult | None:
        """Wait until a server is ready, and keep it: None. If it ended instead, its result."""
        while not is_serving(run):
            if client.wait(run, 0.2):
                return self._result_of(planned.number, run)
            if requester := self._cancelled_by():
                client.request_cancel(run, requester)
        print(f"{planned.number}: {sentence(run)}", flush=True)
        self._servers[planned.number] = run
        return None

    def _servers_of(self, planned: PlannedStep) -> list[Run]:
        """The servers that a step rests on, and that have not been ended."""
        numbers = [number for rest in planned.rests if rest.condition == Condition.SERVES for number in rest.numbers]
        return [self._servers[number] for number in numbers if number in self._servers]

    def _serves(self, number: str) -> bool:
        return number in self._servers and is_serving(self._servers[number])

    def _why_not(self, number: str) -> str:
        """Why a server does not serve, with a line of its log."""
        run = self._servers.get(number)
        if run is None:
            result = next((one for one in self.status.results if one.number == number), None)
            ended = Run(self.store.root / result.run_id).status().server if result and result.run_id else None
            why = f" ({ended.problem})" if ended is not None and ended.problem else ""
            return _in_words(result.outcome if result else None) + why
        client.wait(run, _LAST_WORDS_S)  # its supervisor sees the end of its process in a moment
        return f"is no longer there ({sentence(run)})"

    def _end_servers(self, but_of: str | None = None) -> None:
        """End the servers of all sections but one, and give the results of those that have ended.

        A cancel of the plan cancels them: then it is not known whether they would have lived to the end.
        """
        for number, run in list(self._servers.items()):
            if not run.alive() or run.intent.step.section != but_of or self._cancelled_by():
                self._end_server(number, run, "the end of its section" if but_of is not None else "the end of its plan")

    def _end_servers_at(self, address: str) -> None:
        """Make room for a server at this address; "" is any."""
        for number, run in list(self._servers.items()):
            if not address or (run.intent.server is not None and run.intent.server.url == address):
                self._end_server(number, run, "the start of another server")

    def _end_server(self, number: str, run: Run, by: str) -> None:
        try:
            if run.alive() and (requester := self._cancelled_by()):
                client.request_cancel(run, requester)
            elif run.alive():
                request_stop(run, by)
            result = self._result_of(number, run)
        except Refused as refusal:
            result = StepResult(number, REFUSED, run.id, str(refusal))
        del self._servers[number]
        self.status.results.append(result)
        self._save()

    def _wait_for_other_runs(self) -> bool:
        """Wait for running runs of an earlier plan, and settle them; returns False on a cancel.

        Two runs at once would share GPUs, cores and perhaps an output path, and disturb each other's measurement.
        """
        own = {run.id for run in self._servers.values()}
        for other in (run for run in self.store.active() if run.id not in own):
            print(f"waiting for {other.id}, a running run of an earlier plan", flush=True)
            while not client.wait(other, 0.2):
                if self._cancelled_by():
                    return False
            try:
                settle(other, self.store)
            except Refused as refusal:  # a problem of that run, not of this step
                print(f"{other.id}: {refusal}", flush=True)
        return True

    def _running_run(self, step: Step) -> Run | None:
        """A running run of this step from an earlier plan: the plan waits for it and does not start a second one.

        A run with other options (a trial, say) does not count; the plan waits for it as for any other run.
        """
        return next((run for run in self._runs_of_step(step) if run.alive() and self._has_our_options(run)), None)

    def _has_our_options(self, run: Run) -> bool:
        intent = run.intent
        return (intent.preset, intent.tick) == (self.options.preset, self.options.tick)

    def _passed_run(self, step: Step) -> Run | None:
        newest = next(iter(self._runs_of_step(step)), None)
        verdict = newest.verdict() if newest else None
        return newest if newest and verdict and ticks(newest, verdict) else None

    def _runs_of_step(self, step: Step) -> list[Run]:
        return self.store.of_step(step.keys_in_records, checklist=self.intent.checklist)

    def _cancelled_by(self) -> str | None:
        request = read_json(self.plan.cancel_file)
        return str(request.get("by", "somebody")) if isinstance(request, dict) else self._stop

    @property
    def _status_file(self) -> Path:
        return self.plan.folder / "status.json"

    def _save(self) -> None:
        """Write the plan's progress. If that fails, go on: its runs have their own records."""
        try:
            write_json(self._status_file, recorded(self.status))
        except Refused as refusal:
            print(refusal, flush=True)


def _in_words(outcome: str | None) -> str:
    words = {
        Outcome.FAIL.value: "failed",
        REFUSED: "was refused",
        NOT_RUN: "was not run",
        SKIPPED: "was skipped",
        None: "has no result",
    }
    return words.get(outcome, f"is {outcome}")


def _options(value: dict[str, Any]) -> Options:
    gpus = value.get("gpus")
    confirmed = tuple(value.get("confirmed", ()))
    given = {**value, "gpus": tuple(gpus) if gpus is not None else None, "confirmed": confirmed}
    return Options(**{**given, "slurm_options": tuple(value.get("slurm_options", ()))})


def main(arguments: list[str] | None = None) -> int:
    """Run the process of one plan; returns 2 if another plan holds the workspace."""
    folder = Path((arguments or sys.argv[1:])[0])
    for ignored in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    process = PlanProcess(Plan(folder))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, process.ask_to_stop)
    # This process holds both locks until it ends: the workspace's, and the one that shows that the plan is alive. In
    # this order, a plan that is refused never looks like the one at work.
    try:
        locked = take_lock(workspace_lock(process.workspace)) is not None and take_lock(process.plan.lock) is not None
    except Refused as refusal:
        process.finish(str(refusal))
        return ExitCode.REFUSED
    if not locked:
        process.finish(f"another plan is working on {process.workspace}: wait for it or end it with `llmval cancel`.")
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
