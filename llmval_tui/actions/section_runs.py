"""What several actions need: the workspace of a run, the section's runs, and the command that performs an action."""

import difflib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Context
from llmval_tui.actions.rules import documents
from llmval_tui.checklist.model import Checklist
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Artifact, Command, Outcome, State, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist

COMMAND_ACTIONS = frozenset({"command", "paired_run", "trace_capture", "summary"})


def workspace_of(run: Run) -> Path:
    """The workspace that a run folder lies in: `WORKSPACE/artifacts/runs/ID`."""
    return run.folder.absolute().parents[2]


def accept_question(run: Run, record: Mapping[str, Any], proposed: str, text: str) -> dict[str, Any]:
    """The question whether a proposed document may replace the one there is; `accept` answers it.

    `record` has the document's path, the diff, and the SHA-256 of both texts; `proposed` is the new text's file in the
    run folder.
    """
    return {
        "kind": "accept",
        "text": text,
        "diff": record["diff"],
        "file": record["document"],
        "new_text_path": str((run.folder / proposed).absolute().relative_to(workspace_of(run))),
        "old_sha256": record["document_sha256"],
        "new_sha256": record["proposed_sha256"],
    }


def unified_diff(old: str, new: str, name: str) -> str:
    """What changes in a document, as `diff -u` shows it; `old` is "" where the document is new."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after, f"a/{name}" if old else "/dev/null", f"b/{name}")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


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


def the_document(context: Context, what: str) -> str:
    """The one Markdown file that the step names.

    Raises:
        Refused: none, or several.
    """
    named = context.step.directives.get("document")
    found = [named] if named else documents(context.step)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused(f"the item names no document {what}: write its path as a code span, such as `docs/NAME.md`.")
    raise Refused(f"the item names {len(found)} documents ({', '.join(found)}): leave the one {what}.")
