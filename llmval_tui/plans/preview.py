"""What a plan will do, item by item, before it starts: for the dry run, for the dialog, and for the plan itself."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from llmval_tui.actions.api import Condition, Need, Options, Proposal
from llmval_tui.actions.criteria.directives import NO_SERVER, SERVER
from llmval_tui.actions.reading.model import MANUAL, Kind
from llmval_tui.actions.registry import needs_of
from llmval_tui.actions.section_runs import SERVED_ACTIONS, SERVER_STOP
from llmval_tui.checklist.model import Step
from llmval_tui.plans.items import Expected, PlanItem
from llmval_tui.plans.records import Rest


def preview(
    proposals: Sequence[tuple[Step, Proposal]],
    options: Options,
    *,
    demo: bool,
    skipped: Sequence[tuple[Step, str]] = (),
    added: Collection[Step] = (),
) -> list[PlanItem]:
    """What a plan of these steps will do, in their order, and the steps that it leaves out with the reasons.

    `added` are the servers among them that were not chosen, and that chosen steps rest on.
    """
    items: list[PlanItem] = []
    for step, proposal in proposals:
        items.append(_item(step, proposal, items, options, demo=demo))
    for index, item in enumerate(items):
        if item.step in added:
            rest_on_it = [other.step.number for other in items[index + 1 :] if _rests(other, item.step.number)]
            items[index] = replace(item, started_for=tuple(rest_on_it))
    left_out = [PlanItem(step, Expected.SKIPPED, reason=reason) for step, reason in skipped]
    return sorted([*items, *left_out], key=lambda item: item.step.line)


def _rests(item: PlanItem, number: str) -> bool:
    return any(rest.condition == Condition.SERVES and number in rest.numbers for rest in item.rests)


def _item(step: Step, proposal: Proposal, earlier: list[PlanItem], options: Options, *, demo: bool) -> PlanItem:
    reading = proposal.reading
    if reading is not None and reading.is_group:
        return PlanItem(step, Expected.GROUP, proposal, "its box follows the items below it")
    if proposal.action == MANUAL or (reading is not None and reading.kind is Kind.MANUAL):
        return PlanItem(step, Expected.BY_HAND, proposal)
    if proposal.is_skip:
        return PlanItem(step, Expected.SKIPPED, proposal, proposal.refusal or "")
    if reading is not None and reading.kind is Kind.ASK and proposal.refusal is not None:
        return PlanItem(step, Expected.ASKS, proposal, reading.question or proposal.refusal)
    if proposal.unreviewed is not None:
        return PlanItem(step, Expected.ASKS, proposal, proposal.unreviewed)
    if proposal.refusal is not None and not proposal.not_yet:
        return PlanItem(step, Expected.REFUSED, proposal, proposal.refusal)
    rests: list[Rest] = []
    if servers := _servers_of(step, proposal, earlier):
        rests.append(Rest(servers, Condition.SERVES, every=True))
    elif proposal.action == SERVER_STOP:
        return PlanItem(step, Expected.REFUSED, proposal, "no item before it starts a server in this section")
    for need in needs_of(proposal.action):
        if need.condition is Condition.SERVES:
            continue
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


def _servers_of(step: Step, proposal: Proposal, earlier: list[PlanItem]) -> list[str]:
    """The numbers of the servers that an item rests on: those that serve when it starts; of a stop the last one.

    A server that cannot start counts too: what rests on it is then not run. One that somebody starts by hand does not.
    """
    if proposal.action not in (*SERVED_ACTIONS, SERVER_STOP) or step.directives.get(SERVER) == NO_SERVER:
        return []
    serving: dict[str, str] = {}  # by address: another server there replaces it
    for item in earlier:
        if item.step.section != step.section or item.proposal is None:
            continue
        if item.expected is Expected.RUNS and item.proposal.action == SERVER_STOP and serving:
            serving.popitem()
        elif item.is_server and item.expected in (Expected.RUNS, Expected.ASKS, Expected.REFUSED, Expected.SKIPPED):
            address = item.proposal.server.url if item.proposal.server is not None else item.step.number
            serving.pop(address, None)
            serving[address] = item.step.number
    numbers = list(serving.values())
    return numbers[-1:] if proposal.action == SERVER_STOP else numbers


def _gives(item: PlanItem, need: Need) -> bool:
    """Whether the item makes what the need is about; an item that waits for an earlier one may make it."""
    proposal = item.proposal
    if proposal is None or proposal.action not in need.actions:
        return False
    if need.schema is None or proposal.not_yet:
        return True
    return any(artifact.schema == need.schema for artifact in proposal.artifacts)
