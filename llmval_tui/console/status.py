"""`status`, `tick`, `accept`, `verify`, `locate`: what stands, what the operator decides, whether it still holds."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from llmval_tui.actions.accept import accept as accept_run
from llmval_tui.actions.settle import rejudge, settle_all, tick_by_hand
from llmval_tui.actions.state import StepState, StepStatus, step_statuses
from llmval_tui.checklist.model import load
from llmval_tui.console import common
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.resources import bundled
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs import client
from llmval_tui.runs.evidence import Finding, check_ledger
from llmval_tui.runs.plans import active_plan
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore
from llmval_tui.tui.glyphs import STEP_SIGNS, glyphs


def status(options: argparse.Namespace) -> int:
    """Print how every step stands; whatever ended unjudged is judged first, unless `--readonly`."""
    workspace = common.workspace_of(options)
    path = common.checklist_path(options)
    store = RunStore(workspace)
    if not options.readonly:
        look_after_all(store)
    if not options.json:
        print_table(path, store, ascii_only=options.ascii)
        for sentence in store.unreadable:
            print(sentence)
        plan = active_plan(workspace)
        if plan is not None:
            print(f"\nplan {plan.id} is at work, step {plan.status().current or '–'}; llmval attach watches it.")
        return ExitCode.PASSED
    plan = active_plan(workspace)
    statuses = step_statuses(load(path), store)
    common.print_json(
        {
            "workspace": workspace,
            "checklist": path,
            "plan_id": plan.id if plan else None,
            "steps": [_as_json(item) for item in statuses],
        }
    )
    return ExitCode.PASSED


def look_after_all(store: RunStore) -> None:
    """Give orphaned runs a supervisor and settle ended ones; says what could not be."""
    for run in store.runs():
        client.look_after(run)
    for problem in settle_all(store):
        print(problem, file=sys.stderr)


def print_table(path: Path, store: RunStore, out: TextIO | None = None, *, ascii_only: bool = False) -> None:
    """The checklist as a table: number, state, text, what backs it."""
    from rich.console import Console  # rich takes a while to load; most commands print no table
    from rich.table import Table
    from rich.text import Text

    signs = glyphs(ascii_only)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("step", "state", "what", "evidence"):
        table.add_column(name, no_wrap=name != "what", overflow="fold")
    for item in step_statuses(load(path), store):
        evidence = ""
        if item.verdict is not None and item.verdict.outcome is Outcome.PASS and item.verdict.evidence:
            first = item.verdict.evidence[0]
            evidence = f"{first.path} {first.sha256[:12]}"
        elif item.run is not None:
            evidence = item.run.id
        table.add_row(
            item.step.number,
            f"{signs.sign(STEP_SIGNS[item.state])} {item.state}",
            Text(clean_line(item.step.text), overflow="ellipsis", no_wrap=True),
            Text(clean_line(evidence)),
        )
    # A pipe has no width: give it one in which nothing that matters is cut.
    console = Console(file=out or sys.stdout, highlight=False)
    console.width = console.width if console.is_terminal else 160
    console.print(table)


def _as_json(item: StepStatus) -> dict[str, Any]:
    return {
        "number": item.step.number,
        "section": item.step.section,
        "text": item.step.text,
        "checked": item.step.checked,
        "state": item.state.value,
        "run_id": item.run.id if item.run else None,
        "verdict": item.verdict,
    }


def tick(options: argparse.Namespace) -> int:
    """Tick a step on the operator's word."""
    common.refuse_readonly(options)
    workspace = common.workspace_of(options)
    checklist = common.checklist_of(options)
    step = checklist.step(options.step)
    tick_by_hand(checklist.path, step.key, options.note, RunStore(workspace))
    common.answer(options, f"{step.number} is ticked by the operator; docs/TODO.md has the note.")
    return ExitCode.PASSED


def accept(options: argparse.Namespace) -> int:
    """Answer a run's question: accept its proposed change, or give the link it asks for."""
    common.refuse_readonly(options)
    store = RunStore(common.workspace_of(options))
    run = store.get(options.run)
    message = accept_run(run, link=options.link)
    verdict = rejudge(run, store)
    common.answer(options, f"{message} {run.id}: {verdict.outcome if verdict else 'not judged'}.")
    return ExitCode.PASSED


def verify(options: argparse.Namespace) -> int:
    """Hash everything again that backs a tick: 1 where something changed or is gone, 3 where a tick has no record.

    A file that was written over since, and of which the run's copy is as it was judged, still backs its tick.
    """
    workspace = common.workspace_of(options)
    store = RunStore(workspace)
    findings = check_ledger(store)
    kept = [finding for finding in findings if finding.state == "kept"]
    stale = [finding for finding in findings if finding.state not in ("intact", "kept")]
    unbacked = _ticks_without_record(options, store)
    if options.json:
        common.print_json({"ok": not stale and not unbacked, "files": findings, "unbacked": unbacked})
    else:
        for finding in findings:
            print(_finding_line(finding))
        for line in unbacked:
            print(line)
        intact = len(findings) - len(stale) - len(kept)
        copies = f"{len(kept)} kept as the run's copy, " if kept else ""
        print(f"{len(findings)} files back ticks; {intact} intact, {copies}{len(stale)} stale.")
    if stale:
        return ExitCode.FAILED
    return ExitCode.UNDECIDED if unbacked else ExitCode.PASSED


def _finding_line(finding: Finding) -> str:
    where = f"  in {finding.copy}" if finding.copy else ""
    return f"{finding.state:<8} {finding.number}  {finding.path}  {finding.sha256[:12]}{where}"


def _ticks_without_record(options: argparse.Namespace, store: RunStore) -> list[str]:
    try:
        path = common.checklist_path(options)
    except Refused:
        return []  # no checklist here: the ledger alone was verified
    return [
        f"unbacked {item.step.number} is ticked, and no record of llmval's backs it"
        for item in step_statuses(load(path), store)
        if item.state is StepState.TICKED
    ]


def locate(options: argparse.Namespace) -> int:
    """Print where something lies."""
    places: dict[str, Callable[[], Path]] = {
        "artifacts": lambda: common.workspace_of(options) / "artifacts",
        "config": config_folder,
        "runners": lambda: bundled("runners"),
        "themes": lambda: bundled("themes"),
    }
    try:
        place = places[options.what]()
    except FileNotFoundError as error:
        raise Refused(str(error)) from error
    common.answer(options, str(place), path=place)
    return ExitCode.PASSED


def config_folder() -> Path:
    """The operator's own settings and themes: `$XDG_CONFIG_HOME/llmval`, by default `~/.config/llmval`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "llmval"
