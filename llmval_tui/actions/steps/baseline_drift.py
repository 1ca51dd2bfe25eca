"""Compare the section's newest load test with the baseline in a document; propose a new table if they differ."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Condition, Context, Judgement, Need, Proposal
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.command.runner_catalog import LOAD_TEST_SCHEMA
from llmval_tui.actions.documents.baseline_table import BEGIN, END, Baseline, read_baselines, with_baseline
from llmval_tui.actions.documents.proposal import (
    accept_question,
    acceptance,
    judged_source,
    newest_result,
    propose_text,
    required_document,
)
from llmval_tui.actions.judges.load_test import judge_load_test
from llmval_tui.actions.judges.load_test_result import read_result
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, command_of, inherited, perform_command
from llmval_tui.actions.steps.baseline_change import Change, baseline_of, differences
from llmval_tui.actions.steps.baseline_compare import compare, near_metrics
from llmval_tui.actions.steps.baseline_repeats import Repeats, plan_repeats, pooled, seen_spreads
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_json
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore, recorded_path

COMPARISON = "comparison.json"
PROPOSAL = (
    "proposal.json"  # diff and hashes, apart from the comparison: a baseline of medians contains the comparison's hash
)
DEFAULT_PERCENT = 5.0
NO_REPEATS = (
    "one run this close to the bound does not decide, and a repeat left no valid result: see its log, and run this "
    "item again"
)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_NEW_DOCUMENT = f"""# Performance baseline

The results of the accepted runs on this node, one table for each configuration.

