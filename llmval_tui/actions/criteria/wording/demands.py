"""What a demand is not: success, which the exit code answers, and how or when the operator runs something."""

import re

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.wording.prose import COMMAND, LITERAL

# A demand for nothing but success, which the exit code answers.
_SUCCESS_WORDS = (
    "that it this they to also still the command script test tests run job cleanly successfully again then and on "
    "a an all of both must should shall has have need needs make sure verify verifies check confirm ensure expect "
    "expected whether if is pass passes succeed succeeds work works complete completes finish finishes runs exit "
    "exits end ends return returns with code status 0 zero ok successful through without failing be in repo "
    "folder clean clone suite build builds compile compiles green packages package steps step checks crates targets "
    "jobs locally"
)
_SUCCESS = frozenset(_SUCCESS_WORDS.split())
# Demands on the operator: how and when something is run.
PROCEDURE = re.compile(
    r"\b(?:must|should|shall|has to|have to|needs? to|needs?)\s+(?:not\s+)?(?:be\s+)?(?:run|ran|started?|done"
    r"|executed|installed|used|called|repeated"
    r"|booked|drained|logged|built|set|exported|loaded|mounted|copied|root|replaced|changed|edited|on the"
    r"|in the|from|as root)\b",
    re.IGNORECASE,
)


def only_success(clause: str) -> bool:
    """Whether the words ask for nothing but success, which the exit code answers."""
    return all(word in _SUCCESS for word in re.findall(rf"\w+|{LITERAL}", re.sub(COMMAND, " ", clause).lower()))


def unreadable(text: str, command: int | None = None) -> Criterion:
    """A demand that no gate can judge."""
    return Criterion(
        text,
        StatedBy.WORDS,
        "output",
        "unreadable",
        command=command,
        unreadable=f"llmval cannot judge “{text}”: say what the output must show in the item's llmval comment, such as "
        'expect="stdout ~ /WORDS/", or expect="exit == 0" if the exit code is enough',
    )
