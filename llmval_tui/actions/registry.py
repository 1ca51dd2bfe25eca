"""The actions there are, which of them a step gets, and its proposal."""

from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points

from llmval_tui.actions.api import Action, Context, Proposal
from llmval_tui.actions.rules import RULES, Choice, Rule, choose
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
    """Every action by name: llmval's own, then those of plugins, which cannot replace one of llmval's."""
    found = _own()
    for name, action in _plugins()[0].items():
        found.setdefault(name, action)
    return found


@cache
def _plugins() -> tuple[dict[str, Action], dict[str, str]]:
    """Plugin actions by name, and why those that could not be loaded were not."""
    found: dict[str, Action] = {}
    broken: dict[str, str] = {}
    for entry in entry_points(group=PLUGIN_GROUP):
        try:
            loaded = entry.load()
            action: Action = loaded() if isinstance(loaded, type) else loaded
            if not (action.name and callable(action.propose) and callable(action.judge)):
                raise TypeError("it is not an action")
            found[action.name] = action
        except Exception as error:  # noqa: BLE001  (a stranger's code may raise anything; it is told to the operator)
            broken[entry.name] = f"{type(error).__name__}: {error}"
    return found, broken


def plugin_problems() -> dict[str, str]:
    """Plugins that could not be loaded, each with the reason."""
    return dict(_plugins()[1])


def action_named(name: str) -> Action:
    """The action with that name.

    Raises:
        Refused: there is none; the sentence lists those there are.
    """
    if name in actions():
        return actions()[name]
    if name in _plugins()[1]:
        raise Refused(f"the plugin for action {name} could not be loaded ({_plugins()[1][name]}): repair or remove it.")
    raise Refused(f"there is no action {name!r}: use one of {', '.join(sorted(actions()))}.")


def choice_for(step: Step) -> Choice:
    """The name of the action that a step gets, and why.

    Raises:
        Refused: two actions fit, or the step states one that does not exist.
    """
    stated = step.directives.get("action")
    if stated is not None:
        action_named(stated)
        return Choice(stated, "the item states it in its llmval comment")
    return choose(step, (*RULES, *_plugin_rules()))


def _check_directives(step: Step, action: Action) -> None:
    """Raise Refused where the step's llmval comment has a key that nobody reads: its writer meant something by it."""
    known = {"action", *getattr(action, "directives", ())}
    if unread := sorted(set(step.directives) - known):
        raise Refused(
            f"the item's llmval comment says {unread[0]}=, and to {action.title} llmval reads only "
            f"{', '.join(f'{key}=' for key in sorted(known))} there: correct or remove it."
        )


def _plugin_rules() -> list[Rule]:
    """A plugin joins the rules by a method `matches(step) -> str | None`, and may name what it `refines`."""
    return [
        Rule(name, action.matches, frozenset(getattr(action, "refines", ())))
        for name, action in _plugins()[0].items()
        if hasattr(action, "matches")
    ]


def action_for(step: Step) -> Action:
    """The action of a step.

    Raises:
        Refused: as `choice_for`.
    """
    return action_named(choice_for(step).action)


def propose(context: Context) -> Proposal:
    """What the step would do now. What keeps it from running is its `refusal`; nothing is raised for operator input."""
    try:
        choice = choice_for(context.step)
    except Refused as refusal:
        return Proposal("undecided", "Not known what this item asks for.", telemetry=False, refusal=str(refusal))
    action = action_named(choice.action)
    reason = f"taken as “{action.title}” because {choice.reason}"
    try:
        _check_directives(context.step, action)
        proposal = action.propose(context)
    except Refused as refusal:
        about = getattr(action, "about", f"Would {action.title}.")
        proposal = Proposal(choice.action, about, telemetry=False, refusal=str(refusal))
    return replace(proposal, details=(reason, *proposal.details))
