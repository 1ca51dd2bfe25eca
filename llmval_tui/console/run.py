"""`run`, `attach`, `cancel`: plans from the command line."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.console.dry_run import dry_run
from llmval_tui.console.follow import Follower, is_of, standing
from llmval_tui.console.options import (
    apply_config,
    checklist_of,
    checklist_path,
    config_or_error,
    plan_options,
    print_json,
    print_result,
    refuse_readonly,
    workspace_of,
)
from llmval_tui.console.status import print_table
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.plans.process import cancel_plan, exit_code_of, make_plan, start_plan
from llmval_tui.plans.records import Plan, PlanStatus, StepResult, active_plan, plans
from llmval_tui.runs import client
from llmval_tui.runs.inventory import software_versions
from llmval_tui.runs.store import RunStore

if TYPE_CHECKING:
    from llmval_tui.config import Config


def run(options: argparse.Namespace) -> int:
    """Do steps: propose, run, judge, tick, record. The plan goes on if this command is killed."""
    if not options.dry_run:
        refuse_readonly(options)
    workspace = workspace_of(options)
    checklist = checklist_of(options)
    steps = chosen_steps(options, checklist)
    if not steps:
        print_result(options, "nothing is left to do: every step of the list is ticked.")
        return ExitCode.PASSED
    config = apply_config(options)
    if options.dry_run:
        return dry_run(options, checklist, steps)
    choices = plan_options(options)
    if choices.runner_python is not None:
        _require_torch(choices.runner_python)
    plan = make_plan(checklist, steps, workspace, choices)
    start_plan(plan)
    if options.detach:
        print_result(
            options, f"plan {plan.id} is at work on {', '.join(step.number for step in steps)}.", plan_id=plan.id
        )
        return ExitCode.PASSED
    return _watch(options, plan, RunStore(workspace), checklist_path(options), config)


def _require_torch(python: str) -> None:
    """Raises:
    Refused: the interpreter that was named for the runners cannot run them.
    """
    other = "name another by --runner-python, or as runner_python in config.toml"
    try:
        versions = software_versions(python)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise Refused(f"the runners' interpreter {python} cannot be started ({error}): {other}.") from error
    if "python" not in versions:
        raise Refused(f"{python} is not a Python interpreter, which the runners need: {other}.")
    if "torch" not in versions:
        raise Refused(
            f"the runners' interpreter {python} has no torch, which every runner needs: install it, or {other}."
        )


def chosen_steps(options: argparse.Namespace, checklist: Checklist) -> list[Step]:
    """The steps that the command line names, in the list's order; `--all` and `--section` leave ticked ones out.

    Raises:
        Refused: none was named, one is not there, or two ways of choosing were used at once.
    """
    ways = [name for name, used in (("STEP", options.steps), ("--section", options.section is not None)) if used]
    ways += ["--all"] if options.all else []
    if len(ways) > 1:
        raise Refused(f"{' and '.join(ways)} choose steps in different ways: give only one of them.")
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
    """Watch the plan that is at work, or show how the last one that began ended."""
    workspace = workspace_of(options)
    found = plans(workspace)
    plan = active_plan(workspace) or next(filter(_began, found), found[0] if found else None)
    if plan is None:
        raise Refused(f"no plan ever worked on {workspace}: start one with llmval run.")
    config, trouble = config_or_error(options)
    if trouble is not None:  # of the settings only bell and notify are needed here
        print(f"llmval: {trouble}", file=sys.stderr)
    store = RunStore(workspace)
    if not plan.alive():
        active = ", ".join(run.id for run in store.active())
        what = f"no plan is at work, and {active} goes on" if active else "nothing is at work"
        print(f"{what}; the last plan:", file=sys.stderr if options.json else sys.stdout)
    return _watch(options, plan, store, workspace / plan.intent.checklist, config)


def _began(plan: Plan) -> bool:
    """Whether it was not refused before its first step, as one beside another plan is: whoever started it was told."""
    status = plan.status()
    return not status.message or bool(status.results)


def _watch(options: argparse.Namespace, plan: Plan, store: RunStore, checklist: Path, config: "Config") -> int:
    working = plan.alive()
    Follower(plan, store, sys.stderr if options.json else sys.stdout).follow()
    if plan.alive():
        print(f"plan {plan.id} goes on; llmval attach watches it again.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    status = standing(plan, store)
    if status.message:
        raise Refused(status.message)
    code = exit_code_of(status.results, status.cancelled)
    if working:
        _ring(config, status.results)
    message = None
    if status.state != "finished" and len(status.results) < len(plan.intent.steps):
        # A plan that was killed has no last word: what it did not come to must not read as passed.
        message = _unfinished(plan, status, store)
        code = code if code is not ExitCode.PASSED else ExitCode.UNDECIDED
        print(f"llmval: {message}", file=sys.stderr)
    if options.json:
        print_json(
            {
                "ok": code == 0,
                "plan_id": plan.id,
                "exit_code": int(code),
                "message": message,
                "results": [asdict(item) for item in status.results],
            }
        )
    elif any(result.run_id for result in status.results):
        print_table(checklist, store, ascii_only=bool(options.ascii))  # where nothing ran, the refusals say it all
    return code


def _ring(config: "Config", results: Sequence[StepResult]) -> None:
    """The bell and the notification that the operator's settings ask for, where a terminal is there to take them."""
    if not sys.stderr.isatty():
        return
    if config.bell:
        sys.stderr.write("\a")
    if config.notify:
        from llmval_tui.terminal.osc import osc9

        said = ", ".join(f"{result.number} {result.outcome}" for result in results)
        sys.stderr.write(osc9(f"llmval {said or 'the plan has ended'}", os.environ))
    sys.stderr.flush()


def _unfinished(plan: Plan, status: PlanStatus, store: RunStore) -> str:
    """What is known of a plan whose process ended before its work did."""
    done = f"{len(status.results)} of {len(plan.intent.steps)} steps came to an end"
    mine = [run for run in store.runs() if is_of(run, plan, status) and run.verdict() is None]
    rest = f"{plan.folder / 'plan.log'} may say why"
    if mine:
        rest = f"run {mine[0].id} {'goes on' if mine[0].alive() else 'has ended'} and llmval status judges it"
    return f"plan {plan.id} was killed or could not write before it was done ({done}); {rest}. Start the rest again."


def cancel(options: argparse.Namespace) -> int:
    """End a run, or the plan that is at work with the run it is at."""
    refuse_readonly(options)
    workspace = workspace_of(options)
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
    print_result(options, f"{name} is being stopped: SIGINT, then SIGTERM, then SIGKILL.")
    return ExitCode.PASSED
