"""The items of a plan before it starts, and what is expected of them; `preview.py` makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from llmval_tui.actions.api import Condition
from llmval_tui.actions.section_runs import SERVER
from llmval_tui.plans.records import Rest

if TYPE_CHECKING:
    from llmval_tui.actions.api import Proposal
    from llmval_tui.checklist.model import Step


class Expected(StrEnum):
    """What a plan will do with an item."""

    RUNS = "runs"
    ASKS = "asks first"
    BY_HAND = "by hand"
    REFUSED = "refused"
    GROUP = "group"  # nothing to run: its box follows its children
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """An item of a plan, what will happen with it, and the earlier items of the plan that it rests on."""

    step: "Step"
    expected: Expected
    proposal: "Proposal | None" = None  # None: it was not chosen, because it is ticked or was answered by “skip”
    reason: str = ""
    rests: tuple[Rest, ...] = ()
    yardstick: str | None = None  # the command that puts our engine under the same load, or why there is none
    started_for: tuple[str, ...] = ()  # a server that was not chosen: the numbers of the items that rest on it

    @property
    def is_server(self) -> bool:
        """Whether the item starts a server."""
        return self.proposal is not None and self.proposal.action == SERVER

    @property
    def is_planned(self) -> bool:
        """Whether the plan has a result for it."""
        return self.expected is not Expected.GROUP and self.proposal is not None

    @property
    def sentence(self) -> str:
        """What will happen, for people: `runs after 2.2 passes`, `refused: …`."""
        if self.expected is Expected.RUNS and self.started_for:
            rest = "rests" if len(self.started_for) == 1 else "rest"
            return f"runs, because {listed(self.started_for, 'and')} {rest} on it"
        if self.expected is Expected.RUNS and self.rests:
            return f"runs {' and '.join(rest_text(rest) for rest in self.rests)}"
        return f"{self.expected}: {self.reason}" if self.reason else str(self.expected)


def rest_text(rest: Rest) -> str:
    """What must happen before, for people: `after 2.1 and 2.2 pass`."""
    numbers = rest.numbers
    several = len(numbers) > 1
    if rest.condition == Condition.PASSES and rest.every and several:
        return f"after {listed(numbers, 'and')} pass"
    if rest.condition == Condition.PASSES:
        return f"after {listed(numbers, 'or')} passes"
    if rest.condition == Condition.ENDS:
        return f"after {listed(numbers, 'and')} {'have' if several else 'has'} ended"
    if rest.condition == Condition.SERVES:
        return f"while {listed(numbers, 'and')} {'serve' if several else 'serves'}"
    return f"after {listed(numbers, 'and')}, without the variables if {'they fail' if several else 'it fails'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as people list them: `1.1, 1.2 and 2.1`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
