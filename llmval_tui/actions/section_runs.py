"""The runs of a section that other steps rest on, and the command that performs an action."""

import sys
from collections.abc import Collection

from llmval_tui.actions.api import Context
from llmval_tui.checklist.model import Checklist
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import is_recorded_as
from llmval_tui.runs.records import Artifact, Command, Outcome, State, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist

COMMAND_ACTIONS = frozenset({"command", "paired_run", "trace_capture", "summary"})
SERVER, SERVER_STOP = "server", "server_stop"  # the actions that start a server, and end it before its section does
# The actions whose items rest on a server that their section started before them.
SERVED_ACTIONS = frozenset({"command", "paired_run", "trace_capture"})
ENV_EXPORT = "env_export"  # the action that exports an environment


def perform_command(context: Context) -> Command:
    """The command that does an action's own work in a process with logs and an exit code."""
    return Command(
        label="main",
        argv=[sys.executable, "-m", "llmval_tui.actions.perform", "{run}"],
        display=f"llmval run {context.step.number}",
    )


def section_runs(store: RunStore, checklist: Checklist, section: str, actions: Collection[str]) -> list[Run]:
    """The runs of the section's steps by these actions, newest first."""
    name = recorded_path(checklist.path, store.workspace)
    return [
        run
        for run in store.runs()
        if is_recorded_as(run.intent.step.section, section)
        and same_checklist(run.intent.step.checklist, name)
        and run.intent.action in actions
    ]


def newest_of_each_step(runs: list[Run]) -> list[Run]:
    """Only the newest run of each step, in the same order. One that was refused before its start shows nothing."""
    seen: dict[tuple[str, str, int], set[str]] = {}  # step -> the checklists of the runs found for it
    found = []
    for run in runs:
        if _never_started(run):
            continue
        ref = run.intent.step
        lists = seen.setdefault((ref.section, ref.text, ref.occurrence), set())
        # As in `same_checklist`, a record without a checklist belongs to all of them.
        if not lists or (ref.checklist and not lists & {ref.checklist, ""}):
            lists.add(ref.checklist)
            found.append(run)
    return found


def _never_started(run: Run) -> bool:
    try:
        return run.refused() is not None
    except Refused:
        return False  # who reads it names the damaged record


def command_of(run: Run, artifact: Artifact) -> Command:
    """The command of a run that writes the artifact; the first command if that is not recorded."""
    for label, paths in run.intent.params.get("outputs", {}).items():
        if artifact.path in paths:
            return next(command for command in run.intent.commands if command.label == label)
    return run.intent.commands[0]


def ended_runs(context: Context) -> list[Run]:
    """The newest ended command run of each step in the section, newest first.

    Outside a demo workspace only runs with the same preset count: a full step must not rest on a trial.
    """
    preset = context.options.preset
    runs = [
        run
        for run in section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS)
        if run.state() in (State.FINISHED, State.LOST) and (context.demo or run.intent.preset == preset)
    ]
    return newest_of_each_step(runs)


def inherited(runs: list[Run]) -> tuple[str, ...]:
    """The deviations of the runs that a result rests on; the result has them too."""
    return tuple(
        dict.fromkeys(
            f"rests on item {run.intent.step.number}: {line}" for run in runs for line in run.intent.deviations
        )
    )


def passed(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.outcome is Outcome.PASS
