"""The command line's side of plans: making, starting and cancelling one, and its exit code."""

import os
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Condition, Context, Options, Proposal
from llmval_tui.actions.criteria.directives import NO_SERVER
from llmval_tui.actions.criteria.directives import SERVER as SERVER_DIRECTIVE
from llmval_tui.actions.reading.model import MANUAL
from llmval_tui.actions.registry import propose, reading_of
from llmval_tui.actions.review.model import ListSettings
from llmval_tui.actions.review.questions import decided, is_skipped
from llmval_tui.actions.review.settings import settings_of
from llmval_tui.actions.section_runs import SERVED_ACTIONS, SERVER, SERVER_STOP
from llmval_tui.actions.steps.yardstick import yardstick_file
from llmval_tui.actions.yardstick.engine_command import engine_command, is_server_load_test
from llmval_tui.checklist.edit import check_writable
from llmval_tui.checklist.entries import ON_FAIL, ON_FAIL_VALUES
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import without_secrets
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso, utc_stamp
from llmval_tui.plans.items import Expected, PlanItem
from llmval_tui.plans.preview import preview
from llmval_tui.plans.records import (
    Plan,
    PlanIntent,
    PlannedStep,
    active_plan,
    write_intent,
)
from llmval_tui.runs import client
from llmval_tui.runs.inventory import gpu_inventory
from llmval_tui.runs.store import RunStore, is_demo, plans_folder, recorded_path


def gpu_count_of(inventory: dict[str, Any]) -> int | None:
    """The number of GPUs in an inventory; None if the driver did not answer."""
    count = inventory.get("gpu_count")
    return count if isinstance(count, int) else None


def context_for(
    checklist: Checklist,
    step: Step,
    workspace: Path,
    options: Options,
    gpu_count: int | None,
    store: RunStore | None = None,
    settings: ListSettings | None = None,
) -> Context:
    """Build the context of an action for one step.

    Raises:
        Refused: the file beside the list is invalid; it is read if `settings` is None.
    """
    return Context(
        workspace=workspace,
        checklist=checklist,
        step=step,
        options=options,
        store=store or RunStore(workspace),
        now=datetime.now().astimezone(),
        environment=dict(os.environ),
        gpu_count=gpu_count,
        demo=is_demo(workspace),
        settings=settings or settings_of(checklist.path, workspace),
    )


def plan_preview(
    checklist: Checklist,
    steps: Sequence[Step],
    workspace: Path,
    options: Options,
    *,
    ticked: Sequence[Step] = (),
    whole: bool = False,
) -> list[PlanItem]:
    """What a plan of these steps would do now.

    `ticked` are the steps that it leaves out because they are ticked. `whole`: the steps are those of a section or of
    the list, so that those that somebody decided to skip are left out too.

    Raises:
        Refused: the settings of the list are invalid.
    """
    store, settings = RunStore(workspace), settings_of(checklist.path, workspace)
    settings.check_bounds(checklist.steps)
    chosen, steps = steps, with_servers(checklist, steps, workspace, settings)
    keys = {step.key for step in chosen}
    added = [step for step in steps if step.key not in keys]
    ticked = [step for step in ticked if step not in added]
    gpus = gpu_count_of(gpu_inventory())
    skipped = [(step, "ticked") for step in ticked]
    left_out = [step for step in steps if is_skipped(step, settings)] if whole else []
    skipped += [(step, "as answered in the review") for step in left_out]
    proposals = [
        (step, propose(context_for(checklist, step, workspace, options, gpus, store, settings)))
        for step in steps
        if step not in left_out
    ]
    items = preview(proposals, options, demo=is_demo(workspace), skipped=skipped, added=added)
    return _with_yardsticks(items, workspace, gpus) if options.yardstick else items


def _with_yardsticks(items: Sequence[PlanItem], workspace: Path, gpus: int | None) -> list[PlanItem]:
    """The items, with the command of our engine for each load test against a server of the plan.

    Raises:
        Refused: none of them is such a load test.
    """
    found = [replace(item, yardstick=_yardstick_of(item, items, workspace, gpus)) for item in items]
    if not any(item.yardstick for item in found):
        raise Refused(
            "--yardstick repeats a load test by openai_load_test.py against a server that the list starts, and no "
            "chosen item is one: leave it out, or choose such an item."
        )
    return found


def _yardstick_of(item: PlanItem, items: Sequence[PlanItem], workspace: Path, gpus: int | None) -> str | None:
    """The command of our engine after this item, or why it is not known; None if the item has no yardstick."""
    if item.proposal is None or not _loads_a_server(item.proposal):
        return None
    server = _last_server_before(item, items)
    if server is None or server.proposal is None:
        return None
    load = next((one for one in item.proposal.commands if is_server_load_test(one.argv)), None)
    if load is None or not server.proposal.commands:
        if Expected.ASKS in (item.expected, server.expected):
            return "its command is known after the open questions are answered"
        stopped = item if item.expected is not Expected.RUNS else server
        return f"none: {stopped.step.number} is {stopped.expected}"
    try:
        return engine_command(
            load.argv, server.proposal.commands[0].argv, workspace, yardstick_file("RUN"), on_cpu=not gpus
        )
    except Refused as refusal:
        return str(refusal)


