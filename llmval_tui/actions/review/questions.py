"""The question that an item must have answered before it starts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmval_tui.actions.review.settings import ListSettings

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import Reading
    from llmval_tui.checklist.model import Step
    from llmval_tui.runs.records import Command


def question_for(
    step: "Step", reading: "Reading | None", commands: "Sequence[Command]", settings: ListSettings
) -> str | None:
    """Why these commands must not start yet, in one sentence; None if they may.

    Args:
        commands: as they would start, with all values filled in.
    """
    return None
