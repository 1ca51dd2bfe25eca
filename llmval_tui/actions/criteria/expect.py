"""The criteria that `expect=` states: `SOURCE SELECTOR OP BOUND [UNIT]`."""

from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Step


def stated_criteria(step: "Step") -> tuple[Criterion, ...]:
    """The criteria of the `expect=` words in the item's llmval comment, in order.

    Raises:
        Refused: one cannot be parsed; the message says which word is wrong, and what to write.
    """
    return ()
