"""`status`, `tick`, `accept` and `locate`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from llmval_tui.actions.accept import accept as accept_run
from llmval_tui.actions.groups import tick_groups
from llmval_tui.actions.hand_tick import TODO, tick_by_hand
from llmval_tui.actions.settle import rejudge, settle_all
from llmval_tui.actions.step_state import StepState, StepStatus, unreadable_records
from llmval_tui.checklist.edit import remove_leftovers
from llmval_tui.checklist.model import load
from llmval_tui.console.options import (
    checklist_of,
    checklist_path,
    config_folder,
    print_object,
    print_result,
    refuse_readonly,
    suggested,
    workspace_of,
)
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.foundation.text import clean_line
from llmval_tui.plans.records import active_plan
from llmval_tui.plans.refusals import item_statuses
from llmval_tui.runs import client
from llmval_tui.runs.hindrances import HindranceWatch
from llmval_tui.runs.records import JOB_WAITS, Evidence, Outcome, RestsOn
from llmval_tui.runs.server_life import running_servers, sentence, server_lines
from llmval_tui.runs.store import RunStore
from llmval_tui.terminal.glyphs import STEP_SIGNS, glyphs

GAP = 2  # terminal columns between the columns of the table
MIN_TEXT = 24
EVIDENCE_SHARE = 0.4  # of the room of text and evidence, if both together are too long
MIN_EVIDENCE = 12  # an ellipsis, a part of a name, and eight digits of a hash
_NOT_PASSED = (StepState.FAILED, StepState.INVALID, StepState.INCONCLUSIVE)
ADJECTIVES = {Outcome.FAIL: "failed"}  # the other outcomes are adjectives already


def status(options: argparse.Namespace) -> int:
    """Print the state of every step. Without `--readonly`, runs that have ended are judged first."""
    workspace = workspace_of(options)
    path = checklist_path(options)
    store = RunStore(workspace)
    if not options.readonly:
        settle_workspace(store, path)
    hindrances = HindranceWatch(workspace).look(store.active())
    statuses = item_statuses(load(path), store)
    if not options.json:
        print_table(path, store, ascii_only=options.ascii)
        for line in _reasons(statuses, suggested(options, "watch")):
            print(line)
        if options.nodes:
            for line in _node_lines(statuses, ascii_only=options.ascii):
                print(line)
        for line in server_lines(store):
            print(clean_line(line))
        for hindrance in hindrances:
            print(f"\nheld up: {clean_line(hindrance.sentence)}")
        plan = active_plan(workspace)
        if plan is not None and (problem := plan.problem()):
            print(f"\nplan {plan.id} is running, but {clean_line(problem)}")
        elif plan is not None:
            print(f"\nplan {plan.id} is running, step {plan.status().current or '–'}; llmval attach watches it.")
        return ExitCode.PASSED
    plan = active_plan(workspace)
    print_object(
        "steps",
        workspace=workspace,
        checklist=path,
        plan_id=plan.id if plan else None,
        hindrances=[hindrance.sentence for hindrance in hindrances],
        servers=[
            {"step": run.intent.step.number, "run_id": run.id, "state": sentence(run)} for run in running_servers(store)
        ],
        unreadable=unreadable_records(statuses, store),
        **({"nodes": _nodes_as_json(statuses)} if options.nodes else {}),
        steps=[_as_json(item) for item in statuses],
    )
    return ExitCode.PASSED


def _reasons(statuses: Sequence[StepStatus], watch: str) -> list[str]:
    """Why an open item did not pass or was refused, one line each, and where the whole verdict is."""
    found: list[str] = []
    judged = False
    for item in statuses:
        if item.state in _NOT_PASSED and item.verdict is not None and item.verdict.summary:
            found.append(f"{item.step.number}  {item.verdict.outcome}: {item.verdict.summary}")
            judged = True
        if item.refused is not None:
            later = "" if item.state is StepState.REFUSED else " when it was tried again"
            found.append(f"{item.step.number}  refused{later}: {item.refused}")
    more = [f"{watch} STEP prints every gate of its newest run."] if judged else []
    return ["", *map(clean_line, found), *more] if found else []


def _node_lines(statuses: Sequence[StepStatus], *, ascii_only: bool) -> list[str]:
    """The nodes of each step's newest run, as far as it was on several nodes."""
    from llmval_tui.console.fleet import columns, node_lines, runs_on_nodes

    runs = runs_on_nodes([item.run for item in statuses])
    return node_lines(runs, glyphs(ascii_only), columns()) or ["", "no step's newest run was on several nodes"]


def _nodes_as_json(statuses: Sequence[StepStatus]) -> dict[str, Any]:
    from llmval_tui.console.fleet import as_json, runs_on_nodes
    from llmval_tui.fleet.follower import FleetFollower

    return {run.id: as_json(FleetFollower(run).look()) for run in runs_on_nodes([item.run for item in statuses])}


def settle_workspace(store: RunStore, checklist: Path) -> None:
    """Remove what killed processes left, give runs without a supervisor a new one, settle ended runs."""
    problems = []
    for document in (checklist, store.workspace / TODO):
        try:
            remove_leftovers(document)
        except Refused as refusal:
            problems.append(str(refusal))
    for run in store.runs():
        try:
            if not run.judged():
                client.ensure_supervised(run)
        except (Refused, OSError) as error:
            problems.append(f"{run.id}: {error}")
    problems += settle_all(store, wait=False)
    for problem in dict.fromkeys(clean_line(problem) for problem in problems):
        print(problem, file=sys.stderr)


