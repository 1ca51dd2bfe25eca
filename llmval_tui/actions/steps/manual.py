"""A step that only a person can do; the operator ticks it with a note."""

from llmval_tui.actions.api import Context, Judgement, Proposal
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.store import Run


class ManualAction:
    """Runs nothing; the operator's note is the record."""

    name = "manual"
    title = "do by hand"
    about = "llmval cannot do this item: do it by hand, and tick it with a note."

    def propose(self, context: Context) -> Proposal:
        number = context.step.number
        if context.reading is not None and context.reading.is_group:
            return Proposal(
                action=self.name,
                summary="A group: its box is ticked after all items below it.",
                telemetry=False,
                refusal=f"it has nothing to run of its own; llmval run {number} runs the open items below it.",
            )
        reason = context.reading.reason if context.reading is not None else "there is no command in it"
        return Proposal(
            action=self.name,
            summary=self.about,
            telemetry=False,
            refusal=f"{reason}, so llmval starts nothing: tick it with a note once it is done "
            f"(llmval tick {number} --note TEXT).",
        )

    def perform(self, run: Run) -> int:
        raise Refused("this item is done by hand; there is nothing to perform.")

    def judge(self, run: Run) -> Judgement:
        raise Refused("this item is done by hand; there is no run to judge.")
