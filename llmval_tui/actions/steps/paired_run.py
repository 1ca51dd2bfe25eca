"""Run a command twice, with and without some flags, and compare the results."""

from dataclasses import replace
from pathlib import Path

from llmval_tui.actions.api import Context, Judged, Judgement, Proposal
from llmval_tui.actions.command.argv import parse_argv, same_flag
from llmval_tui.actions.command.freeze import build
from llmval_tui.actions.command.runner_catalog import COMPILE_SCHEMA
from llmval_tui.actions.judges.compile_study import read_study, side_by_side
from llmval_tui.actions.reading.model import Kind, Reading
from llmval_tui.actions.reading.read import read_item
from llmval_tui.actions.reading.words import flag_spans
from llmval_tui.actions.steps.command import CommandAction, judge_each, proposal_of
from llmval_tui.checklist.command import ParsedCommand, Word, parse_command
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.file_origin import written_by_another_run
from llmval_tui.runs.store import Run


class PairedRun(CommandAction):
    """Runs the command of the item, or else the only command of its section, `with` and `without` the flags."""

    name = "paired_run"
    title = "run with and without a flag"
    about = "Runs the section's command twice, with and without the item's flags, and shows both results."

    def propose(self, context: Context) -> Proposal:
        flags = _flags(context)
        number, text = _base(context)
        parsed = parse_command(text, now=context.now, environment=context.environment)
        without = _without(parsed, flags)
        built = [
            build(context, without.shell_text(), label="with", extra=flags, variant="with"),
            build(context, without.shell_text(), label="without", variant="without"),
        ]
        name = Path(built[0].argv.script or built[0].argv.program).name
        summary = f"Runs {name} of item {number} twice, with and without {' '.join(flags)}, and compares them."
        return proposal_of(self.name, context, built, summary, flags=list(flags), base=number)

    def judge(self, run: Run) -> Judgement:
        gates, metrics, summary, _ = judge_each(run, {"with": None, "without": None})
        summaries = [summary]
        for found, values, text in _side_by_side(run):
            gates += found
            metrics |= values
            summaries.append(text)
        return gates, metrics, "; ".join(summaries), None


def _side_by_side(run: Run) -> list[Judged]:
    """The comparison of both runs, if both left a comparable result."""
    outputs = run.intent.params["outputs"]
    results = []
    for variant in ("with", "without"):
        own = [item for item in run.intent.artifacts if item.path in outputs[variant] and item.schema == COMPILE_SCHEMA]
        result = read_study(run, own[0]) if own and not written_by_another_run(run, own[0]) else None
        if result is None:
            return []
        results.append(result)
    return [side_by_side(" ".join(run.intent.params["flags"]), *results)]


def _flags(context: Context) -> tuple[str, ...]:
    found = flag_spans(context.step)
    if len(found) != 1:
        raise Refused(f"the item names {len(found)} sets of flags: keep only the one to run with and without.")
    parsed = parse_command(f"program {found[0]}", now=context.now, environment=context.environment)
    return tuple(parsed.argv[1:])


def _base(context: Context) -> tuple[str, str]:
    """The command to run twice: the number of its step, and its text."""
    section = context.checklist.section_of(context.step)
    own = context.reading or read_item(context.step, section, context.checklist)
    if len(own.commands) == 1:
        return context.step.number, own.commands[0].text
    found = [
        (step.number, reading.commands[0].text)
        for step in section.steps
        if step.key != context.step.key and _is_command(reading := read_item(step, section, context.checklist))
    ]
    if len(found) == 1:
        return found[0]
    raise Refused(
        f"the section has {len(found)} items with a command, and this item has none: write the command to run "
        "with and without the flags into this item as a code span."
    )


def _is_command(reading: Reading) -> bool:
    return reading.kind is Kind.COMMAND and reading.action == CommandAction.name and len(reading.commands) == 1


def _without(parsed: ParsedCommand, flags: tuple[str, ...]) -> ParsedCommand:
    """The command without the flags, in case it has them."""
    names = [word.partition("=")[0] for word in flags if word.startswith("-")]
    takes_value = {
        word for word, following in zip(flags, [*flags[1:], "-"], strict=True) if not following.startswith("-")
    }
    remaining: list[Word] = []
    words = list(parsed.words)
    while words:
        word = words.pop(0)
        name = next((name for name in names if same_flag(word.value, name.replace("_", "-"))), None)
        if name is None:
            remaining.append(word)
        elif name in takes_value and "=" not in word.value and words:
            words.pop(0)
    parse_argv([word.value for word in remaining])  # refuses if nothing to run is left
    return replace(parsed, words=tuple(remaining))
