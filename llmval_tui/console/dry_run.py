"""`run --dry-run`: prints what each step would do now; starts and writes nothing."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.review.questions import missing_values
from llmval_tui.actions.review.settings import settings_of
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.console.options import plan_options, print_object, suggested, workspace_of
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.foundation.text import clean_line
from llmval_tui.plans.client import plan_preview
from llmval_tui.plans.items import Expected, PlanItem, listed
from llmval_tui.runs.command_end import limits_of
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER


def dry_run(options: argparse.Namespace, checklist: Checklist, steps: list[Step], ticked: list[Step]) -> int:
    """Print what a plan of the steps would do; exit code 0 if all would run, 2 if one is refused or asks first.

    Steps by hand do not count, unless there is nothing else.
    """
    workspace, choices = workspace_of(options), plan_options(options)
    items = plan_preview(checklist, steps, workspace, choices, ticked=ticked, whole=not options.steps)
    values = {**settings_of(checklist.path, workspace).values, **choices.values}
    missing = {item.step.key: _missing(item, values) for item in items}
    if options.json:
        left_out = [{"step": item.step.number, "text": item.step.text, "expected": item.sentence}
                    for item in items if item.proposal is None]  # fmt: skip
        planned = [
            _as_json(item, item.proposal) | {"missing": missing[item.step.key]}
            for item in items
            if item.proposal is not None
        ]
        print_object("plan_preview", steps=planned, skipped=left_out)
    else:
        print("\n\n".join("\n".join(_lines(item, missing[item.step.key])) for item in items))
        if names := list(dict.fromkeys(name for of_item in missing.values() for name in of_item)):
            given = suggested(options, " ".join(["review", *(f"--set {name}=VALUE" for name in names)]))
            print(f"\nNobody has given {_placeholders(names)} yet. To give them: {given}")
        print(f"\n{_count(items)}")
    expected = {item.expected for item in items if item.is_planned}
    blocked = expected & {Expected.REFUSED, Expected.ASKS} or expected == {Expected.BY_HAND}
    return ExitCode.REFUSED if blocked else ExitCode.PASSED


def _as_json(item: PlanItem, proposal: Proposal) -> dict[str, Any]:
    """The proposal with the fields of its reading beside it; `ask` is the question of an item that a person decides.

    `refusal` is why the step could not run now, alone; `expected` is what the plan will do with it.
    """
    step, reading = item.step, proposal.reading
    read: dict[str, Any] = {
        "kind": reading.kind if reading else None,
        "criteria": [asdict(one) for one in reading.criteria] if reading else [],
        "placeholders": list(reading.placeholders) if reading else [],
        "evidence": list(reading.evidence) if reading else [],
        "reason": reading.reason if reading else None,
        "ask": reading.question if reading and reading.kind is Kind.ASK else None,
    }
    plan = {
        "expected": item.sentence,
        "rests": [asdict(rest) for rest in item.rests],
        "yardstick": item.yardstick,
    }
    return {"step": step.number, "text": step.text, **asdict(proposal), **read, **plan}


def _missing(item: PlanItem, values: Mapping[str, str]) -> list[str]:
    """The names of the values that the item needs and that nobody has given, also of an item that is skipped now."""
    return list(missing_values(item.proposal.reading, values)) if item.proposal is not None else []


_WORDS = {
    Expected.RUNS: ("would run", "would run"),
    Expected.ASKS: ("asks first", "ask first"),
    Expected.BY_HAND: ("is done by hand", "are done by hand"),
    Expected.REFUSED: ("is refused", "are refused"),
    Expected.GROUP: ("is a group", "are groups"),
    Expected.SKIPPED: ("is skipped", "are skipped"),
}


def _count(items: Sequence[PlanItem]) -> str:
    """How many items there are of each kind, in one line: `14 items: 12 would run, 1 is done by hand, …`."""
    counts = {kind: sum(item.expected is kind for item in items) for kind in _WORDS}
    parts = [f"{number} {_WORDS[kind][number > 1]}" for kind, number in counts.items() if number or kind == "runs"]
    return f"{len(items)} {'item' if len(items) == 1 else 'items'}: {', '.join(parts)}."


def _placeholders(names: Sequence[str]) -> str:
    return listed([f"<{name}>" for name in names])


def _lines(item: PlanItem, missing: Sequence[str]) -> list[str]:
    step, proposal = item.step, item.proposal
    lines = [f"{step.number}  {step.text}", f"  plan: {item.sentence}"]
    if proposal is None:
        return [clean_line(line) for line in lines]
    lines.append(f"  {proposal.action}: {proposal.summary}")
    if missing and item.expected is not Expected.ASKS:  # otherwise the question names them
        lines.append(f"  needs the value of {_placeholders(missing)}")
    for command in proposal.commands:
        lines.append(f"  $ {command.display}")
        if command.hidden_env:
            lines.append(f"    with {command.hidden_env}")
        if command.script is not None:
            lines.append(
                f"    {command.script.name}, line {command.line} of the list, SHA-256 {command.script.sha256}:"
            )
            lines += [f"    | {line}" for line in command.script.text.splitlines()]
        lines += [f"    {line}" for line in limits_of(command)]
    lines += [f"  - {detail}" for detail in proposal.details]
    lines += [f"  writes {artifact.path.replace(RUN_ID_PLACEHOLDER, '<run id>')}" for artifact in proposal.artifacts]
    if item.yardstick is not None:
        lines.append(f"  then, after its server has ended, our engine: {item.yardstick}")
    lines += [f"  deviation: {deviation}" for deviation in proposal.deviations]
    return [clean_line(line) for line in lines]
