"""`run`, `attach`, `cancel`: plans from the command line."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.console import common
from llmval_tui.console.follow import Follower
from llmval_tui.console.status import print_table
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.plan import cancel_plan, exit_code_of, make_plan, start_plan
from llmval_tui.runs import client
from llmval_tui.runs.plans import Plan, active_plan, plans
from llmval_tui.runs.store import RunStore


def run(options: argparse.Namespace) -> int:
    """Do steps: propose, run, judge, tick, record. The plan goes on if this command is killed."""
    common.refuse_readonly(options)
    workspace = common.workspace_of(options)
    checklist = common.checklist_of(options)
    steps = chosen_steps(options, checklist)
    if not steps:
        common.answer(options, "nothing is left to do: every step of the list is ticked.")
        return ExitCode.PASSED
    plan = make_plan(checklist, steps, workspace, common.plan_options(options))
    start_plan(plan)
    if options.detach:
        common.answer(
            options, f"plan {plan.id} is at work on {', '.join(step.number for step in steps)}.", plan_id=plan.id
        )
        return ExitCode.PASSED
    return _watch(options, plan, RunStore(workspace), common.checklist_path(options))


def chosen_steps(options: argparse.Namespace, checklist: Checklist) -> list[Step]:
    """The steps that the command line names, in the list's order; `--all` and `--section` leave ticked ones out.

    Raises:
        Refused: none was named, or one is not there.
    """
    if options.all:
        return [step for step in checklist.steps if not step.checked]
    if options.section is not None:
        section = next((section for section in checklist.sections if section.number == options.section), None)
        if section is None:
            numbers = ", ".join(str(section.number) for section in checklist.sections)
            raise Refused(f"{checklist.path.name} has no section {options.section}; it has {numbers}.")
        return [step for step in section.steps if not step.checked]
    if not options.steps:
        raise Refused("say what to run: llmval run 1.2, llmval run --section 1, or llmval run --all.")
    named = {checklist.step(name).number for name in options.steps}
    return [step for step in checklist.steps if step.number in named]


def attach(options: argparse.Namespace) -> int:
    """Watch the plan that is at work, or show how the newest one ended."""
    workspace = common.workspace_of(options)
    newest = plans(workspace)
    plan = active_plan(workspace) or (newest[0] if newest else None)
    if plan is None:
        raise Refused(f"no plan ever worked on {workspace}: start one with llmval run.")
    return _watch(options, plan, RunStore(workspace), workspace / plan.intent.checklist)


def _watch(options: argparse.Namespace, plan: Plan, store: RunStore, checklist: Path) -> int:
    Follower(plan, store, sys.stderr if options.json else sys.stdout).follow()
    if plan.alive():
        print(f"plan {plan.id} goes on; llmval attach watches it again.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    status = plan.status()
    code = exit_code_of(status.results, status.cancelled)
    if status.message:
        raise Refused(status.message)
    if options.json:
        common.print_json(
            {
                "ok": code == 0,
                "plan_id": plan.id,
                "exit_code": int(code),
                "results": [asdict(item) for item in status.results],
            }
        )
    else:
        print_table(checklist, store)
    return code


def cancel(options: argparse.Namespace) -> int:
    """End a run, or the plan that is at work with the run it is at."""
    common.refuse_readonly(options)
    workspace = common.workspace_of(options)
    store = RunStore(workspace)
    by = "llmval cancel"
    if options.run:
        run = store.get(options.run)
        if not client.request_cancel(run, by):
            raise Refused(f"{run.id} has already ended; there is nothing to cancel.")
        name = run.id
    else:
        plan = active_plan(workspace)
        active = store.active()
        if plan is None and not active:
            raise Refused(f"nothing is at work on {workspace}.")
        if plan is not None:
            cancel_plan(plan, by)
        for run in active:
            client.request_cancel(run, by)
        name = f"plan {plan.id}" if plan else active[0].id
    common.answer(options, f"{name} is being stopped: SIGINT, then SIGTERM, then SIGKILL.")
    return ExitCode.PASSED
