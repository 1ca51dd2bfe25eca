"""What a plan will do, item by item, before it starts: for the dry run, for the dialog, and for the plan itself."""

from collections.abc import Sequence

from llmval_tui.actions.api import Condition, Need, Options, Proposal
from llmval_tui.actions.reading.model import MANUAL, Kind
from llmval_tui.actions.registry import needs_of
from llmval_tui.checklist.model import Step
from llmval_tui.plans.items import Expected, PlanItem
from llmval_tui.plans.records import Rest


def preview(
    proposals: Sequence[tuple[Step, Proposal]],
    options: Options,
    *,
    demo: bool,
    skipped: Sequence[tuple[Step, str]] = (),
) -> list[PlanItem]:
    """What a plan of these steps will do, in their order, and the steps that it leaves out with the reasons."""
    items: list[PlanItem] = []
    for step, proposal in proposals:
        items.append(_item(step, proposal, items, options, demo=demo))
    left_out = [PlanItem(step, Expected.SKIPPED, reason=reason) for step, reason in skipped]
    return sorted([*items, *left_out], key=lambda item: item.step.line)


def _item(step: Step, proposal: Proposal, earlier: list[PlanItem], options: Options, *, demo: bool) -> PlanItem:
    reading = proposal.reading
    if reading is not None and reading.is_group:
        return PlanItem(step, Expected.GROUP, proposal, "its box follows the items below it")
    if proposal.action == MANUAL or (reading is not None and reading.kind is Kind.MANUAL):
        return PlanItem(step, Expected.BY_HAND, proposal)
    if reading is not None and reading.kind is Kind.ASK and proposal.refusal is not None:
        return PlanItem(step, Expected.ASKS, proposal, reading.question or proposal.refusal)
    if proposal.unreviewed is not None:
        return PlanItem(step, Expected.ASKS, proposal, proposal.unreviewed)
    if proposal.refusal is not None and not proposal.not_yet:
        return PlanItem(step, Expected.REFUSED, proposal, proposal.refusal)
    rests: list[Rest] = []
    for need in needs_of(proposal.action):
        sources = [item for item in earlier if item.step.section == step.section and _gives(item, need)]
        running = [item.step.number for item in sources if item.expected is Expected.RUNS]
        if not running or (need.every and len(running) < len(sources)):
            continue  # what is there now decides
        if need.full_run and options.preset is not None and not demo and (proposal.not_yet or need.every):
            reason = f"{running[0]} will be a {options.preset} run, which does not count here: run it in full"
            return PlanItem(step, Expected.REFUSED, proposal, reason)
        rests.append(Rest(running, need.condition, need.every))
    decisive = [rest for rest in rests if rest.condition != Condition.NOT_FAILED]
    if proposal.refusal is not None and not decisive:
        return PlanItem(step, Expected.REFUSED, proposal, proposal.refusal)
    return PlanItem(step, Expected.RUNS, proposal, rests=tuple(rests))


def _gives(item: PlanItem, need: Need) -> bool:
    """Whether the item makes what the need is about; an item that waits for an earlier one may make it."""
    proposal = item.proposal
    if proposal is None or proposal.action not in need.actions:
        return False
    if need.schema is None or proposal.not_yet:
        return True
    return any(artifact.schema == need.schema for artifact in proposal.artifacts)
