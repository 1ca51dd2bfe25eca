"""`run --dry-run`: prints what each step would do now; starts and writes nothing."""

import argparse
from dataclasses import asdict
from typing import Any

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.registry import propose
from llmval_tui.actions.review.settings import settings_of
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.console.options import plan_options, print_json, workspace_of
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.foundation.text import clean_line
from llmval_tui.plans.client import context_for, gpu_count_of
from llmval_tui.runs.inventory import gpu_inventory
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER


def dry_run(options: argparse.Namespace, checklist: Checklist, steps: list[Step]) -> int:
    """Print the steps' proposals; exit code 0 if all could start, 2 if one would be refused or has an open question."""
    workspace, choices = workspace_of(options), plan_options(options)
    gpus = gpu_count_of(gpu_inventory())
    settings = settings_of(checklist.path, workspace)
    proposals = [
        (step, propose(context_for(checklist, step, workspace, choices, gpus, settings=settings))) for step in steps
    ]
    if options.json:
        print_json({"steps": [_as_json(step, proposal) for step, proposal in proposals]})
    else:
        print("\n\n".join("\n".join(_lines(step, proposal)) for step, proposal in proposals))
    return ExitCode.PASSED if all(proposal.may_start for _, proposal in proposals) else ExitCode.REFUSED


def _as_json(step: Step, proposal: Proposal) -> dict[str, Any]:
    """The proposal with the fields of its reading beside it; `ask` is the question of an item that a person decides."""
    reading = proposal.reading
    read: dict[str, Any] = {
        "kind": reading.kind if reading else None,
        "criteria": [asdict(one) for one in reading.criteria] if reading else [],
        "placeholders": list(reading.placeholders) if reading else [],
        "evidence": list(reading.evidence) if reading else [],
        "reason": reading.reason if reading else None,
        "ask": reading.question if reading and reading.kind is Kind.ASK else None,
    }
    return {"step": step.number, "text": step.text, **asdict(proposal), **read}


def _lines(step: Step, proposal: Proposal) -> list[str]:
    lines = [f"{step.number}  {step.text}", f"  {proposal.action}: {proposal.summary}"]
    if proposal.refusal:
        lines.append(f"  cannot run: {proposal.refusal}")
    if proposal.unreviewed:
        lines.append(f"  asks first: {proposal.unreviewed}")
    for command in proposal.commands:
        lines.append(f"  $ {command.display}")
        if command.hidden_env:
            lines.append(f"    with {command.hidden_env}")
    lines += [f"  - {detail}" for detail in proposal.details]
    lines += [f"  writes {artifact.path.replace(RUN_ID_PLACEHOLDER, '<run id>')}" for artifact in proposal.artifacts]
    lines += [f"  deviation: {deviation}" for deviation in proposal.deviations]
    return [clean_line(line) for line in lines]