{BEGIN}
{END}
"""


class BaselineDrift:
    """Compares only equal configurations. The document changes only after the operator accepts."""

    name = "baseline_drift"
    title = "compare with the baseline"
    about = "Compares the section's newest load test with the document's baseline and proposes a new one on drift."
    directives = frozenset({"document"})
    needs = (Need(COMMAND_ACTIONS, Condition.PASSES, LOAD_TEST_SCHEMA, full_run=True),)

    def propose(self, context: Context) -> Proposal:
        name = required_document(context, "with the baseline")
        document = resolve_document(name, context.workspace)
        text = document.workspace_text
        known = read_baselines(text, name)
        source, artifact = newest_result(context, LOAD_TEST_SCHEMA, kind="load test", makes="baseline")
        percent = threshold_percent(context.step.prose)
        near, repeats = _to_repeat(context, source, artifact, known, percent)
        again = f" after repeating its load test {len(repeats.commands)} times" if repeats.commands else ""
        state = f"has {len(known)} baselines" if text else "does not exist yet and would be created"
        return Proposal(
            action=self.name,
            summary=f"Compares run {source.id} with the baseline in {name}, within {percent:g} %{again}.",
            details=(
                f"reads {artifact.path}",
                f"{name} {state}; it changes only after you accept the diff",
                "compares only with the same model, precision, GPUs, driver, power limit and load",
                *_near_lines(near, repeats, percent),
            ),
            commands=(*repeats.commands, perform_command(context)),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{COMPARISON}"), *repeats.artifacts),
            deviations=inherited([source]),
            params={
                "source_run": source.id,
                "result": artifact.path,
                "document": name,
                "percent": percent,
                "near": near,
                "repeats": len(repeats.commands),
                "single": _single(context, source, artifact, repeats),
                "gpu_indices": source.intent.params.get("gpu_indices"),
            },
            telemetry=bool(repeats.commands) and source.intent.telemetry,
        )

    def perform(self, run: Run) -> int:
        params, workspace = run.intent.params, run.workspace
        source, sha256, result = judged_source(run, read_result, "a load test's result")
        document = resolve_document(params["document"], workspace)
        text = document.workspace_text
        mine = baseline_of(result, source.intent, params["result"], sha256)
        runs = [mine, *_repeated(run, mine)]
        single = NO_REPEATS if params["repeats"] and len(runs) == 1 else params["single"]
        pool = pooled(runs)
        spreads = seen_spreads(RunStore(workspace), mine.compared)
        record = compare(pool, read_baselines(text, params["document"]), params["percent"], spreads, single)
        record |= {"v": 1, "source_run": source.id, "document": params["document"], "identity": pool.baseline.identity}
        record["document_sha256"] = document.sha256
        record["results"] = [
            {"identity": one.identity, "metrics": [asdict(row) for row in one.metrics]} for one in runs
        ]
        comparison = run.folder / COMPARISON
        write_json(comparison, record)
        if record["propose"]:
            baseline = pool.backed_by(recorded_path(comparison, workspace), sha256_of(comparison))
            new = with_baseline(text or _NEW_DOCUMENT, baseline, params["document"])
            write_json(run.folder / PROPOSAL, propose_text(run, params["document"], text, new))
        for change in record["changes"]:
            print(f"{change['name']}: {change['value']:.4g}, baseline {change['baseline']:.4g} {change['unit']}")
        print(record["reason"])
        return 0

    def judge(self, run: Run) -> Judgement:
        record = read_json(run.folder / COMPARISON)
        if not isinstance(record, dict):
            return (
                [Gate("comparison", Outcome.INCONCLUSIVE, "missing", "a comparison")],
                {},
                "nothing was compared",
                None,
            )
        percent = run.intent.params["percent"]
        found = [Change(**change) for change in record["changes"]]
        gates = [change.gate(percent) for change in found]
        if not gates:
            gates = [
                Gate(
                    "baseline",
                    Outcome.INCONCLUSIVE,
                    "not found",
                    "a baseline of the same configuration",
                    record["reason"],
                )
            ]
        metrics: dict[str, float | None] = {f"{change.name}_worse_percent": change.worse_percent for change in found}
        accepted_by = acceptance(run)
        if accepted_by is not None:
            gates = [
                gate if gate.outcome is Outcome.PASS else replace(gate, outcome=Outcome.PASS, reason=accepted_by)
                for gate in gates
            ]
            return gates + _repeat_gates(run), metrics, f"{record['reason']}; {accepted_by}", None
        repeats = _repeat_gates(run)
        return gates + repeats, metrics, record["reason"], _question(run, record, repeats)


def _to_repeat(
    context: Context, source: Run, artifact: Artifact, known: list[Baseline], percent: float
) -> tuple[list[str], Repeats]:
    """The metrics that one run cannot decide, and the repeats for them."""
    result = read_result(context.workspace / artifact.path)
    if result is None:  # the run itself reports it
        return [], Repeats()
    mine = baseline_of(result, source.intent, artifact.path, "")
    near = near_metrics(mine, known, percent, seen_spreads(context.store, mine.compared))
    return near, plan_repeats(context, source, artifact, result) if near else Repeats()


def _near_lines(near: list[str], repeats: Repeats, percent: float) -> list[str]:
    if not near:
        return []
    line = f"{', '.join(near)} too close to {percent:g} % to decide from one run"
    if repeats.refusal:
        return [f"{line}, but the load test cannot be repeated here: {repeats.refusal}"]
    return [f"{line}: repeats the load test, and compares the medians of {len(repeats.commands) + 1} runs"]


def _single(context: Context, source: Run, artifact: Artifact, repeats: Repeats) -> str:
    """The remedy if a metric near the bound has only one run."""
    here, there = f"llmval run {context.step.number}", f"llmval run {source.intent.step.number}"
    start = "one run this close to the bound does not decide"
    if not repeats.refusal:
        return f"{start}: {here} repeats the load test"
    shown = command_of(source, artifact).display
    return (
        f"{start}, and the load test cannot be repeated ({repeats.refusal}): on the node to judge, run `{there}`, "
        f"which is `{shown}`, then `{here}`"
    )


def _repeat_artifacts(run: Run) -> list[Artifact]:
    return [artifact for artifact in run.intent.artifacts if artifact.schema == LOAD_TEST_SCHEMA]


def _repeated(run: Run, mine: Baseline) -> list[Baseline]:
    """The figures of the repeats; [] if one of them is missing or invalid by its own gates.

    A failure must not select which runs count, so there is no median of the remaining two. A repeat that only fails a
    gate is valid: it measured a worse node.

    Raises:
        Refused: a repeat ran with another configuration.
    """
    found = []
    for artifact in _repeat_artifacts(run):
        path = run.workspace / artifact.path
        result = read_result(path)
        if result is None or result.ours.get("partial"):
            print(f"{artifact.path} is missing or incomplete: the repeats are not used")
            return []
        own, _, _ = judge_load_test(run, artifact)
        if invalid := [gate for gate in own if gate.outcome not in (Outcome.PASS, Outcome.FAIL)]:
            print(f"{artifact.path} is invalid ({', '.join(gate.name for gate in invalid)}): the repeats are not used")
            return []
        again = baseline_of(result, run.intent, artifact.path, sha256_of(path))
        if again.compared != mine.compared:
            raise Refused(
                f"{artifact.path} is not a repeat: {'; '.join(differences(again, mine))}. Run the load test again."
            )
        found.append(again)
    return found


def _repeat_gates(run: Run) -> list[Gate]:
    """The load test's gates that did not pass in a repeat."""
    gates = []
    for artifact in _repeat_artifacts(run):
        own, _, _ = judge_load_test(run, artifact)
        label = Path(artifact.path).stem
        gates += [replace(gate, name=f"{label}: {gate.name}") for gate in own if gate.outcome is not Outcome.PASS]
    return gates


def _question(run: Run, record: dict[str, Any], repeats: list[Gate]) -> dict[str, Any] | None:
    if not record["propose"] or repeats:  # a repeat with a failed gate makes no baseline
        return None
    proposal = read_json(run.folder / PROPOSAL)
    if isinstance(proposal, dict):  # runs of earlier releases have it in the comparison
        record = record | proposal
    if "proposed_sha256" not in record:  # it ended before the proposal was written; its exit code shows that
        return None
    return accept_question(run, record, f"{record['reason']}. Accept this run as the baseline in {record['document']}?")


def threshold_percent(text: str) -> float:
    """The drift in per cent that the step allows (`>5%`); 5 if it names none."""
    match = _PERCENT.search(text)
    return float(match[1]) if match else DEFAULT_PERCENT
