"""The bounds that its section's baseline sets for the figures of a load test; known while it runs.

The configuration of a run is known only from its result. So the baseline is found by the result of the run itself or,
before its end, by that of the newest run of the same step whose command and machine are the same.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llmval_tui.actions.bounds import BASELINE, Bound
from llmval_tui.actions.command.argv import with_value
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.command.runner_catalog import LOAD_TEST_SCHEMA
from llmval_tui.actions.documents.baseline_table import Baseline, read_baselines
from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.actions.reading.words import documents
from llmval_tui.actions.registry import reading_of
from llmval_tui.actions.section_runs import command_of
from llmval_tui.actions.steps.baseline_change import baseline_of
from llmval_tui.actions.steps.baseline_compare import same_configuration
from llmval_tui.actions.steps.baseline_drift import BaselineDrift, threshold_percent
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import is_recorded_as
from llmval_tui.runs.evidence import locate
from llmval_tui.runs.records import Artifact
from llmval_tui.runs.store import RUN_PLACEHOLDER, Run


def baseline_bounds(run: Run, runs: Sequence[Run], checklist: Checklist, workspace: Path) -> dict[str, Bound]:
    """The bounds by metric; {} if no item of the run's section compares load tests, or no baseline is known to fit.

    Args:
        runs: all runs of the step, newest first.
    """
    artifact = result_of(run)
    if artifact is None:
        return {}
    with suppress(Refused):  # the item that compares says what is wrong with the document
        for step in checklist.steps:
            if not is_recorded_as(run.intent.step.section, step.section):
                continue
            if reading_of(step, checklist).action != BaselineDrift.name:
                continue
            baseline = _baseline(run, runs, step, workspace)
            share = threshold_percent(step.prose) / 100
            return {} if baseline is None else bounds_from(baseline, share)
    return {}


def bounds_from(baseline: Baseline, share: float) -> dict[str, Bound]:
    """Each metric of a baseline as a bound: worse by more than this share is a drift."""
    return {
        row.name: Bound(">=", row.value * (1 - share), BASELINE)
        if row.direction == "higher"
        else Bound("<=", row.value * (1 + share), BASELINE)
        for row in baseline.metrics
    }


def result_of(run: Run) -> Artifact | None:
    """The load test's result that a run promises."""
    return next((one for one in run.intent.artifacts if one.schema == LOAD_TEST_SCHEMA), None)


def _baseline(run: Run, runs: Sequence[Run], step: Step, workspace: Path) -> Baseline | None:
    named = step.directives.get("document")
    names = [named] if named else documents(step)
    if len(names) != 1:
        return None
    known = read_baselines(resolve_document(names[0], workspace).workspace_text, names[0])
    if not known:
        return None
    for one in runs:
        if one.id != run.id and _configuration(one) != _configuration(run):
            continue
        if (result := _judged_result(one, workspace)) is not None:
            return same_configuration(baseline_of(result, run.intent, "", ""), known)
    return None


def _judged_result(run: Run, workspace: Path) -> LoadResult | None:
    """The result that a run was judged by; None if it is gone, or was never judged."""
    artifact, verdict = result_of(run), run.verdict()
    if artifact is None or verdict is None:
        return None
    evidence = next((one for one in verdict.evidence if one.path == artifact.path), None)
    found = locate(workspace / artifact.path, evidence.sha256, run.folder).path if evidence is not None else None
    return read_result(found) if found is not None else None


def _configuration(run: Run) -> tuple[object, ...] | None:
    """The command and the machine of a load test; driver and power limit are compared with the baseline's own."""
    artifact = result_of(run)
    if artifact is None:
        return None
    argv = tuple(word.replace(str(run.folder), RUN_PLACEHOLDER) for word in command_of(run, artifact).argv)
    gpus = (run.intent.host.get("gpu") or {}).get("gpus") or ()
    return (
        with_value(argv, "--output-json", "", add=False),  # it may have the date in it
        run.intent.preset,
        run.intent.params.get("gpu_indices"),
        run.intent.host.get("name"),
        [gpu.get("name") for gpu in gpus],
    )
