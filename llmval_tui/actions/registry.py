"""All actions, the choice of the action for a step, and its proposal."""

from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Action, Context, Need, NotYet, Proposal, Skip
from llmval_tui.actions.command.needs import require_programs
from llmval_tui.actions.criteria.claims import claims_of
from llmval_tui.actions.criteria.directives import COMMAND_KEYS
from llmval_tui.actions.criteria.frozen import with_criteria
from llmval_tui.actions.nodes.placement import check_outputs
from llmval_tui.actions.reading.model import MANUAL, Kind, Reading
from llmval_tui.actions.reading.read import read_item
from llmval_tui.actions.reading.words import documents
from llmval_tui.actions.review.proposals import decided_proposal, known_values, unfilled_proposal, with_question
from llmval_tui.actions.review.questions import COMMENT_KEYS
from llmval_tui.checklist.document import read_document
from llmval_tui.checklist.entries import NEEDS, ON_FAIL, ON_FAIL_VALUES
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.fleet.launch import PARAMETER as FLEET
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import inside
from llmval_tui.foundation.text import clean_line

PLUGIN_GROUP = "llmval.actions"


def _own() -> dict[str, Action]:
    from llmval_tui.actions.steps.baseline_drift import BaselineDrift
    from llmval_tui.actions.steps.bug_report import BugReport
    from llmval_tui.actions.steps.collect_logs import CollectLogs
    from llmval_tui.actions.steps.command import CommandAction
    from llmval_tui.actions.steps.env_export import EnvExport
    from llmval_tui.actions.steps.findings_note import FindingsNote
    from llmval_tui.actions.steps.gated_todo import GatedTodo
    from llmval_tui.actions.steps.manual import ManualAction
    from llmval_tui.actions.steps.paired_run import PairedRun
    from llmval_tui.actions.steps.server import Server, ServerStop
    from llmval_tui.actions.steps.summary import Summary
    from llmval_tui.actions.steps.table_update import TableUpdate
    from llmval_tui.actions.steps.trace_capture import TraceCapture
    from llmval_tui.actions.steps.yardstick import Yardstick

    actions: list[Action] = [
        BaselineDrift(), BugReport(), CollectLogs(), CommandAction(), EnvExport(), FindingsNote(), GatedTodo(),
        ManualAction(), PairedRun(), Server(), ServerStop(), Summary(), TableUpdate(), TraceCapture(), Yardstick(),
    ]  # fmt: skip
    return {action.name: action for action in actions}


@cache
def actions() -> dict[str, Action]:
    """All actions by name. A plugin cannot replace one of llmval's own."""
    found = _own()
    for name, action in _plugins()[0].items():
        found.setdefault(name, action)
    return found


@cache
def _plugins() -> tuple[dict[str, Action], dict[str, str]]:
    """Plugin actions by name, and the error of each plugin that could not be loaded."""
    found: dict[str, Action] = {}
    broken: dict[str, str] = {}
    for entry in entry_points(group=PLUGIN_GROUP):
        try:
            loaded = entry.load()
            action: Action = loaded() if isinstance(loaded, type) else loaded
            if not (action.name and callable(action.propose) and callable(action.judge)):
                raise TypeError("it is not an action")
            found[action.name] = action
        except Exception as error:  # noqa: BLE001  (a plugin may raise anything; the operator sees the error)
            broken[entry.name] = f"{type(error).__name__}: {error}"
    return found, broken


def plugin_problems() -> dict[str, str]:
    """Plugins that could not be loaded, with the reasons."""
    return dict(_plugins()[1])


def action_named(name: str) -> Action:
    """The action with this name.

    Raises:
        Refused: it does not exist or could not be loaded.
    """
    if name in actions():
        return actions()[name]
    if name in _plugins()[1]:
        raise Refused(f"the plugin for action {name} could not be loaded ({_plugins()[1][name]}): repair or remove it.")
    raise Refused(f"there is no action {name!r}: use one of {', '.join(sorted(actions()))}.")


def needs_of(name: str) -> tuple[Need, ...]:
    """What the action of this name takes from the earlier steps of its section; () if it does not exist."""
    return tuple(getattr(actions().get(name), "needs", ()))


