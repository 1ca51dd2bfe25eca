"""`run`: start a plan and watch it."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from llmval_tui.actions.api import Options
from llmval_tui.actions.groups import run_instead
from llmval_tui.actions.review.questions import is_skipped
from llmval_tui.actions.review.settings import settings_of
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.console.attach import watch_plan
from llmval_tui.console.dry_run import dry_run
from llmval_tui.console.options import (
    apply_config,
    checklist_of,
    checklist_path,
    plan_options,
    print_result,
    refuse_readonly,
    suggested,
    workspace_of,
)
from llmval_tui.console.review import Opened, Reviewer, on_terminal, print_questions, review_command, walk
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.plans.client import make_plan, plan_preview, start_plan, with_servers
from llmval_tui.runs.inventory import software_versions
from llmval_tui.runs.store import RunStore


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
    keys = {step.key for step in chosen}
    steps = [step for step in reviewed if step.key in keys]
    items = plan_preview(checklist, steps, workspace, choices)
    if not any(item.is_planned for item in items):
        print_result(options, "nothing to do: every step below the chosen groups is already ticked.")
        return ExitCode.PASSED
    plan = make_plan(checklist, items, workspace, choices)
    start_plan(plan)
    if options.detach:
        print_result(options, f"plan {plan.id} is running {', '.join(step.number for step in steps)}.", plan_id=plan.id)
        return ExitCode.PASSED
    return watch_plan(options, plan, RunStore(workspace), checklist_path(options), config)


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
            f"{count} open, so nothing was started ({first}) {review_command(reviewer, opened)}, or leave those steps "
            "out with --skip-unreviewed."
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
