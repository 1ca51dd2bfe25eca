"""The command line's side of plans: making, starting and cancelling one, and its exit code."""

import os
import secrets
import sys
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Context, Options
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso, utc_stamp
from llmval_tui.plans.records import (
    CANCEL_FILE,
    Plan,
    PlanIntent,
    PlannedStep,
    StepResult,
    active_plan,
)
from llmval_tui.runs import client
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore, is_demo, plans_folder, recorded_path


def gpu_count_of(inventory: dict[str, Any]) -> int | None:
    """How many GPUs an inventory lists; None where the driver gave no answer."""
    count = inventory.get("gpu_count")
    return count if isinstance(count, int) else None


def context_for(
    checklist: Checklist,
    step: Step,
    workspace: Path,
    options: Options,
    gpu_count: int | None,
    store: RunStore | None = None,
) -> Context:
    """What an action may look at, gathered for one step."""
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
    )


def make_plan(checklist: Checklist, steps: list[Step], workspace: Path, options: Options) -> Plan:
    """Write down which steps are wanted.

    Raises:
        Refused: another plan works on this workspace, or its folder cannot be written.
    """
    if other := active_plan(workspace):
        current = other.status().current
        at = f" (at step {current})" if current else ""
        raise Refused(
            f"plan {other.id}{at} is at work on {workspace}: wait for it, watch it with `llmval attach`, "
            "or end it with `llmval cancel`."
        )
    folder = plans_folder(workspace) / f"{utc_stamp()}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise Refused(
            f"{folder} cannot be made ({error.strerror}): choose a --workspace that you can write."
        ) from error
    relative = recorded_path(checklist.path, workspace)
    planned = [PlannedStep(step.number, *step.key, checked=step.checked) for step in steps]
    write_json(folder / "plan.json", PlanIntent(1, folder.name, relative, planned, asdict(options), utc_iso()))
    return Plan(folder)


def start_plan(plan: Plan) -> None:
    """Start the plan's process and wait until it is at work.

    Raises:
        Refused: it ended before that; the reason is its own.
    """
    log = plan.folder / "plan.log"
    pid = client.spawn_detached([sys.executable, "-m", "llmval_tui.plans.process", str(plan.folder)], log)
    deadline = time.monotonic() + client.START_TIMEOUT_S
    living = True
    while living and time.monotonic() < deadline:
        living = Identity.of(pid) is not None  # before the look, so that the last word is seen
        status = plan.status()
        if status.message:
            raise Refused(status.message)
        if status.state != "starting":
            return
        time.sleep(0.02)
    raise Refused(f"plan {plan.id} did not start; {log} may say why.")


def cancel_plan(plan: Plan, by: str) -> None:
    """Ask for the end of a plan and of the run it is at; asking again changes nothing."""
    if not (plan.folder / CANCEL_FILE).exists():
        client.request_end(plan.folder / CANCEL_FILE, by, plan.status().identity)


def exit_code_of(results: list[StepResult], cancelled: bool) -> ExitCode:
    """One code for a whole plan: interrupted, else the gravest of failed, refused, undecided, passed."""
    if cancelled:
        return ExitCode.INTERRUPTED
    outcomes = {result.outcome for result in results}
    if Outcome.FAIL in outcomes:
        return ExitCode.FAILED
    if "refused" in outcomes:
        return ExitCode.REFUSED
    if outcomes & {Outcome.INCONCLUSIVE, Outcome.INVALID}:
        return ExitCode.UNDECIDED
    return ExitCode.PASSED
