"""`run`, `attach` and `cancel`: start, watch and stop plans."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.api import Options
from llmval_tui.actions.groups import run_instead
from llmval_tui.actions.review.questions import is_skipped
from llmval_tui.actions.review.settings import settings_of
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.console.dry_run import dry_run
from llmval_tui.console.follow import Follower, belongs_to, settled_status
from llmval_tui.console.options import (
    apply_config,
    checklist_of,
    checklist_path,
    config_or_error,
    plan_options,
    print_object,
    print_result,
    refuse_readonly,
    suggested,
    workspace_of,
)
from llmval_tui.console.review import Opened, Reviewer, on_terminal, print_questions, review_command, walk
from llmval_tui.console.status import print_table
from llmval_tui.console.stdio import terminal_of
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.plans.client import cancel_plan, exit_code_of, make_plan, plan_preview, start_plan, with_servers
from llmval_tui.plans.records import Plan, PlanStatus, StepResult, active_plan, plans
from llmval_tui.runs import client
from llmval_tui.runs.inventory import software_versions
from llmval_tui.runs.store import RunStore

if TYPE_CHECKING:
    from llmval_tui.config import ConfigFile


def run(options: argparse.Namespace) -> int:
    """Run steps: propose, execute, judge, tick, record. The plan keeps running if this command is killed."""
    if not options.dry_run:
        refuse_readonly(options)
    workspace = workspace_of(options)
    checklist = checklist_of(options)
    steps = chosen_steps(options, checklist)
    if not steps:
        print_result(options, "nothing to do: every chosen step is already ticked.")
        return ExitCode.PASSED
    config = apply_config(options)
    if options.dry_run:
        return dry_run(options, checklist, steps, ticked_steps(options, checklist))
    choices = plan_options(options)
    if choices.runner_python is not None:
        _require_torch(choices.runner_python)
    chosen = _without_skipped(options, steps)
    # The questions of servers that chosen steps rest on count too.
    reviewed, choices = _reviewed(options, with_servers(checklist, chosen, workspace), choices)
    steps = [step for step in reviewed if any(step.key == one.key for one in chosen)]
    items = plan_preview(checklist, steps, workspace, choices)
    if not any(item.is_planned for item in items):
        print_result(options, "nothing to do: every step below the chosen groups is already ticked.")
        return ExitCode.PASSED
    plan = make_plan(checklist, items, workspace, choices)
    start_plan(plan)
    if options.detach:
        print_result(options, f"plan {plan.id} is running {', '.join(step.number for step in steps)}.", plan_id=plan.id)
        return ExitCode.PASSED
    return _watch(options, plan, RunStore(workspace), checklist_path(options), config)


def _reviewed(options: argparse.Namespace, steps: list[Step], choices: Options) -> tuple[list[Step], Options]:
    """The steps that may start, and the choices with what the operator confirmed for this plan.

    Raises:
        Refused: a question is open, and nobody can answer it here or somebody quit. Nothing was started.
    """
    reviewer = Reviewer(options, choices)
    opened = reviewer.open_questions(steps)
    if not opened:
        return steps, choices
    if options.skip_unreviewed:
        return _without(options, steps, opened), choices
    if options.json or options.detach or not on_terminal():
        if not options.json:
            print_questions(opened, reviewer)
        count = "1 question is" if len(opened) == 1 else f"{len(opened)} questions are"
        first = f"{opened[0][0].number}: {opened[0][2].text}"
        raise Refused(
            f"{count} open, so nothing was started ({first}) {review_command(reviewer)}, or leave those steps out with "
            "--skip-unreviewed."
        )
    left = walk(reviewer, steps, for_plan=True)
    if left:
        raise Refused(f"{_numbers(left)} still open, so nothing was started: run it again to answer the rest.")
    return _without_skipped(options, steps), reviewer.choices


def _without_skipped(options: argparse.Namespace, steps: list[Step]) -> list[Step]:
    """The steps of `--all` and `--section` without those that somebody decided to skip.

    Raises:
        Refused: no step is left, or the file beside the list is invalid.
    """
    if options.steps:
        return steps
    settings = settings_of(checklist_path(options), workspace_of(options))
    left = [step for step in steps if not is_skipped(step, settings)]
    if skipped := [step.number for step in steps if step not in left]:
        print(f"llmval: {', '.join(skipped)} skipped, as answered in the review.", file=sys.stderr)
    if not left:
        again = suggested(options, "review --again STEP")
        raise Refused(f"every chosen step is answered “skip”: {again} asks anew.")
    return left


def _without(options: argparse.Namespace, steps: list[Step], opened: Sequence[Opened]) -> list[Step]:
    skipped = {step.key for step, _, _ in opened}
    print(f"llmval: {_numbers(opened)} skipped, because a question is open.", file=sys.stderr)
    left = [step for step in steps if step.key not in skipped]
    if not left:
        raise Refused(f"every chosen step has an open question: answer them with {suggested(options, 'review')}.")
    return left


def _numbers(opened: Sequence[Opened]) -> str:
    return ", ".join(step.number for step, _, _ in opened) + (" is" if len(opened) == 1 else " are")


def _require_torch(python: str) -> None:
    """Check that this Python can run the runners.

    Raises:
        Refused: it cannot be started, is not Python, or has no torch.
    """
    other = "name another with --runner-python, or as runner_python in config.toml"
    try:
        versions = software_versions(python)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise Refused(f"the runners' interpreter {python} cannot be started ({error}): {other}.") from error
    if "python" not in versions:
        raise Refused(f"{python} is not a Python interpreter, and the runners need one: {other}.")
    if "torch" not in versions:
        raise Refused(
            f"the runners' interpreter {python} has no torch, and every runner needs it: install it, or {other}."
        )


def chosen_steps(options: argparse.Namespace, checklist: Checklist) -> list[Step]:
    """The steps that the command line names, in checklist order; `--all` and `--section` skip ticked steps.

    A group stands for the unticked steps below it.

    Raises:
        Refused: no step is named, a step does not exist, or steps are chosen in two ways at once.
    """
    ways = [name for name, used in (("STEP", options.steps), ("--section", options.section is not None)) if used]
    ways += ["--all"] if options.all else []
    if len(ways) > 1:
        raise Refused(f"{' and '.join(ways)} choose steps in different ways: give only one of them.")
    if options.all or options.section is not None:
        return [step for step in _scope(options, checklist) if not step.checked]
    if not options.steps:
        raise Refused("no step is named: use llmval run 1.2, llmval run --section 1, or llmval run --all.")
    named = {step.number for name in options.steps for step in run_instead(checklist, checklist.step(name))}
    return [step for step in checklist.steps if step.number in named]


def ticked_steps(options: argparse.Namespace, checklist: Checklist) -> list[Step]:
    """The steps that `--all` or `--section` leaves out because they are ticked."""
    return [step for step in _scope(options, checklist) if step.checked]


def _scope(options: argparse.Namespace, checklist: Checklist) -> tuple[Step, ...]:
    """The steps of `--all` or `--section`; () without these options."""
    if options.all:
        return checklist.steps
    if options.section is None:
        return ()
    section = next((section for section in checklist.sections if section.number == options.section), None)
    if section is None:
        numbers = ", ".join(section.number for section in checklist.sections)
        raise Refused(f"{checklist.path.name} has no section {options.section}; it has {numbers}.")
    return section.steps


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
    return _watch(options, plan, store, workspace / plan.intent.checklist, config)


def _began(plan: Plan) -> bool:
    """Whether the plan reached its first step. A plan is refused, for example, if another is running."""
    status = plan.status()
    return not status.message or bool(status.results)


def _watch(options: argparse.Namespace, plan: Plan, store: RunStore, checklist: Path, config: "ConfigFile") -> int:
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
    return code


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
