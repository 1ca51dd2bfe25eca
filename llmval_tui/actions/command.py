"""Run a command of the checklist; its exit code, its artifacts and the figures in them are the judgement."""

from pathlib import Path
from typing import Any

from llmval_tui.actions.adapt import demand_of
from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.argv import value_of
from llmval_tui.actions.build import Built, build
from llmval_tui.actions.load_test import SCHEMA, judge_load_test
from llmval_tui.actions.rules import command_spans
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Artifact, Gate
from llmval_tui.runs.store import Run


class CommandAction:
    """A step that is a command: its exit code, its artifacts and the figures in them are the judgement."""

    name = "command"
    title = "run a command"
    about = "Runs the item's command and judges its exit code, its artifacts and the figures in them."

    def propose(self, context: Context) -> Proposal:
        built = build(context, the_command(context))
        return proposal_of(self.name, context, [built], summary_of(built))

    def perform(self, run: Run) -> int:
        raise Refused(f"{self.name} is done by its command; there is nothing else to perform.")

    def judge(self, run: Run) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
        return judge_results(run)


def judge_results(
    run: Run, artifacts: list[Artifact] | None = None
) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
    """The gates that the formats of a run's artifacts bring with them; a format without figures of its own has none."""
    gates: list[Gate] = []
    metrics: dict[str, float | None] = {}
    summaries = []
    artifacts = run.intent.artifacts if artifacts is None else artifacts
    for artifact in artifacts:
        if artifact.schema == SCHEMA:
            found, values, text = judge_load_test(run, artifact)
            gates += found
            metrics |= values
            summaries.append(text)
    if not summaries:
        names = ", ".join(artifact.path for artifact in artifacts) or "none were asked for"
        summaries.append(f"judged by exit code and artifacts ({names})")
    return gates, metrics, "; ".join(summaries), None


def the_command(context: Context) -> str:
    """The one code span of the step that is a command.

    Raises:
        Refused: none, or several.
    """
    found = command_spans(context.step)
    if not found and context.step.directives.get("action"):
        found = list(context.step.spans)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("the item holds no command: write it as a code span, such as `torchrun … script.py …`.")
    raise Refused(f"the item holds {len(found)} commands: give each an item of its own.")


def proposal_of(action: str, context: Context, built: list[Built], summary: str, **params: Any) -> Proposal:
    """The proposal that runs these commands one after the other."""
    artifacts: dict[str, Artifact] = {}
    for one in built:
        artifacts |= {artifact.path: artifact for artifact in one.outputs.artifacts}
    details = [line for one in built for line in one.details]
    for path in artifacts:
        there = (context.workspace / path).exists()
        details.append(f"replaces {path}, which is there" if there else f"writes {path}")
    deviations = list(dict.fromkeys(line for one in built for line in one.deviations))
    return Proposal(
        action=action,
        summary=summary,
        details=tuple(dict.fromkeys(details)),
        commands=tuple(one.command for one in built),
        artifacts=tuple(artifacts.values()),
        deviations=tuple(deviations),
        params={
            "outputs": {one.command.label: [item.path for item in one.outputs.artifacts] for one in built},
            "output_folders": [folder for one in built for folder in one.outputs.folders],
            "runner": next((one.script.runner for one in built if one.script), None),
            "demo": context.demo,
            "gpu_indices": gpu_indices(built, context),
            **params,
        },
    )


def gpu_indices(built: list[Built], context: Context) -> list[int] | None:
    """The GPUs that the commands use, so that a stranger on another one does not spoil the run; None: not known.

    Ranks take the visible GPUs in order, as torch numbers them by their local rank.
    """
    if all(value_of(one.shape.arguments, "--device") == "cpu" for one in built):
        return []
    chosen = context.options.gpus
    visible: list[int] = list(dict.fromkeys(chosen)) if chosen is not None else list(range(context.gpu_count or 0))
    named = context.environment.get("CUDA_VISIBLE_DEVICES") if chosen is None else None
    if named is not None:
        parts = [part.strip() for part in named.split(",")]
        if not all(part.isdecimal() for part in parts):  # UUIDs or MIG instances
            return None
        visible = [int(part) for part in parts]
    counts = [one.command.nproc or demand_of(one.shape).gpus for one in built]
    return visible[: max(counts)] if all(counts) and visible else None


def summary_of(built: Built) -> str:
    """One sentence that says what will run, on what, for how long."""
    name = Path(built.shape.script or built.shape.program).name
    count = built.command.nproc
    duration = value_of(built.shape.arguments, "--duration")
    parts = [f"Runs {name}"]
    if count:
        on_cpu = value_of(built.shape.arguments, "--device") == "cpu"
        parts.append(f"in {count} ranks on the CPU" if on_cpu else f"on {count} GPU{'s' if count > 1 else ''}")
    elif gpus := demand_of(built.shape).gpus:
        parts.append(f"on {gpus} GPU{'s' if gpus > 1 else ''}")
    if duration:
        parts.append(f"for {duration} s")
    judged = [artifact.path for artifact in built.outputs.artifacts]
    return " ".join(parts) + (f" and judges {judged[0]}." if judged else " and judges its exit code.")
