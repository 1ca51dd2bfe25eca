"""The reading of an item: one pure function over its words, its section and its checklist."""

from llmval_tui.actions.reading.model import Kind, Reading, WrittenCommand
from llmval_tui.actions.rules import MANUAL, choose, command_spans
from llmval_tui.checklist.model import Checklist, Section, Step
from llmval_tui.foundation.errors import Refused


def read_item(step: Step, section: Section, checklist: Checklist) -> Reading:
    """What the item asks for. Looks at nothing but the checklist: no file, no environment, no program."""
    commands = tuple(WrittenCommand(span, step.line) for span in command_spans(step))
    stated = step.directives.get("action")
    if stated is not None:
        kind = {"command": Kind.COMMAND, MANUAL: Kind.MANUAL}.get(stated, Kind.BUILTIN)
        return Reading(kind, "the item names it in its llmval comment", stated, commands)
    try:
        choice = choose(step)
    except Refused as refusal:
        return Reading(Kind.ASK, "two readings fit", "undecided", commands, question=str(refusal))
    kind = {"command": Kind.COMMAND, MANUAL: Kind.MANUAL}.get(choice.action, Kind.BUILTIN)
    return Reading(kind, choice.reason, choice.action, commands)
