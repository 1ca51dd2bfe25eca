"""The intents of the runs that a plan starts: of an item, and of a second measurement."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmval_tui.actions.api import Context, Options, Proposal
from llmval_tui.actions.section_runs import SERVER_STOP
from llmval_tui.actions.steps.server import SERVER_RUN
from llmval_tui.fleet.launch import PARAMETER as FLEET
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import without_secrets
from llmval_tui.foundation.text import utc_iso
from llmval_tui.plans.records import Plan
from llmval_tui.runs.command_secrets import with_secrets
from llmval_tui.runs.create import new_run_id
from llmval_tui.runs.inventory import git_revision, host_inventory, recorded_environment, software_versions
from llmval_tui.runs.records import Command, Intent, StepRef
from llmval_tui.runs.server_life import url_of
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, RUN_PLACEHOLDER, Run


def intent_of(
    plan: Plan, context: Context, proposal: Proposal, inventory: dict[str, Any], servers: Sequence[Run]
) -> Intent:
    """What a run of an item will do, with all that is known of the machine before its start.

    Args:
        inventory: of the GPUs.
        servers: the runs whose servers it rests on; of a step that ends a server, that one.

    Raises:
        Refused: the runners' interpreter does not report its versions.
    """
    options = context.options
    step = context.step
    ends = proposal.action == SERVER_STOP
    params = {**proposal.params, "demo": context.demo}
    if servers and ends:
        params[SERVER_RUN] = servers[-1].id
    elif servers:  # its engine's metrics are recorded with the run, whatever the command says of a URL
        params["engine_url"] = params.get("engine_url") or url_of(servers[-1])
    return Intent(
        v=1,
        run_id=new_run_id(step.number),
        action=proposal.action,
        step=StepRef(step.number, *step.recorded_key, checklist=plan.intent.checklist),
        commands=list(proposal.commands),
        cwd=str(context.workspace),
        created_utc=utc_iso(),
        artifacts=list(proposal.artifacts),
        tick=options.tick,
        preset=options.preset,
        deviations=[without_secrets(one) for one in proposal.deviations],
        telemetry=proposal.telemetry,
        params=params,
        plan_id=plan.id,
        server=proposal.server,
        servers=[] if ends else [server.id for server in servers],
        launcher=proposal.params.get(FLEET, {}).get("launcher"),
        how=proposal.params.get(FLEET, {}).get("how"),
        nodes=list(proposal.nodes),
        item_fingerprint=step.fingerprint,
        host={**host_inventory(), "gpu": inventory},
        versions=_versions(options),
        git=git_revision(context.workspace),
        environment=recorded_environment(os.environ),
    )


def intent_of_repeat(run: Run, nodes: Sequence[str]) -> Intent:
    """The second measurement of a run on some of its nodes.

    It is not a run of the item itself: it neither ticks it nor counts as its newest one.
    """
    first = run.intent
    return replace(
        first,
        run_id=new_run_id(first.step.number),
        commands=[_unresolved(with_secrets(run.folder, command), run) for command in first.commands],
        artifacts=[replace(one, path=one.path.replace(run.id, RUN_ID_PLACEHOLDER)) for one in first.artifacts],
        created_utc=utc_iso(),
        step=replace(first.step, text=f"Second measurement of run {run.id}: {first.step.text}"),
        tick=False,
        nodes=list(nodes),
        params={**first.params, FLEET: {**first.params[FLEET], "count": len(nodes), "repeats": run.id}},
    )


def _unresolved(command: Command, run: Run) -> Command:
    """A frozen command as it was before its run had a folder."""

    def word(text: str) -> str:
        return text.replace(str(run.folder), RUN_PLACEHOLDER)

    return replace(
        command,
        argv=[word(one) for one in command.argv],
        env={name: word(value) for name, value in command.env.items()},
    )


def _versions(options: Options) -> dict[str, str]:
    python = options.runner_python or sys.executable
    try:
        return software_versions(python)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise Refused(f"{python} does not report its versions ({error}): name another by --runner-python.") from error
