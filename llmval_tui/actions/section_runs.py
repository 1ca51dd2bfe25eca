"""The runs of a section that other steps rest on, and the command that performs an action."""

import sys
from collections.abc import Collection

from llmval_tui.actions.api import Context
from llmval_tui.checklist.model import Checklist
from llmval_tui.runs.records import Artifact, Command, Outcome, State, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist

COMMAND_ACTIONS = frozenset({"command", "paired_run", "trace_capture", "summary"})


def perform_command(context: Context) -> Command:
    """The command by which llmval does an action's own work, so that it has logs and an exit code like any other."""
    return Command(
        label="main",
        argv=[sys.executable, "-m", "llmval_tui.actions.perform", "{run}"],
        display=f"llmval run {context.step.number}",
    )


def section_runs(store: RunStore, checklist: Checklist, section: str, actions: Collection[str]) -> list[Run]:
    """The runs by these actions of the steps of a checklist's section, newest first."""
    name = recorded_path(checklist.path, store.workspace)
    return [
        run
        for run in store.runs()
        if run.intent.step.section == section
        and same_checklist(run.intent.step.checklist, name)
        and run.intent.action in actions
    ]


def newest_of_each_step(runs: list[Run]) -> list[Run]:
    """Of each step only its newest run; the order is kept."""
    seen: dict[tuple[str, str, int], set[str]] = {}  # the checklists of the runs found for a key
    found = []
    for run in runs:
        ref = run.intent.step
        lists = seen.setdefault((ref.section, ref.text, ref.occurrence), set())
        # As in `same_checklist`, a record that names no checklist is of every one.
        if not lists or (ref.checklist and not lists & {ref.checklist, ""}):
            lists.add(ref.checklist)
            found.append(run)
    return found


def command_of(run: Run, artifact: Artifact) -> Command:
    """The command of a run that promised an artifact; the first one where none is noted."""
    for label, paths in run.intent.params.get("outputs", {}).items():
        if artifact.path in paths:
            return next(command for command in run.intent.commands if command.label == label)
    return run.intent.commands[0]


def ended_runs(context: Context) -> list[Run]:
    """The newest ended command run of each of the section's steps, newest first, that a step may rest on.

    Outside a demo workspace a full step rests on full runs, and a trial on trials: else a trial would tick the list.
    """
    preset = context.options.preset
    runs = [
        run
        for run in section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS)
        if run.state() in (State.FINISHED, State.LOST) and (context.demo or run.intent.preset == preset)
    ]
    return newest_of_each_step(runs)


def inherited(runs: list[Run]) -> tuple[str, ...]:
    """The deviations of the runs that a result rests on: it deviates as they did."""
    return tuple(
        dict.fromkeys(
            f"rests on item {run.intent.step.number}: {line}" for run in runs for line in run.intent.deviations
        )
    )


def passed(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.outcome is Outcome.PASS
