"""Makes the record of an answer from what the operator saw."""

from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.review.model import Answer, Decision
from llmval_tui.actions.review.questions import comment_hash, item_sha256, scripts_of, written_commands
from llmval_tui.foundation.masked_text import without_secrets

if TYPE_CHECKING:
    from llmval_tui.actions.api import Proposal
    from llmval_tui.checklist.model import Step


def answer_to(
    step: "Step",
    proposal: "Proposal",
    decision: Decision,
    workspace: Path,
    *,
    by: str,
    when: str,
    in_list: bool = False,
) -> Answer:
    """The answer to the open question of a proposal. `in_list`: it goes into the list as an llmval comment."""
    scripts = scripts_of(proposal.commands, workspace) if decision is Decision.RUN else {}
    commands = tuple(map(without_secrets, written_commands(proposal.reading))) if decision is Decision.RUN else ()
    sha256 = comment_hash(step, proposal.reading, scripts, decision) if in_list else item_sha256(step)
    key, was = step.recorded_key, step.key
    replaces = None if key == was else was
    return Answer(*key, decision, sha256, commands, scripts, by, when, in_list, replaces)