def _loads_a_server(proposal: Proposal) -> bool:
    """Whether the item runs our load test over HTTP, also if its command cannot be built yet."""
    written = proposal.reading.commands if proposal.reading is not None else ()
    words = [one.text.split() for one in written] + [one.argv for one in proposal.commands]
    return proposal.action in SERVED_ACTIONS and any(map(is_server_load_test, words))


def _last_server_before(item: PlanItem, items: Sequence[PlanItem]) -> PlanItem | None:
    """The server that the item will rest on. If it cannot start now, its plan has none: then the nearest before it."""
    numbers = [number for rest in item.rests if rest.condition == Condition.SERVES for number in rest.numbers]
    before = [one for one in items if one.is_server and one.step.line < item.step.line]
    if item.expected is Expected.RUNS:
        found = [one for one in before if one.step.number in numbers]
    elif item.step.directives.get(SERVER_DIRECTIVE) == NO_SERVER:
        found = []
    else:
        found = [one for one in before if one.step.section == item.step.section]
    return found[-1] if found else None


def with_servers(
    checklist: Checklist, steps: Sequence[Step], workspace: Path, settings: ListSettings | None = None
) -> list[Step]:
    """The steps, and the servers of their sections that they rest on and that were not chosen, in the list's order.

    Raises:
        Refused: the settings of the list are invalid.
    """
    settings = settings or settings_of(checklist.path, workspace)
    needed = set()
    asked = {step.key for step in steps}
    for section in checklist.sections:
        chosen = {step.key for step in section.steps if step.key in asked}
        serving: list[Step] = []
        for step in section.steps if chosen else ():
            try:
                action = MANUAL if decided(step, settings) else reading_of(step, checklist, workspace).action
            except Refused:  # its proposal says why
                continue
            if action == SERVER:
                serving.append(step)
            elif action == SERVER_STOP and serving:
                last = serving.pop()
                needed |= {last.key} if step.key in chosen else set()
            elif step.key in chosen and action in SERVED_ACTIONS and step.directives.get(SERVER) != NO_SERVER:
                needed |= {one.key for one in serving}
    keys = needed | asked
    return [step for step in checklist.steps if step.key in keys]


def _command(name: str, workspace: Path) -> str:
    """A command about this workspace, to copy; a person in its folder need not name it."""
    here = workspace.resolve() == Path.cwd()
    return f"llmval {name}" if here else f"llmval {name} --workspace {shlex.quote(str(workspace))}"


def make_plan(checklist: Checklist, items: Sequence[PlanItem], workspace: Path, options: Options) -> Plan:
    """Write the plan folder. The items are those of `plan_preview`.

    Raises:
        Refused: another plan is working on this workspace, the folder cannot be written, or the list cannot be ticked.
    """
    if options.tick:
        try:
            check_writable(checklist.path)  # before hours of measurement, and not after them
        except Refused as refusal:
            raise Refused(f"{refusal} --no-tick runs and judges without ticking.") from refusal
    if other := active_plan(workspace):
        current = other.status().current
        at = f" (at step {current})" if current else ""
        raise Refused(
            f"plan {other.id}{at} is working on {workspace}: wait for it, watch it with "
            f"`{_command('attach', workspace)}`, or end it with `{_command('cancel', workspace)}`."
        )
    folder = plans_folder(workspace) / f"{utc_stamp()}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise Refused(
            f"{folder} cannot be made ({error.strerror}): choose a --workspace that you can write."
        ) from error
    relative = recorded_path(checklist.path, workspace)
    planned = [
        PlannedStep(
            item.step.number,
            *item.step.recorded_key,
            checked=item.step.checked,
            expected=without_secrets(item.sentence),
            rests=list(item.rests),
            server=_address(item.proposal) if item.is_server and item.proposal is not None else None,
            stops=options.fail_fast or stops_on_failure(checklist, item.step),
            yardstick=item.yardstick is not None,
        )
        for item in items
        if item.is_planned
    ]
    write_intent(folder, PlanIntent(1, folder.name, relative, planned, asdict(options), utc_iso()))
    return Plan(folder)


def _address(proposal: Proposal) -> str:
    return proposal.server.url if proposal.server is not None else ""


def start_plan(plan: Plan) -> None:
    """Start the plan's process and wait until it is running.

    Raises:
        Refused: the process ended first; the message gives its reason.
    """
    log = plan.folder / "plan.log"
    pid = client.spawn_detached([sys.executable, "-m", "llmval_tui.plans.process", str(plan.folder)], log)
    deadline = time.monotonic() + client.START_TIMEOUT_S
    alive = True
    while alive and time.monotonic() < deadline:
        alive = Identity.of(pid) is not None  # before the status is read, so that the final status is seen
        status = plan.status()
        if status.message:
            raise Refused(status.message)
        if status.state != "starting":
            return
        time.sleep(0.02)
    raise Refused(f"plan {plan.id} did not start; see {log}.")


def stops_on_failure(checklist: Checklist, step: Step) -> bool:
    """Whether a failure of the step ends a plan: by its own llmval comment, else by the one of its section or list."""
    stated = step.directives.get(ON_FAIL) or checklist.section_of(step).directives.get(ON_FAIL)
    return stated == ON_FAIL_VALUES[0]
