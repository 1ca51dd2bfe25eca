"""When one run is too little to say whether a metric drifted, and how its load test is repeated.

A drift of 4.8 % passes and one of 5.2 % fails, and the same node gives both on two days. Where a metric lies that near
to the bound, the comparison rests on the median of several runs instead. The repeats are commands of the comparison's
own run, in front of the one that compares: that they are needed is known when the step is proposed, for the result and
the baseline are there by then. So the operator sees them before the start, and the supervisor gives them what it gives
every command: logs, exit codes of all ranks, telemetry, the cancel ladder. A process of the comparison that started
torchrun itself would need all of this a second time.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from llmval_tui.actions.api import Context
from llmval_tui.actions.command.argv import value_of, with_value
from llmval_tui.actions.command.gpu_count import available_gpus
from llmval_tui.actions.documents.baseline_table import Baseline, plain
from llmval_tui.actions.judges.load_test_result import LoadResult
from llmval_tui.actions.section_runs import command_of
from llmval_tui.actions.steps.baseline_change import Change
from llmval_tui.foundation.files import read_json
from llmval_tui.runs.records import Artifact, Command
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, RUN_PLACEHOLDER, Run, RunStore

RUNS = 3  # that a comparison near the bound rests on, the load test's own among them
NEAR = 0.4  # of the bound, on each side: 3 % to 7 % of a bound of 5 %
_OUTPUT = "--output-json"


@dataclass(frozen=True, slots=True)
class Repeats:
    """The repeats of a load test: commands and what each must leave, or `refusal`, why there can be none."""

    commands: tuple[Command, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    refusal: str = ""


def near_bound(change: Change, percent: float, spread_percent: float | None = None) -> bool:
    """Whether a drift lies so near to the bound that another run might fall on its other side.

    That is within 0.4 of the bound, or within `spread_percent`, by which runs of this configuration were seen to
    differ, where that is more.
    """
    margin = max(NEAR * percent, spread_percent or 0.0)
    return abs(abs(change.worse_percent) - percent) <= margin


def seen_spreads(store: RunStore, compared: Mapping[str, str]) -> dict[str, float]:
    """By how many per cent the runs of this configuration differed in the newest comparison that repeated them."""
    for run in store.runs():
        record = read_json(run.folder / "comparison.json")
        if isinstance(record, dict) and record.get("runs", 1) > 1 and record.get("compared") == compared:
            return {
                change["name"]: float(change["spread_percent"])
                for change in record["changes"]
                if change.get("spread_percent") is not None
            }
    return {}


def plan_repeats(context: Context, source: Run, artifact: Artifact, result: LoadResult) -> Repeats:
    """The load test of `source` as it was run, twice more, each with an output of its own."""
    command = command_of(source, artifact)
    refusal = _refusal(context, command, artifact, result)
    if refusal:
        return Repeats(refusal=refusal)
    found = [_repeat(source, command, f"repeat{number}") for number in range(2, RUNS + 1)]
    if any(source.id in word for one in found for word in (*one.argv, *one.env.values())):
        return Repeats(refusal=f"the command of run {source.id} writes into that run's own folder")
    folder = f"artifacts/runs/{RUN_ID_PLACEHOLDER}"
    artifacts = tuple(Artifact(f"{folder}/{one.label}.json", artifact.schema) for one in found)
    return Repeats(tuple(found), artifacts)


def _refusal(context: Context, command: Command, artifact: Artifact, result: LoadResult) -> str:
    """Why the command cannot be run again here and now; "" where it can."""
    value = value_of(tuple(command.argv), _OUTPUT)
    if value is None or (context.workspace / value).resolve() != (context.workspace / artifact.path).resolve():
        return f"its command does not say by {_OUTPUT} where {artifact.path} comes from"
    if missing := [word for word in command.argv[:2] if "/" in word and not (context.workspace / word).is_file()]:
        return f"{missing[0]} is not there any more"
    if str(result.identity.get("device")) == "cpu":
        return ""
    needed, there = int(result.identity.get("tensor_parallel") or 1), available_gpus(context)
    return f"it needs {needed} GPUs and this machine has {there}" if there < needed else ""


def _repeat(source: Run, command: Command, label: str) -> Command:
    """The command with its output, its logs and its record of exit codes in the new run's folder."""
    old_codes = f"{RUN_PLACEHOLDER}/ranks.{command.label}.json"
    argv = [word.replace(str(source.folder), RUN_PLACEHOLDER) for word in command.argv]
    argv = [f"{RUN_PLACEHOLDER}/ranks.{label}.json" if word == old_codes else word for word in argv]
    if "--" in argv:  # in front of it, what llmval's own launcher is told
        place = argv.index("--")
        argv = [*with_value(tuple(argv[:place]), "--label", label, add=False), *argv[place:]]
    output = f"{RUN_PLACEHOLDER}/{label}.json"
    written = value_of(tuple(command.argv), _OUTPUT) or ""
    by_hand = str(PurePosixPath(written).with_suffix(f".{label}.json"))  # so that nobody writes over the evidence
    return replace(
        command,
        label=label,
        argv=list(with_value(tuple(argv), _OUTPUT, output, add=False)),
        display=command.display.replace(written, by_hand),
        tee=None,
    )


@dataclass(frozen=True, slots=True)
class Pooled:
    """Several runs of one configuration as one: the median of each metric, and how far the runs lie apart."""

    baseline: Baseline  # of several runs without an artifact: what backs the medians is written after them
    spread_percent: dict[str, float]  # (largest − smallest) / median of each metric; {} of a single run
    runs: int

    def backed_by(self, artifact: str, sha256: str) -> Baseline:
        """The baseline with the file that its medians stand in; a single run's is that run's own result."""
        if self.runs == 1:
            return self.baseline
        identity = {**self.baseline.identity, "artifact": plain(artifact), "sha256": sha256}
        return replace(self.baseline, identity=identity)


def pooled(runs: Sequence[Baseline]) -> Pooled:
    """The medians over all runs; a metric that one of them lacks is left out.

    Date, host and run are the last one's, which the comparison itself made: it has all of the figures.
    """
    first = runs[0]
    if len(runs) == 1:
        return Pooled(first, {}, 1)
    rows, spread = [], {}
    for metric in first.metrics:
        values = [other.value for run in runs for other in run.metrics if other.name == metric.name]
        if len(values) < len(runs):
            continue
        median = statistics.median(values)
        rows.append(replace(metric, value=median))
        if median:
            spread[metric.name] = 100 * (max(values) - min(values)) / abs(median)
    own = {key: value for key, value in runs[-1].identity.items() if key in ("date", "host", "run")}
    identity = {key: value for key, value in (first.identity | own).items() if key not in ("artifact", "sha256")}
    identity["runs"] = str(len(runs))
    return Pooled(Baseline(first.name, identity, tuple(rows)), spread, len(runs))
