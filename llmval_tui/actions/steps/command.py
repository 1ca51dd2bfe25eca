"""Run a command of the checklist, and judge its exit code, its artifacts and their figures."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from llmval_tui.actions.api import Condition, Context, Judgement, Need, Proposal
from llmval_tui.actions.command.argv import value_of, values_of
from llmval_tui.actions.command.engine_url import engine_url
from llmval_tui.actions.command.freeze import Built
from llmval_tui.actions.command.gpu_count import demand_of, implied_gpus
from llmval_tui.actions.command.item import build_item, promised
from llmval_tui.actions.command.runner_catalog import POWER_SWEEP_SCHEMA
from llmval_tui.actions.command.several_nodes import nnodes_of
from llmval_tui.actions.criteria.directives import COMMAND_KEYS, Directives, stated_directives
from llmval_tui.actions.criteria.frozen import frozen_criteria
from llmval_tui.actions.judges.by_schema import JUDGES
from llmval_tui.actions.nodes.placement import placed, placement_of
from llmval_tui.actions.reading.model import WrittenCommand
from llmval_tui.actions.reading.read import read_item
from llmval_tui.actions.section_runs import ENV_EXPORT
from llmval_tui.actions.tools.load.facts import FAILED_GATE, FAILURE_METRICS
from llmval_tui.actions.tools.metric_names import metric_named
from llmval_tui.actions.tools.results import tool_result, verdict_metrics
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.runs.file_origin import written_by_another_run
from llmval_tui.runs.inventory import visible_gpus
from llmval_tui.runs.records import Artifact, Command, Gate
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, Run


class CommandAction:
    """A step with one command, several commands, or a script."""

    name = "command"
    title = "run a command"
    about = "Runs the item's command and judges its exit code, its artifacts and the figures in them."
    directives = COMMAND_KEYS
    needs: tuple[Need, ...] = (Need(frozenset({ENV_EXPORT}), Condition.NOT_FAILED),)

    def propose(self, context: Context) -> Proposal:
        reading = context.reading or read_item(
            context.step, context.checklist.section_of(context.step), context.checklist
        )
        if not reading.commands and reading.script is None:
            reading = replace(reading, commands=(WrittenCommand(required_command(context), context.step.line),))
        placement = placement_of(context, reading)
        if placement is not None:
            context = replace(context, elsewhere=True)
        built = build_item(context, reading)
        proposal = proposal_of(self.name, context, built, _summary_of_all(built))
        more = promised(context, reading, built)
        proposal = replace(proposal, artifacts=(*proposal.artifacts, *more))
        return proposal if placement is None else placed(proposal, placement)

    def perform(self, run: Run) -> int:
        raise Refused(f"the command does the work of {self.name}; there is nothing else to perform.")

    def judge(self, run: Run) -> Judgement:
        commands = run.intent.commands
        if len(commands) < 2:
            return with_tool(run, judge_results(run), "main")
        return judge_each(run, {command.label: command.line for command in commands})


def judge_each(run: Run, lines: Mapping[str, int | None]) -> Judgement:
    """The gates of the results of each command, with its label and its line in the checklist."""
    gates: list[Gate] = []
    metrics: dict[str, float | None] = {}
    summaries = []
    for label, line in lines.items():
        own = run.intent.params["outputs"][label]
        part = [artifact for artifact in run.intent.artifacts if artifact.path in own]
        found, values, text, _ = with_tool(run, judge_results(run, part), label)
        gates += [replace(gate, name=f"{label}: {gate.name}", line=gate.line or line) for gate in found]
        metrics |= {f"{label}_{name}": value for name, value in values.items()}
        summaries.append(f"{label}: {text}")
    return gates, metrics, "; ".join(summaries), None


def with_tool(run: Run, judgement: Judgement, label: str) -> Judgement:
    """A judgement and the result of the known tool that the command with this label starts."""
    command = next((command for command in run.intent.commands if command.label == label), None)
    result = tool_result(run, command) if command is not None else None
    if result is None:
        return judgement
    gates, metrics, _, question = judgement
    found = [gate for gate in result.gates if gate.name != FAILED_GATE or not _states_failures(run)]
    return [*gates, *found], metrics | verdict_metrics(result.metrics), result.summary, question


def _states_failures(run: Run) -> bool:
    """Whether the item itself says how many requests of a load test may fail; its criterion replaces the bound of 0."""
    return any(
        one.selector in FAILURE_METRICS or metric_named(one.metric or "", None, one.unit) in FAILURE_METRICS
        for one in frozen_criteria(run)
        if not one.unreadable
    )


def judge_results(run: Run, artifacts: list[Artifact] | None = None) -> Judgement:
    """The gates, metrics and summary of a run's artifacts; only formats in `JUDGES` have them."""
    gates: list[Gate] = []
    metrics: dict[str, float | None] = {}
    summaries = []
    artifacts = run.intent.artifacts if artifacts is None else artifacts
    for artifact in artifacts:
        judge = JUDGES.get(artifact.schema or "")
        if judge is None:
            continue
        # A sweep resumes the cells of an earlier run; its judge says which run measured each cell.
        if artifact.schema != POWER_SWEEP_SCHEMA and written_by_another_run(run, artifact):
            summaries.append(f"{artifact.path} is not the file that this run left, so its figures were not judged")
        else:
            found, values, text = judge(run, artifact)
            gates += found
            metrics |= values
            summaries.append(text)
    if not summaries and not frozen_criteria(run):
        names = ", ".join(artifact.path for artifact in artifacts) or "none"
        summaries.append(f"no figure was judged (files: {names})")
    return gates, metrics, "; ".join(summaries), None