def print_table(path: Path, store: RunStore, out: TextIO | None = None, *, ascii_only: bool = False) -> None:
    """Print the checklist as a table: number, state, text, evidence. A narrow terminal cuts only the last two."""
    from rich.cells import cell_len, set_cell_size  # rich takes a while to load; most commands print no table
    from rich.console import Console

    signs = glyphs(ascii_only)
    statuses = item_statuses(load(path), store)
    rows = [
        (
            item.step.number,
            f"{signs.sign(STEP_SIGNS[item.state])} {item.state}",
            clean_line(item.step.text),
            *map(clean_line, _evidence(item)),
        )
        for item in statuses
    ]
    # A pipe has no width; 160 columns cut nothing that matters.
    console = Console(file=out or sys.stdout, highlight=False)
    console.width = console.width if console.is_terminal else 160
    step = max(len("step"), *(cell_len(row[0]) for row in rows))
    state = max(len("state"), *(cell_len(row[1]) for row in rows))
    room = max(console.width - step - state - 3 * GAP, 1)
    wanted = max(len("evidence"), *(cell_len(remark + backing) for *_, remark, backing in rows))
    text = max(len("what"), *(cell_len(row[2]) for row in rows))
    # What the texts leave, but not so little that no file name can be read.
    evidence = min(wanted, room - MIN_TEXT, max(room - text, int(room * EVIDENCE_SHARE)))
    if evidence < MIN_EVIDENCE and any(remark or backing for *_, remark, backing in rows):
        evidence, room = 0, room + GAP  # a cut hash is useless
    what = max(room - evidence, 1)
    table = [("step", "state", "what", "evidence" if evidence > 0 else "")]
    for number, state_text, told, remark, backing in rows:
        tail = ""
        if evidence > 0:
            left = evidence - cell_len(remark)
            remark_only = remark and left < min(MIN_EVIDENCE, cell_len(backing))
            cut = shortened(backing, max(left, 0), signs.ellipsis, head=True)
            tail = remark.removesuffix("; ") if remark_only else remark + cut
        # Without evidence the text has the room of both.
        width = what if tail or evidence <= 0 else room + GAP
        table.append((number, state_text, shortened(told, width, signs.ellipsis), tail))
    gap = " " * GAP
    for number, state_text, told, tail in table:
        start = f"{set_cell_size(number, step)}{gap}{set_cell_size(state_text, state)}{gap}"
        line = start + (set_cell_size(told, what) + gap + tail if tail else told)
        console.file.write(set_cell_size(line, min(cell_len(line), console.width)).rstrip() + "\n")
    for problem in unreadable_records(statuses, store):
        console.file.write(clean_line(problem) + "\n")


def shortened(text: str, width: int, sign: str, *, head: bool = False) -> str:
    """The text in at most `width` terminal columns; `sign` replaces the end of a longer text, or its `head`."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= width:
        return text
    if width <= 1:
        return sign[:width]
    # A character may be two columns wide.
    return sign + chop_cells(text[::-1], width - 1)[0][::-1] if head else chop_cells(text, width - 1)[0] + sign


def _evidence(item: StepStatus) -> tuple[str, str]:
    """A remark, and what backs the step: a file and its hash, a run, or the operator's note."""
    basis, verdict = item.basis, item.verdict
    if item.problem:
        return "", "newest run unreadable, see below"
    if basis is None:
        passed = verdict is not None and verdict.outcome is Outcome.PASS
        found = _file_and_hash(verdict.evidence if verdict and passed else ()) or (item.run.id if item.run else "")
        return _job_that_waits(item), found
    if item.state in (StepState.CONTRADICTED, StepState.STALE, StepState.UNREADABLE):
        return "", basis.contradicted or (*basis.stale, *basis.unreadable)[0]
    remark = ""
    if verdict is not None and verdict.outcome is not Outcome.PASS and basis.contradicts is None:
        remark = f"newest run {ADJECTIVES.get(verdict.outcome, verdict.outcome)}; "
    if basis.of_group and basis.notes:
        return remark, basis.notes[-1].text
    if basis.rests_on is RestsOn.BY_HAND and basis.notes:
        against = f"contradicts run {basis.contradicts}; " if basis.contradicts else remark
        note = basis.notes[-1]
        return against, f"{note.by or 'somebody'} {note.utc[:10]}: {note.text}"
    return remark, _file_and_hash(basis.evidence) or basis.run_id or ""


def _job_that_waits(item: StepStatus) -> str:
    """`job 7 PENDING (Resources); ` if the newest run is a job that has not begun: it does not run yet."""
    job = item.run.status().job if item.run is not None and item.state is StepState.RUNNING else None
    if job is None or job.state not in JOB_WAITS:
        return ""
    reason = f" ({job.reason})" if job.reason else ""
    return f"job {job.id} {job.state}{reason}; " if job.id else f"job {job.state}{reason}; "


def _file_and_hash(evidence: Sequence[Evidence]) -> str:
    return f"{evidence[0].path} {evidence[0].sha256[:8]}" if evidence else ""


def _as_json(item: StepStatus) -> dict[str, Any]:
    return item.as_json() | {"verdict": item.verdict}


def tick(options: argparse.Namespace) -> int:
    """Tick a step for the operator, with a note."""
    refuse_readonly(options)
    workspace = workspace_of(options)
    checklist = checklist_of(options)
    step = checklist.step(options.step)
    store = RunStore(workspace)
    line = tick_by_hand(checklist.path, step.key, options.note, store)
    groups = ", ".join(group.number for group in tick_groups(checklist.path, store))
    against = f" It contradicts run {line.contradicts}, which failed." if line.contradicts else ""
    message = f"{step.number} is ticked by hand; the note is in docs/TODO.md.{against}"
    message += f" Every item below {groups} is ticked now, so its box is too." if groups else ""
    print_result(options, message, contradicts=line.contradicts)
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
