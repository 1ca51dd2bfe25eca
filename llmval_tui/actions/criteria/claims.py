"""What an item demands of its run in its own words: "p99 TTFT < 200 ms", "prints nothing", "all 8 GPUs listed"."""

from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript
    from llmval_tui.checklist.model import Step


def claims_of(
    step: "Step", commands: "tuple[WrittenCommand, ...]", script: "WrittenScript | None"
) -> tuple[Criterion, ...]:
    """The criteria that the item's words state besides exit code 0, in order; () if it runs nothing."""
    return ()