def reading_of(step: Step, checklist: Checklist, workspace: Path | None = None) -> Reading:
    """What an item asks for, with the markers of its documents in the workspace and the rules of plugins.

    A plugin's action is taken if its `matches(step)` answers and the item is otherwise manual or asks for an action
    that the plugin `refines`.

    Raises:
        Refused: the item names an action that does not exist.
    """
    stated = step.directives.get("action")
    if stated is not None:
        action_named(stated)
    has_markers = workspace is not None and _has_markers(step, workspace)
    reading = read_item(step, checklist.section_of(step), checklist, has_markers=has_markers)
    matching = {name: reason for name, action in _matching_plugins() if (reason := action.matches(step))}
    if stated is not None or not matching:
        return reading
    refined = {name for name in matching if reading.action in getattr(actions()[name], "refines", ())}
    names = sorted(refined or matching)
    if len(names) == 1 and (refined or reading.kind is Kind.MANUAL):
        return replace(
            reading,
            kind=Kind.BUILTIN,
            reason=f"the item {matching[names[0]]}",
            action=names[0],
            question=None,
            refusal=None,
        )
    choices = " or ".join(f"<!-- llmval: action={name} -->" for name in [*names, reading.action])
    question = f"Several actions fit this item: write {choices} after its text."
    return replace(reading, kind=Kind.ASK, reason="several actions fit", question=question, refusal=None)


def _check_directives(step: Step, action: Action) -> None:
    """Raise Refused if the step's llmval comment has a key that the action does not read."""
    known = {"action", ON_FAIL, NEEDS, *getattr(action, "directives", ())}
    if (stop := step.directives.get(ON_FAIL)) is not None and stop not in ON_FAIL_VALUES:
        raise Refused(f"{ON_FAIL}={stop} is not understood: write {ON_FAIL}={' or '.join(ON_FAIL_VALUES)}.")
    if unread := sorted(set(step.directives) - known - COMMENT_KEYS):
        if action.name == MANUAL and unread[0] in COMMAND_KEYS and step.spans:
            raise Refused(
                f"the item's llmval comment contains {unread[0]}=, but `{clean_line(step.spans[0])}` was not taken for "
                "a command: add action=command to the comment, or write “Run” before it."
            )
        raise Refused(
            f"the item's llmval comment contains {unread[0]}=, but to {action.title} llmval reads only "
            f"{', '.join(f'{key}=' for key in sorted(known))}: correct or remove it."
        )


def _has_markers(step: Step, workspace: Path) -> bool:
    """Whether a document of the workspace that the step names contains llmval's markers."""
    for name in documents(step):
        with suppress(Refused, OSError):
            if b"<!-- llmval:" in read_document(inside(workspace, name)):
                return True
    return False


def _matching_plugins() -> list[tuple[str, Any]]:
    """The plugins with the optional `matches(step) -> str | None`, by name."""
    return [(name, action) for name, action in _plugins()[0].items() if hasattr(action, "matches")]


def propose(context: Context) -> Proposal:
    """The work that the step would do now. If it cannot run, `refusal` says why; `Refused` is never raised.

    If a question about it is open, `unreviewed` says which one; everybody who starts steps looks at it.
    """
    try:
        reading = reading_of(context.step, context.checklist, context.workspace)
        action = action_named(reading.action)
    except Refused as refusal:
        return Proposal("undecided", "It is unclear what this item asks for.", telemetry=False, refusal=str(refusal))
    if not reading.criteria:
        reading = replace(reading, criteria=claims_of(context.step, reading.commands, reading.script))
    context = replace(context, reading=reading, values=known_values(context))
    reason = f"taken as “{action.title}” because {reading.reason}"
    try:
        _check_directives(context.step, action)
        waiting = decided_proposal(context)
        if waiting is None and reading.kind is not Kind.MANUAL:
            require_programs(context)
        if waiting is None and reading.kind is Kind.REFUSE:
            raise Refused(reading.refusal or "llmval does not start this item.")
        if waiting is None and reading.kind is Kind.ASK and not reading.commands and reading.script is None:
            raise Refused(reading.question or "A person must decide about this item.")
        waiting = waiting or unfilled_proposal(context, reading.action)
        proposal, criteria = (waiting, reading.criteria) if waiting else with_criteria(context, action.propose(context))
        check_outputs(proposal, context)
        if (
            context.options.nodes is not None
            and proposal.telemetry
            and proposal.commands
            and FLEET not in proposal.params
        ):
            raise Refused(f"llmval can {action.title} on one machine only: leave out --nodes for this item.")
        reading = replace(reading, criteria=criteria)
    except Refused as refusal:
        about = getattr(action, "about", f"Would {action.title}.")
        proposal = Proposal(
            reading.action,
            about,
            telemetry=False,
            refusal=str(refusal),
            is_skip=isinstance(refusal, Skip),
            not_yet=isinstance(refusal, NotYet),
        )
    proposal = replace(proposal, details=(reason, *proposal.details), reading=reading)
    return proposal if proposal.is_skip else with_question(context, proposal)
