"""`status`, `tick`, `accept`, `verify` and `locate`."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from llmval_tui.actions.accept import accept as accept_run
from llmval_tui.actions.settle import rejudge, settle_all, tick_by_hand
from llmval_tui.actions.step_state import StepState, StepStatus, step_statuses
from llmval_tui.checklist.model import Checklist, StepKey, load
from llmval_tui.console.options import (
    checklist_of,
    checklist_path,
    print_json,
    print_result,
    refuse_readonly,
    workspace_of,
)
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import read_lines
from llmval_tui.foundation.paths import bundled
from llmval_tui.foundation.text import clean_line
from llmval_tui.plans.records import active_plan
from llmval_tui.runs import client
from llmval_tui.runs.evidence import CheckedFile, check_ledger
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore, recorded_path, same_checklist
from llmval_tui.terminal.glyphs import STEP_SIGNS, glyphs

GAP = 2  # terminal columns between the columns of the table
MIN_TEXT = 24
MIN_EVIDENCE = 12  # an ellipsis, a part of a name, and eight digits of a hash
ADJECTIVES = {Outcome.FAIL: "failed"}  # the other outcomes are adjectives already


def status(options: argparse.Namespace) -> int:
    """Print the state of every step. Without `--readonly`, runs that have ended are judged first."""
    workspace = workspace_of(options)
    path = checklist_path(options)
    store = RunStore(workspace)
    if not options.readonly:
        settle_workspace(store)
    if not options.json:
        print_table(path, store, ascii_only=options.ascii)
        for sentence in store.unreadable:
            print(sentence)
        plan = active_plan(workspace)
        if plan is not None:
            print(f"\nplan {plan.id} is running, step {plan.status().current or '–'}; llmval attach watches it.")
        return ExitCode.PASSED
    plan = active_plan(workspace)
    statuses = step_statuses(load(path), store)
    print_json(
        {
            "workspace": workspace,
            "checklist": path,
            "plan_id": plan.id if plan else None,
            "steps": [_as_json(item) for item in statuses],
        }
    )
    return ExitCode.PASSED


def settle_workspace(store: RunStore) -> None:
    """Give runs without a supervisor a new one, settle ended runs, and print what failed."""
    for run in store.runs():
        client.ensure_supervised(run)
    for problem in settle_all(store):
        print(problem, file=sys.stderr)


def print_table(path: Path, store: RunStore, out: TextIO | None = None, *, ascii_only: bool = False) -> None:
    """Print the checklist as a table: number, state, text, evidence. A narrow terminal cuts only the last two."""
    from rich.cells import cell_len  # rich takes a while to load; most commands print no table
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    signs = glyphs(ascii_only)
    checklist = load(path)
    ticks = _recorded_ticks(checklist, store)
    rows = [
        (
            item.step.number,
            f"{signs.sign(STEP_SIGNS[item.state])} {item.state}",
            clean_line(item.step.text),
            *map(clean_line, _evidence(item, ticks.get(item.step.key))),
        )
        for item in step_statuses(checklist, store)
    ]
    # A pipe has no width; 160 columns cut nothing that matters.
    console = Console(file=out or sys.stdout, highlight=False)
    console.width = console.width if console.is_terminal else 160
    step = max(len("step"), *(cell_len(row[0]) for row in rows))
    state = max(len("state"), *(cell_len(row[1]) for row in rows))
    room = max(console.width - step - state - 3 * GAP, 1)
    evidence = min(max(len("evidence"), *(cell_len(remark + backing) for *_, remark, backing in rows)), room - MIN_TEXT)
    if evidence < MIN_EVIDENCE and any(remark or backing for *_, remark, backing in rows):
        evidence, room = 0, room + GAP  # a cut hash is useless
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name, width in (("step", step), ("state", state), ("what", max(room - evidence, 1)), ("evidence", evidence)):
        if width > 0:
            table.add_column(name, width=width, no_wrap=True, overflow="crop")
    for number, state_text, text, remark, backing in rows:
        cells = [number, state_text, shortened(text, max(room - evidence, 1), signs.ellipsis)]
        if evidence > 0:
            left = evidence - cell_len(remark)
            remark_only = remark and left < min(MIN_EVIDENCE, cell_len(backing))
            tail = shortened(backing, max(left, 0), signs.ellipsis, head=True)
            cells.append(remark.removesuffix("; ") if remark_only else remark + tail)
        table.add_row(*map(Text, cells))
    with console.capture() as table_text:  # rich would exit with 1 on a closed pipe, so write the text here
        console.print(table)
    console.file.write(table_text.get())


def shortened(text: str, width: int, sign: str, *, head: bool = False) -> str:
    """The text in at most `width` terminal columns; `sign` replaces the end of a longer text, or its `head`."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= width:
        return text
    if width <= 1:
        return sign[:width]
    # A character may be two columns wide.
    return sign + chop_cells(text[::-1], width - 1)[0][::-1] if head else chop_cells(text, width - 1)[0] + sign


