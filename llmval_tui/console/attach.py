"""`attach` and `cancel`: watch and stop plans. `run` watches the plan that it has started in the same way."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.console.follow import Follower, belongs_to, settled_status
from llmval_tui.console.options import (
    config_or_error,
    print_object,
    print_result,
    refuse_readonly,
    suggested,
    workspace_of,
)
from llmval_tui.console.status import print_table
from llmval_tui.console.stdio import terminal_of
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.plans.records import Plan, PlanStatus, StepResult, active_plan, cancel_plan, exit_code_of, plans
from llmval_tui.runs import client
from llmval_tui.runs.records import SEVERITY, Outcome
from llmval_tui.runs.store import RunStore

if TYPE_CHECKING:
    from llmval_tui.config import ConfigFile


def attach(options: argparse.Namespace) -> int:
    """Watch the running plan, or show how the last plan ended."""
    workspace = workspace_of(options)
    earlier = []
    for one in plans(workspace):
        if problem := one.problem():
            print(f"llmval: {clean_line(problem)}", file=sys.stderr)
        else:
            earlier.append(one)
    plan = active_plan(workspace) or next(filter(_began, earlier), earlier[0] if earlier else None)
    if plan is None:
        raise Refused(f"{workspace} has no plan yet: start one with {suggested(options, 'run --all')}.")
    config, error = config_or_error(options)
    if error is not None:  # not fatal: only bell and notify are used here
        print(f"llmval: {error}", file=sys.stderr)
    store = RunStore(workspace)
    if not plan.alive():
        active = ", ".join(run.id for run in store.active())
        state = f"no plan is running, but {active} is" if active else "nothing is running"
        print(f"{state}; the last plan:", file=sys.stderr if options.json else sys.stdout)
    return watch_plan(options, plan, store, workspace / plan.intent.checklist, config)


def _began(plan: Plan) -> bool:
    """Whether the plan reached its first step. A plan is refused, for example, if another is running."""
    status = plan.status()
    return not status.message or bool(status.results)


def watch_plan(options: argparse.Namespace, plan: Plan, store: RunStore, checklist: Path, config: "ConfigFile") -> int:
    """Show the progress of a plan until it has ended, then its results; returns its exit code.

    Raises:
        Refused: the plan was refused.
    """
    was_running = plan.alive()
    Follower(plan, store, sys.stderr if options.json else sys.stdout).follow()
    if plan.alive():
        print(f"plan {plan.id} keeps running; watch it again with {suggested(options, 'attach')}.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    status = settled_status(plan, store)
    if status.message:
        raise Refused(status.message)
    code = exit_code_of(status.results, status.cancelled)
    if was_running:
        _ring(config, status.results)
    message = None
    if status.state != "finished" and len(status.results) < len(plan.intent.steps):
        # The plan was killed before it could report: the steps it did not reach must not count as passed.
        message = _unfinished(plan, status, store)
        code = code if code is not ExitCode.PASSED else ExitCode.UNDECIDED
        print(f"llmval: {message}", file=sys.stderr)
    if options.json:
        print_object(
            "plan_results",
            ok=code == 0,
            plan_id=plan.id,
            exit_code=int(code),
            message=message,
            results=[asdict(item) for item in status.results],
        )
    elif any(result.run_id for result in status.results):
        print_table(checklist, store, ascii_only=bool(options.ascii))  # if nothing ran, the refusals are enough
        print(_counts(status.results))
    return code


def _counts(results: Sequence[StepResult]) -> str:
    """`12 items: 2 fail, 1 refused, 9 pass.` The worst comes first."""
    order = [*SEVERITY[:-1], "refused", "not run", "skipped", "by hand", Outcome.PASS]
    found = Counter(result.outcome for result in results)
    named = sorted(found, key=lambda word: order.index(word) if word in order else -1)
    return f"\n{counted(len(results), 'item')}: {', '.join(f'{found[word]} {word}' for word in named)}."


def _ring(config: "ConfigFile", results: Sequence[StepResult]) -> None:
    """Ring the bell and send the notification if config.toml asks for them and stderr is a terminal."""
    if not sys.stderr.isatty():
        return
    if config.bell:
        terminal_of(sys.stderr).write("\a")
    if config.notify:
        from llmval_tui.terminal.osc import osc9

        outcomes = ", ".join(f"{result.number} {result.outcome}" for result in results)
        terminal_of(sys.stderr).write(osc9(f"llmval {outcomes or 'the plan has ended'}", os.environ))
    sys.stderr.flush()


def _unfinished(plan: Plan, status: PlanStatus, store: RunStore) -> str:
    """A message about a plan whose process ended before its work did."""
    done = f"{len(status.results)} of {len(plan.intent.steps)} steps have ended"
    unjudged = [run for run in store.runs() if belongs_to(run, plan, status) and run.verdict() is None]
    hint = f"{plan.folder / 'plan.log'} may say why"
    if unjudged:
        state = "is still running" if unjudged[0].alive() else "has ended"
        hint = f"run {unjudged[0].id} {state} and llmval status judges it"
    return f"plan {plan.id} was killed, or could not write, before it was done ({done}); {hint}. Run the rest again."


def cancel(options: argparse.Namespace) -> int:
    """Stop one run, or the running plan together with its run."""
    refuse_readonly(options)
    workspace = workspace_of(options)
    store = RunStore(workspace)
    by = "llmval cancel"
    if options.run:
        run = store.get(options.run)
        if not client.request_cancel(run, by) and not client.cancel_judging(run, by):
            raise Refused(f"{run.id} has already ended and been judged: there is nothing to stop.")
        name = run.id
    else:
        plan = active_plan(workspace)
        active = store.active()
        if plan is None and not active:
            raise Refused(f"nothing is running in {workspace}.")
        if plan is not None:
            cancel_plan(plan, by)
            if (judged := plan.status().run_id) is not None:  # it may have ended, and its evidence is being hashed
                client.cancel_judging(store.get(judged), by)
        for run in active:
            client.request_cancel(run, by)
        name = f"plan {plan.id}" if plan else active[0].id
    print_result(options, f"{name} is being stopped: SIGINT, then SIGTERM, then SIGKILL.")
    return ExitCode.PASSED
