"""All actions, the choice of the action for a step, and its proposal."""

from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points

from llmval_tui.actions.api import Action, Context, Need, NotYet, Proposal
from llmval_tui.actions.criteria.claims import claims_of
from llmval_tui.actions.criteria.frozen import with_criteria
from llmval_tui.actions.reading.read import read_item
from llmval_tui.actions.review.proposals import decided_proposal, known_values, unfilled_proposal, with_question
from llmval_tui.actions.review.questions import COMMENT_KEYS
from llmval_tui.actions.rules import RULES, Choice, Rule, choose
from llmval_tui.checklist.entries import ON_FAIL, ON_FAIL_VALUES
from llmval_tui.checklist.model import Step
from llmval_tui.foundation.errors import Refused

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
    from llmval_tui.actions.steps.summary import Summary
    from llmval_tui.actions.steps.table_update import TableUpdate
    from llmval_tui.actions.steps.trace_capture import TraceCapture

    actions: list[Action] = [
        BaselineDrift(), BugReport(), CollectLogs(), CommandAction(), EnvExport(), FindingsNote(), GatedTodo(),
        ManualAction(), PairedRun(), Summary(), TableUpdate(), TraceCapture(),
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


def choice_for(step: Step) -> Choice:
    """The name of the action for a step, and the reason.

    Raises:
        Refused: two actions match, or the step names one that does not exist.
    """
    stated = step.directives.get("action")
    if stated is not None:
        action_named(stated)
        return Choice(stated, "the item names it in its llmval comment")
    return choose(step, (*RULES, *_plugin_rules()))


def _check_directives(step: Step, action: Action) -> None:
    """Raise Refused if the step's llmval comment has a key that the action does not read."""
    known = {"action", ON_FAIL, *getattr(action, "directives", ())}
    if (stop := step.directives.get(ON_FAIL)) is not None and stop not in ON_FAIL_VALUES:
        raise Refused(f"{ON_FAIL}={stop} is not understood: write {ON_FAIL}={' or '.join(ON_FAIL_VALUES)}.")
    if unread := sorted(set(step.directives) - known - COMMENT_KEYS):
        raise Refused(
            f"the item's llmval comment contains {unread[0]}=, but to {action.title} llmval reads only "
            f"{', '.join(f'{key}=' for key in sorted(known))}: correct or remove it."
        )


def _plugin_rules() -> list[Rule]:
    """The rules of plugins: their `matches(step) -> str | None`, and the optional `refines`."""
    return [
        Rule(name, action.matches, frozenset(getattr(action, "refines", ())))
        for name, action in _plugins()[0].items()
        if hasattr(action, "matches")
    ]


def action_for(step: Step) -> Action:
    """The action of a step.

    Raises:
        Refused: see `choice_for`.
    """
    return action_named(choice_for(step).action)


def propose(context: Context) -> Proposal:
    """The work that the step would do now. If it cannot run, `refusal` says why; `Refused` is never raised.

    If a question about it is open, `unreviewed` says which one; everybody who starts steps looks at it.
    """
    reading = read_item(context.step, context.checklist.section_of(context.step), context.checklist)
    if not reading.criteria:
        reading = replace(reading, criteria=claims_of(context.step, reading.commands, reading.script))
    context = replace(context, reading=reading, values=known_values(context))
    try:
        choice = choice_for(context.step)
    except Refused as refusal:
        return Proposal(
            "undecided",
            "It is unclear what this item asks for.",
            telemetry=False,
            refusal=str(refusal),
            reading=reading,
        )
    action = action_named(choice.action)
    reason = f"taken as “{action.title}” because {choice.reason}"
    try:
        _check_directives(context.step, action)
        waiting = decided_proposal(context) or unfilled_proposal(context, choice.action)
        proposal, criteria = (waiting, reading.criteria) if waiting else with_criteria(context, action.propose(context))
        reading = replace(reading, criteria=criteria)
    except Refused as refusal:
        about = getattr(action, "about", f"Would {action.title}.")
        not_yet = isinstance(refusal, NotYet)
        proposal = Proposal(choice.action, about, telemetry=False, refusal=str(refusal), not_yet=not_yet)
    return with_question(context, replace(proposal, details=(reason, *proposal.details), reading=reading))
