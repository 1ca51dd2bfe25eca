"""Groups: items whose box follows the items below them."""

from llmval_tui.actions.reading.read import read_item
from llmval_tui.checklist.model import Checklist, Step


def is_group(checklist: Checklist, step: Step) -> bool:
    """Whether the item has nothing to run of its own and its box follows the items below it."""
    return read_item(step, checklist.section_of(step), checklist).is_group


def children_of(checklist: Checklist, step: Step) -> list[Step]:
    """The items directly below an item."""
    return [one for one in checklist.section_of(step).steps if one.parent == step.number]


def run_instead(checklist: Checklist, step: Step) -> list[Step]:
    """The steps that run if somebody asks for this one: itself, or the unticked items below a group, at any depth."""
    if not is_group(checklist, step):
        return [step]
    children = [one for child in children_of(checklist, step) for one in run_instead(checklist, child)]
    return [one for one in children if not one.checked]