def _recorded_ticks(checklist: Checklist, store: RunStore) -> dict[StepKey, dict[str, Any]]:
    """The newest tick of each item in the ledger."""
    name = recorded_path(checklist.path, store.workspace)
    return {
        StepKey(line["section"], line["text"], line["occurrence"]): line
        for line in read_lines(store.ledger)
        if {"section", "text", "occurrence"} <= line.keys() and same_checklist(line.get("checklist"), name)
    }


def _evidence(item: StepStatus, tick: dict[str, Any] | None) -> tuple[str, str]:
    """A remark, and what backs the step: a file and its hash, a run, or the operator's note."""
    verdict, run_id = item.verdict, item.run.id if item.run else ""
    passed = verdict is not None and verdict.outcome is Outcome.PASS
    files: list[Any] = (
        [{"path": one.path, "sha256": one.sha256} for one in verdict.evidence] if verdict and passed else []
    )
    remark = ""
    if item.state is StepState.DONE and tick is not None:  # the tick may rest on an older run than the newest
        remark = f"newest run {ADJECTIVES.get(verdict.outcome, verdict.outcome)}; " if verdict and not passed else ""
        if tick.get("kind") == "operator":
            return remark, "operator's note"
        files, run_id = tick.get("evidence") or [], str(tick.get("run_id") or "")
    return remark, f"{files[0]['path']} {files[0]['sha256'][:8]}" if files else run_id


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
    """Tick a step for the operator, with a note."""
    refuse_readonly(options)
    workspace = workspace_of(options)
    checklist = checklist_of(options)
    step = checklist.step(options.step)
    tick_by_hand(checklist.path, step.key, options.note, RunStore(workspace))
    print_result(options, f"{step.number} is ticked by the operator; the note is in docs/TODO.md.")
    return ExitCode.PASSED


def accept(options: argparse.Namespace) -> int:
    """Answer a run's question: accept the change it proposes, or give the link it asks for."""
    refuse_readonly(options)
    store = RunStore(workspace_of(options))
    run = store.get(options.run)
    message = accept_run(run, link=options.link)
    verdict = rejudge(run, store)
    print_result(options, f"{message} {run.id}: {verdict.outcome if verdict else 'not judged'}.")
    return ExitCode.PASSED


def verify(options: argparse.Namespace) -> int:
    """Hash the evidence of all ticks again. Exit code 1 if a file changed or is missing, 3 if a tick has no record.

    A file that was overwritten later still counts if the run's own copy is unchanged.
    """
    workspace = workspace_of(options)
    store = RunStore(workspace)
    findings = check_ledger(store)
    kept = [finding for finding in findings if finding.state == "kept"]
    stale = [finding for finding in findings if finding.state not in ("intact", "kept")]
    unbacked = _ticks_without_record(options, store)
    if options.json:
        print_json({"ok": not stale and not unbacked, "files": findings, "unbacked": unbacked})
    else:
        for finding in findings:
            print(_finding_line(finding))
        for line in unbacked:
            print(line)
        intact = len(findings) - len(stale) - len(kept)
        copies = f"{len(kept)} intact only as a copy in the run folder, " if kept else ""
        files = "file" if len(findings) == 1 else "files"
        print(f"{len(findings)} {files} of evidence: {intact} intact, {copies}{len(stale)} changed or missing.")
    if stale:
        return ExitCode.FAILED
    return ExitCode.UNDECIDED if unbacked else ExitCode.PASSED


def _finding_line(finding: CheckedFile) -> str:
    where = f"  in {finding.copy}" if finding.copy else ""
    return clean_line(f"{finding.state:<8} {finding.number}  {finding.path}  {finding.sha256[:12]}{where}")


def _ticks_without_record(options: argparse.Namespace, store: RunStore) -> list[str]:
    try:
        path = checklist_path(options)
    except Refused:
        return []  # without a checklist only the ledger is verified
    return [
        f"unbacked {item.step.number} is ticked, but llmval has no record of it"
        for item in step_statuses(load(path), store)
        if item.state is StepState.TICKED
    ]


def locate(options: argparse.Namespace) -> int:
    """Print the path of a folder."""
    folders: dict[str, Callable[[], Path]] = {
        "artifacts": lambda: workspace_of(options) / "artifacts",
        "config": config_folder,
        "runners": lambda: bundled("runners"),
        "themes": lambda: bundled("themes"),
    }
    try:
        folder = folders[options.what]()
    except FileNotFoundError as error:
        raise Refused(str(error)) from error
    print_result(options, str(folder), path=folder)
    return ExitCode.PASSED


def config_folder() -> Path:
    """The operator's own settings and themes: `$XDG_CONFIG_HOME/llmval`, by default `~/.config/llmval`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "llmval"
