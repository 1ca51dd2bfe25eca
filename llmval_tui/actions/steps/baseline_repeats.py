"""Repeats of a load test if one run cannot decide whether a metric drifted.

A drift of 4.8 % passes and one of 5.2 % fails, and the same node can show both on two days. If a metric is that close
to the bound, the comparison uses the median of several runs. The repeats are commands of the comparison's own run,
before the command that compares: result and baseline exist when the step is proposed, so the need is known then. The
operator sees the repeats before the start, and they have logs, exit codes, telemetry and cancellation like any command.
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

RUNS = 3  # number of runs in a comparison near the bound, including the load test's own
NEAR = 0.4  # share of the bound, on each side: 3 % to 7 % for a bound of 5 %
_OUTPUT = "--output-json"


@dataclass(frozen=True, slots=True)
class Repeats:
    """The repeats of a load test: commands and their artifacts, or the reason why it cannot be repeated."""

    commands: tuple[Command, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    refusal: str = ""


def near_bound(change: Change, percent: float, spread_percent: float | None = None) -> bool:
    """Whether a drift is so close to the bound that another run might lie on the other side.

    That is within the larger of 0.4 of the bound and `spread_percent`, the known range of runs of this configuration.
    """
    margin = max(NEAR * percent, spread_percent or 0.0)
    return abs(abs(change.worse_percent) - percent) <= margin


def seen_spreads(store: RunStore, compared: Mapping[str, str]) -> dict[str, float]:
    """The range in per cent of each metric, from the newest comparison with repeats of this configuration."""
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
    """Two repeats of the load test of `source`, unchanged except for their outputs."""
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
    """The reason why the command cannot be repeated here now; "" if it can."""
    value = value_of(tuple(command.argv), _OUTPUT)
    if value is None or (context.workspace / value).resolve() != (context.workspace / artifact.path).resolve():
        return f"its command does not write {artifact.path} by {_OUTPUT}"
    if missing := [word for word in command.argv[:2] if "/" in word and not (context.workspace / word).is_file()]:
        return f"{missing[0]} no longer exists"
    if str(result.identity.get("device")) == "cpu":
        return ""
    needed, available = result.gpus or 1, available_gpus(context)
    return f"it needs {needed} GPUs and this machine has {available}" if available < needed else ""


def _repeat(source: Run, command: Command, label: str) -> Command:
    """The command with output, logs and exit codes in the folder of the new run."""
    old_codes = f"{RUN_PLACEHOLDER}/ranks.{command.label}.json"
    argv = [word.replace(str(source.folder), RUN_PLACEHOLDER) for word in command.argv]
    argv = [f"{RUN_PLACEHOLDER}/ranks.{label}.json" if word == old_codes else word for word in argv]
    if "--" in argv:  # before it: the flags of llmval's own launcher
        place = argv.index("--")
        argv = [*with_value(tuple(argv[:place]), "--label", label, add=False), *argv[place:]]
    output = f"{RUN_PLACEHOLDER}/{label}.json"
    written = value_of(tuple(command.argv), _OUTPUT) or ""
    by_hand = str(PurePosixPath(written).with_suffix(f".{label}.json"))  # must not overwrite the evidence
    return replace(
        command,
        label=label,
        argv=list(with_value(tuple(argv), _OUTPUT, output, add=False)),
        display=command.display.replace(written, by_hand),
        tee=None,
    )


@dataclass(frozen=True, slots=True)
class Pooled:
    """Several runs of one configuration: the median of each metric, and the range of the runs."""

    baseline: Baseline  # without an artifact if there are several runs: the file with the medians is written later
    spread_percent: dict[str, float]  # (largest − smallest) / median of each metric; {} for a single run
    runs: int

    def backed_by(self, artifact: str, sha256: str) -> Baseline:
        """The baseline with the file that contains its medians; for a single run, its own result."""
        if self.runs == 1:
            return self.baseline
        identity = {**self.baseline.identity, "artifact": plain(artifact), "sha256": sha256}
        return replace(self.baseline, identity=identity)


def pooled(runs: Sequence[Baseline]) -> Pooled:
    """The medians over all runs, without metrics that a run lacks.

    Date, host and run id come from the last run, the comparison itself, which has all figures.
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