def required_command(context: Context) -> str:
    """The one code span of the step that is a command.

    Raises:
        Refused: there is none, or several.
    """
    reading = context.reading or read_item(context.step, context.checklist.section_of(context.step), context.checklist)
    found = [command.text for command in reading.commands]
    if not found and context.step.directives.get("action"):
        found = list(context.step.spans)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("the item contains no command: write it as a code span, such as `torchrun … script.py …`.")
    raise Refused(f"the item contains {len(found)} commands: give each its own item.")


def proposal_of(action: str, context: Context, built: list[Built], summary: str, **params: Any) -> Proposal:
    """The proposal to run these commands one after the other."""
    artifacts: dict[str, Artifact] = {}
    for one in built:
        artifacts |= {artifact.path: artifact for artifact in one.outputs.artifacts}
    details = [line for one in built for line in one.details]
    folders = [folder for one in built for folder in one.outputs.folders]
    details += [f"appends to {one.command.tee}" for one in built if one.command.append]
    if source := context.step.directives.get("source"):
        details.append(f"its criteria come from: {clean_line(source)}")
    details += _writes(context.workspace, [path for path in artifacts if RUN_ID_PLACEHOLDER not in path], folders)
    deviations = list(dict.fromkeys(line for one in built for line in one.deviations))
    return Proposal(
        action=action,
        summary=summary,
        details=tuple(dict.fromkeys(details)),
        commands=tuple(_limited(one.command, stated_directives(context.step)) for one in built),
        artifacts=tuple(artifacts.values()),
        deviations=tuple(deviations),
        params={
            "outputs": {one.command.label: [item.path for item in one.outputs.artifacts] for one in built},
            "output_folders": folders,
            "runner": next((one.script.runner for one in built if one.script), None),
            "demo": context.demo,
            "gpu_indices": gpu_indices(built, context),
            "engine_url": next((url for one in built if (url := engine_url(one.command.argv))), None),
            **params,
        },
    )


def _limited(command: Command, stated: Directives) -> Command:
    """The command with the limits of the item's llmval comment."""
    return replace(command, timeout_s=stated.timeout_s, retries=stated.retries)


def _writes(workspace: Path, paths: list[str], folders: list[str]) -> list[str]:
    """A line for each output; the files of one output folder share a line."""
    lines = []
    for folder in folders:
        inside = ", ".join(
            str(PurePosixPath(path).relative_to(folder)) for path in paths if path.startswith(f"{folder}/")
        )
        there = " (it exists already)" if (workspace / folder).exists() else ""
        lines.append(f"writes into {folder}{there}" + (f": {inside}" if inside else ""))
    for path in paths:
        if path not in folders and not any(path.startswith(f"{folder}/") for folder in folders):
            exists = (workspace / path).exists()
            lines.append(f"replaces {path}" if exists else f"writes {path}")
    return lines


def gpu_indices(built: list[Built], context: Context) -> list[int] | None:
    """The GPUs that the commands use: a foreign process on another GPU does not invalidate the run. None: unknown.

    Local rank i uses the visible GPU i.
    """
    if all(value_of(one.argv.arguments, "--device") == "cpu" for one in built):
        return []
    chosen = context.options.gpus
    visible: list[int] = list(dict.fromkeys(chosen)) if chosen is not None else list(range(context.gpu_count or 0))
    if chosen is None and "CUDA_VISIBLE_DEVICES" in context.environment:
        named = visible_gpus(context.environment)
        if named is None:
            return None
        visible = named
    if any(devices := [values_of(one.argv.arguments, "--devices") for one in built]):
        wanted = [word for words in devices for word in words]
        if "all" in wanted:
            return visible or None
        return sorted({visible[int(word)] for word in wanted if word.isdecimal() and int(word) < len(visible)}) or None
    counts = [
        one.command.nproc
        or demand_of(one.argv).gpus
        or implied_gpus(one.script.runner if one.script else None, one.argv)
        for one in built
    ]
    return visible[: max(counts)] if all(counts) and visible else None


def _summary_of_all(built: list[Built]) -> str:
    if len(built) == 1:
        return summary_of(built[0])
    names = [Path(one.argv.script or one.argv.program).name for one in built]
    return f"Runs {len(built)} commands in order ({', '.join(names)}); all must pass."


def summary_of(built: Built) -> str:
    """One sentence with the script, its devices and its duration."""
    if built.command.script is not None:
        lines = len(built.command.script.text.splitlines())
        return f"Runs a script of {lines} line{'s' if lines > 1 else ''} with bash and judges its exit code."
    name = Path(built.argv.script or built.argv.program).name
    nodes = nnodes_of(built.argv)
    count = built.command.nproc * nodes if built.command.nproc else None
    duration = value_of(built.argv.arguments, "--duration")
    parts = [f"Runs {name}"]
    if count:
        on_cpu = value_of(built.argv.arguments, "--device") == "cpu"
        parts.append(f"in {counted(count, 'rank')} on the CPU" if on_cpu else f"on {counted(count, 'GPU')}")
    elif value_of(built.argv.arguments, "--device") == "cpu":
        ranks = demand_of(built.argv).gpus
        parts.append(f"in {counted(ranks, 'rank')} on the CPU" if ranks else "on the CPU")
    elif gpus := demand_of(built.argv).gpus or implied_gpus(built.script.runner if built.script else None, built.argv):
        parts.append(f"on {counted(gpus, 'GPU')}")
    if nodes > 1:
        parts.append(f"of {nodes} nodes")
    # The unit of another program's --duration is not known: it may be minutes, or stand in the value ("5s").
    if duration and built.script and built.script.runner:
        parts.append(f"for {duration} s")
    written = [artifact.path for artifact in built.outputs.artifacts]
    judged = [f"what it appends to {built.command.tee}"] if built.command.append else written
    return " ".join(parts) + (f" and judges {judged[0]}." if judged else " and judges its exit code.")
