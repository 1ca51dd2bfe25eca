"""Propose new tables for a document from the section's newest passing summary, as a diff to accept."""

from pathlib import PurePosixPath
from typing import Any

from llmval_tui.actions.api import Condition, Context, Judgement, Need, Proposal
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.command.runner_catalog import POWER_SUMMARY_SCHEMA
from llmval_tui.actions.documents.marker_block import POWER_BEGIN, power_tables_of, with_power_tables
from llmval_tui.actions.documents.proposal import (
    accept_question,
    acceptance,
    newest_result,
    propose_text,
    required_document,
    unchanged_sha256,
)
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, inherited, perform_command
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, write_json
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

_RECORD = "tables.json"


class TableUpdate:
    """Replaces the tables between the markers and nothing else, after the operator accepts."""

    name = "table_update"
    title = "update tables"
    about = "Proposes the tables of the section's newest summary for the document, as a diff to accept."
    directives = frozenset({"document"})
    needs = (Need(COMMAND_ACTIONS, Condition.PASSES, POWER_SUMMARY_SCHEMA, full_run=True),)

    def propose(self, context: Context) -> Proposal:
        name = required_document(context, "to write to")
        document = resolve_document(name, context.workspace)
        with_power_tables(document.text, "", name)  # refuses markers that do not pair up
        source, artifact = newest_result(context, POWER_SUMMARY_SCHEMA, kind="summary", makes="table")
        summary = artifact.path
        tables = str(PurePosixPath(summary).with_suffix(".md"))
        if not (context.workspace / tables).is_file():
            raise Refused(f"{tables} of run {source.id} is gone: run the summary again.")
        state = {
            "workspace": f"{name} changes only between the markers {POWER_BEGIN}, after you accept the diff",
            "bundled": f"{name} is not in the workspace: llmval's own is copied and changed after you accept the diff",
            "absent": f"{name} does not exist yet: it is created after you accept the diff",
        }
        verdict = source.verdict()
        return Proposal(
            action=self.name,
            summary=f"Proposes the tables of {summary} for {name}, as a diff to accept.",
            details=(
                f"reads {tables}, which run {source.id} wrote beside its summary",
                *([f"the summary has {verdict.summary}"] if verdict and verdict.summary else []),
                state[document.source],
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{_RECORD}"),),
            deviations=inherited([source]),
            params={"source_run": source.id, "summary": summary, "tables": tables, "document": name},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        params, workspace = run.intent.params, run.workspace
        source, name = RunStore(workspace).get(params["source_run"]), params["document"]
        summary_sha256 = unchanged_sha256(source, params["summary"])
        unchanged_sha256(source, params["tables"])
        tables = power_tables_of((workspace / params["tables"]).read_text(encoding="utf-8"), params["tables"])
        if summary_sha256 not in tables:
            raise Refused(f"{params['tables']} does not belong to {params['summary']}: run the summary again.")
        document = resolve_document(name, workspace)
        old, new = document.workspace_text, with_power_tables(document.text, tables, name)
        cells: list[dict[str, Any]] = (read_json(workspace / params["summary"]) or {}).get("cells", [])
        record: dict[str, Any] = {
            "v": 1,
            **{key: params[key] for key in ("source_run", "summary", "tables", "document")},
            "rows": len(cells),
            "baseline_rows": sum(row["baseline_grade"] for row in cells),
            "document_sha256": document.sha256,
            "propose": new != old,
        }
        if record["propose"]:
            record |= propose_text(run, name, old, new)
        write_json(run.folder / _RECORD, record)
        print(_sentence(record))
        return 0

    def judge(self, run: Run) -> Judgement:
        record = read_json(run.folder / _RECORD)
        if not isinstance(record, dict):
            return [Gate("tables", Outcome.INCONCLUSIVE, "none", "tables")], {}, "nothing was proposed", None
        metrics: dict[str, float | None] = {"rows": record["rows"], "baseline_rows": record["baseline_rows"]}
        rows = Gate(
            "rows",
            Outcome.PASS if record["rows"] else Outcome.INCONCLUSIVE,
            f"{record['rows']} rows, {record['baseline_rows']} of windows of 60 s or more",
            "at least one row with a figure",
        )
        bound = f"{record['document']} has the tables of the summary"
        if not record["propose"]:
            gates = [rows, Gate("tables", Outcome.PASS, "up to date", bound)]
            return gates, metrics, f"{record['document']} has these tables already", None
        accepted_by = acceptance(run)
        if accepted_by is None:
            gates = [rows, Gate("tables", Outcome.INCONCLUSIVE, "proposed", bound, "the diff waits for your answer")]
            question = accept_question(run, record, f"{_sentence(record)}. Write them into {record['document']}?")
            return gates, metrics, _sentence(record), question
        gates = [rows, Gate("tables", Outcome.PASS, "written", bound, accepted_by)]
        return gates, metrics, f"{_sentence(record)}; {accepted_by}", None


def _sentence(record: dict[str, Any]) -> str:
    rows, short = record["rows"], record["rows"] - record["baseline_rows"]
    text = f"tables of {rows} row{'' if rows == 1 else 's'} from {record['summary']}"
    return f"{text}, {short} of them with windows under 60 s, which is short for a baseline" if short else text
