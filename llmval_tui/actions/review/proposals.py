"""What the answers and the values beside a list do to the proposal of a step."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.command.freeze import runner_python
from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.review.model import Decision, ListSettings, Question
from llmval_tui.actions.review.questions import answer_for, decided, missing_values, question_of
from llmval_tui.foundation.errors import Refused


def list_settings(context: Context) -> ListSettings:
    """The settings of the context's list; empty ones if there is no file."""
    return context.settings or ListSettings(workspace=context.workspace)


def known_values(context: Context) -> Mapping[str, str]:
    """The values of placeholders by name: from the file beside the list, then from `--set`."""
    return {**list_settings(context).values, **context.options.values}


def decided_proposal(context: Context) -> Proposal | None:
    """The proposal of an item that somebody decided to do by hand, or to skip; None for any other item."""
    answer = decided(context.step, list_settings(context))
    if answer is None:
        return None
    who = f"{answer.by or 'Somebody'} decided" + (f" on {answer.when[:10]}" if answer.when else "")
    number = context.step.number
    again = f"llmval review --again {number} asks anew"
    if answer.decision is Decision.SKIP:
        return Proposal(
            "manual", "This item is skipped.", telemetry=False, refusal=f"{who} to skip this item: {again}."
        )
    return Proposal(
        "manual",
        "A person does this item.",
        telemetry=False,
        refusal=f"{who} to do this item by hand: then tick it with a note (llmval tick {number} --note TEXT), or "
        f"{again}.",
    )


def unfilled_proposal(context: Context, action: str) -> Proposal | None:
    """The proposal of an item with placeholders that have no value; None if it has none."""
    missing = missing_values(context.reading, context.values)
    if not missing:
        return None
    question = Question(_needs_values(missing), missing=missing)
    return Proposal(action, f"Waits for {_values(missing)}.", unreviewed=question.text, open_question=question)


def with_question(context: Context, proposal: Proposal) -> Proposal:
    """The proposal with its open question in `unreviewed`. An item that a person must decide about has one even if
    nothing of it can be started."""
    asks = context.reading is not None and context.reading.kind is Kind.ASK
    if proposal.unreviewed is not None or (proposal.refusal is not None and not asks):
        return proposal
    try:
        if decided(context.step, list_settings(context)) is not None:
            return proposal
        question = proposal_question(context, proposal)
    except Refused as refusal:
        return replace(proposal, refusal=str(refusal))
    if question is not None:
        return replace(proposal, unreviewed=question.text, open_question=question)
    return replace(proposal, params={**proposal.params, **_record(context, proposal)})


def _record(context: Context, proposal: Proposal) -> dict[str, Any]:
    """What the run records of its review: the values of its placeholders, and who confirmed it."""
    names = context.reading.placeholders if context.reading is not None else ()
    record: dict[str, Any] = {"values": {name: context.values[name] for name in names}} if names else {}
    answer = answer_for(context.step, list_settings(context)) if proposal.commands else None
    if answer is not None:
        record["confirmed"] = {"by": answer.by, "when": answer.when}
    return record


def proposal_question(context: Context, proposal: Proposal) -> Question | None:
    """The open question about the commands of a proposal; None if there is none."""
    return question_of(
        context.step,
        proposal.reading,
        proposal.commands,
        list_settings(context),
        runner_python=runner_python(context),
        confirmed=context.options.confirmed,
        values=context.values,
    )


def _values(names: tuple[str, ...]) -> str:
    return ("the value of " if len(names) == 1 else "the values of ") + ", ".join(f"“{name}”" for name in names)


def _needs_values(names: tuple[str, ...]) -> str:
    return f"It needs {_values(names)}: give it in the review, or with --set {names[0]}=…."
