"""Compare the section's newest load test with the baseline of a document; propose the new table where they differ."""

import difflib
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.baseline_table import BEGIN, END, Baseline, read_baselines, with_baseline
from llmval_tui.actions.common import (
    COMMAND_ACTIONS,
    accept_question,
    inherited,
    passed,
    perform_command,
    section_runs,
    the_document,
    workspace_of,
)
from llmval_tui.actions.drift import Change, baseline_of, changes, differences
from llmval_tui.actions.load_result import read_result
from llmval_tui.actions.load_test import SCHEMA
from llmval_tui.actions.resolve import resolve_document
from llmval_tui.actions.rules import prose
from llmval_tui.checklist.paths import inside
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_atomic, write_json
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

COMPARISON, PROPOSED = "comparison.json", "proposed.md"
DEFAULT_PERCENT = 5.0
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_NEW_DOCUMENT = f"""# Performance baseline

What this node did in its accepted runs, one table a configuration.

{BEGIN}
{END}
"""


class BaselineDrift:
    """Compares only like with like; a document changes only by the operator's word."""

    name = "baseline_drift"
    title = "compare with the baseline"
    about = "Compares the section's newest load test with the document's baseline and proposes a new one on drift."

    def propose(self, context: Context) -> Proposal:
        name = the_document(context, "with the baseline")
        document = resolve_document(name, context.workspace)
        text = document.text if document.source == "workspace" else ""
        known = read_baselines(text, name)
        source, artifact = _newest_result(context)
        percent = threshold_percent(prose(context.step))
        state = f"has {len(known)} baselines" if text else "is not there yet and would be made"
        return Proposal(
            action=self.name,
            summary=f"Compares run {source.id} with the baseline in {name}, within {percent:g} %.",
            details=(
                f"reads {artifact.path}",
                f"{name} {state}; nothing in it changes before you accept the diff",
                "compares only with the same model, precision, GPUs, driver, power limit and load",
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{COMPARISON}"),),
            deviations=inherited([source]),
            params={"source_run": source.id, "result": artifact.path, "document": name, "percent": percent},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        params, workspace = run.intent.params, workspace_of(run)
        source = RunStore(workspace).get(params["source_run"])
        path = inside(workspace, params["result"])
        verdict = source.verdict()
        backed = {item.path: item.sha256 for item in verdict.evidence} if verdict else {}
        if not path.is_file() or backed.get(params["result"]) != sha256_of(path):
            raise Refused(
                f"{params['result']} is not what run {source.id} was judged by any more: run the load test again."
            )
        result = read_result(path)
        if result is None:
            raise Refused(f"{params['result']} is not a load test's result: run the load test again.")
        document = resolve_document(params["document"], workspace)
        there = document.source == "workspace"
        text = document.text if there else ""
        mine = baseline_of(result, source.intent, params["result"], backed[params["result"]])
        record = _compare(mine, read_baselines(text, params["document"]), params["percent"])
        record |= {"v": 1, "source_run": source.id, "document": params["document"], "identity": mine.identity}
        record["document_sha256"] = hashlib.sha256(text.encode()).hexdigest() if there else None
        if record["propose"]:
            new = with_baseline(text or _NEW_DOCUMENT, mine, params["document"])
            write_atomic(run.folder / PROPOSED, new.encode())
            record["proposed_sha256"] = sha256_of(run.folder / PROPOSED)
            record["diff"] = unified_diff(text, new, params["document"])
            print(record["diff"], end="")
        write_json(run.folder / COMPARISON, record)
        for change in record["changes"]:
            print(f"{change['name']}: {change['value']:.4g}, baseline {change['baseline']:.4g} {change['unit']}")
        print(record["reason"])
        return 0

    def judge(self, run: Run) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
        record = read_json(run.folder / COMPARISON)
        if not isinstance(record, dict):
            return [Gate("comparison", Outcome.INCONCLUSIVE, "none", "a comparison")], {}, "nothing was compared", None
        percent = run.intent.params["percent"]
        found = [Change(**change) for change in record["changes"]]
        gates = [change.gate(percent) for change in found]
        if not gates:
            gates = [
                Gate(
                    "baseline", Outcome.INCONCLUSIVE, "none to compare with", "the same configuration", record["reason"]
                )
            ]
        metrics: dict[str, float | None] = {f"{change.name}_worse_percent": change.worse_percent for change in found}
        answer = accepted(run)
        if answer is not None:
            word = f"accepted by {answer.get('by')} at {answer.get('at_utc')}"
            gates = [
                gate if gate.outcome is Outcome.PASS else replace(gate, outcome=Outcome.PASS, reason=word)
                for gate in gates
            ]
            return gates, metrics, f"{record['reason']}; {word}", None
        return gates, metrics, record["reason"], _question(run, record)


def _compare(mine: Baseline, known: list[Baseline], percent: float) -> dict[str, Any]:
    same = next((baseline for baseline in known if baseline.compared == mine.compared), None)
    if same is None:
        nearest = min((differences(mine, other) for other in known), key=len, default=[])
        reason = f"no baseline of this configuration ({'; '.join(nearest)})" if nearest else "no baseline yet"
        return {"baseline": None, "changes": [], "reason": f"{reason}; this run can become one", "propose": True}
    found = changes(mine, same)
    outside = [change for change in found if abs(change.worse_percent) > percent]
    values = [
        {"name": c.name, "unit": c.unit, "baseline": c.baseline, "value": c.value, "worse_percent": c.worse_percent}
        for c in found
    ]
    if not found:
        reason = "the baseline and the result have no metric in common"
    elif outside:
        worst = max(outside, key=lambda change: abs(change.worse_percent))
        word = "worse" if worst.worse_percent > 0 else "better"
        reason = (
            f"{len(outside)} of {len(found)} metrics drifted by more than {percent:g} %; most of all {worst.name}, "
        )
        reason += f"{abs(worst.worse_percent):.1f} % {word}"
    else:
        reason = f"all {len(found)} metrics are within {percent:g} % of the baseline"
    propose = bool(outside) or not found
    return {"baseline": same.name, "changes": values, "reason": reason, "propose": propose}


def _question(run: Run, record: dict[str, Any]) -> dict[str, Any] | None:
    if not record["propose"]:
        return None
    return accept_question(
        run, record, PROPOSED, f"{record['reason']}. Accept this run as the baseline in {record['document']}?"
    )


def unified_diff(old: str, new: str, name: str) -> str:
    """What changes in a document, as `diff -u` shows it; `old` is "" where the document is new."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after, f"a/{name}" if old else "/dev/null", f"b/{name}")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def threshold_percent(text: str) -> float:
    """The drift that a step's words allow (`>5%`); 5 where they name none."""
    match = _PERCENT.search(text)
    return float(match[1]) if match else DEFAULT_PERCENT


def _newest_result(context: Context) -> tuple[Run, Artifact]:
    """The newest passing load test of the section, and its result.

    Raises:
        Refused: there is none, or only smoke runs outside a demo workspace.
    """
    smoke = False
    for run in section_runs(context.store, context.step.section, COMMAND_ACTIONS):
        artifact = next((item for item in run.intent.artifacts if item.schema == SCHEMA), None)
        if artifact is None or not passed(run.verdict()):
            continue
        if run.intent.preset is not None and not context.demo:
            smoke = True
            continue
        if not Path(context.workspace / artifact.path).is_file():
            raise Refused(f"{artifact.path} of run {run.id} is gone: run the load test again.")
        return run, artifact
    if smoke:
        raise Refused(
            "this section has passed only as a smoke run, which makes no baseline: run the load test in full."
        )
    raise Refused("no load test of this section has passed yet, so there is nothing to compare: run it first.")
