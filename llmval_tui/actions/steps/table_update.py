"""Rewrite the tables of a document from the section's newest passing summary, as a diff that the operator accepts."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.command.runner_catalog import POWER_SUMMARY_SCHEMA
from llmval_tui.actions.documents.power_tables import BEGIN, block_of, with_tables
from llmval_tui.actions.section_runs import (
    COMMAND_ACTIONS,
    accept_question,
    inherited,
    passed,
    perform_command,
    section_runs,
    the_document,
    unified_diff,
    workspace_of,
)
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_atomic, write_json
from llmval_tui.foundation.paths import inside
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

RECORD, PROPOSED = "tables.json", "proposed.md"


class TableUpdate:
    """The tables between the document's markers; its prose stays, and nothing changes before the operator says so."""

    name = "table_update"
    title = "update tables"
    about = "Rewrites the document's tables from the section's newest summary, shown as a diff before."
    directives = frozenset({"document"})

    def propose(self, context: Context) -> Proposal:
        name = the_document(context, "to write to")
        document = resolve_document(name, context.workspace)
        with_tables(document.text, "", name)  # markers that do not pair up are told now
        source, summary, tables = _newest_summary(context)
        state = {
            "workspace": f"{name} changes only between the markers {BEGIN}, and only once you accept the diff",
            "bundled": f"{name} is not in the workspace: it would be made from llmval's own, once you accept the diff",
            "absent": f"{name} is not there yet: it would be made once you accept the diff",
        }
        return Proposal(
            action=self.name,
            summary=f"Proposes the tables of {summary} for {name}, as a diff to accept.",
            details=(
                f"reads {tables}, which run {source.id} wrote beside its summary",
                *(f"the summary has {line}" for line in _told(source)),
                state[document.source],
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{RECORD}"),),
            deviations=inherited([source]),
            params={"source_run": source.id, "summary": summary, "tables": tables, "document": name},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        params, workspace = run.intent.params, workspace_of(run)
        verdict = RunStore(workspace).get(params["source_run"]).verdict()
        backed = {item.path: item.sha256 for item in verdict.evidence} if verdict else {}
        for path in (params["summary"], params["tables"]):
            file = inside(workspace, path)
            if not file.is_file() or backed.get(path) != sha256_of(file):
                raise Refused(f"{path} is not what run {params['source_run']} was judged by any more: run it again.")
        block = block_of((workspace / params["tables"]).read_text(encoding="utf-8"), params["tables"])
        if backed[params["summary"]] not in block:
            raise Refused(f"{params['tables']} is not of {params['summary']}: run the summary again.")
        name = params["document"]
        document = resolve_document(name, workspace)
        there = document.source == "workspace"
        old = document.text if there else ""
        new = with_tables(document.text, block, name)
        cells: list[dict[str, Any]] = (read_json(workspace / params["summary"]) or {}).get("cells", [])
        record: dict[str, Any] = {
            "v": 1,
            **{key: params[key] for key in ("source_run", "summary", "tables", "document")},
            "rows": len(cells),
            "baseline_rows": sum(row["baseline_grade"] for row in cells),
            "document_sha256": hashlib.sha256(old.encode()).hexdigest() if there else None,
            "propose": new != old,
        }
        if record["propose"]:
            write_atomic(run.folder / PROPOSED, new.encode())
            record["proposed_sha256"] = sha256_of(run.folder / PROPOSED)
            record["diff"] = unified_diff(old, new, name)
            print(record["diff"], end="")
        write_json(run.folder / RECORD, record)
        print(_sentence(record))
        return 0

    def judge(self, run: Run) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
        record = read_json(run.folder / RECORD)
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
            gates = [rows, Gate("tables", Outcome.PASS, "they are there already", bound)]
            return gates, metrics, f"{record['document']} has these tables already", None
        answer = accepted(run)
        if answer is None:
            reason = "it is yours to look at the diff and accept it"
            gates = [rows, Gate("tables", Outcome.INCONCLUSIVE, "proposed", bound, reason)]
            return gates, metrics, _sentence(record), _question(run, record)
        word = f"accepted by {answer.get('by')} at {answer.get('at_utc')}"
        return (
            [rows, Gate("tables", Outcome.PASS, "written", bound, word)],
            metrics,
            f"{_sentence(record)}; {word}",
            None,
        )


def _question(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    return accept_question(run, record, PROPOSED, f"{_sentence(record)}. Write them into {record['document']}?")


def _sentence(record: dict[str, Any]) -> str:
    rows, short = record["rows"], record["rows"] - record["baseline_rows"]
    told = f"tables of {rows} row{'' if rows == 1 else 's'} from {record['summary']}"
    return f"{told}, {short} of them with windows under 60 s, which is short for a baseline" if short else told


def _told(run: Run) -> list[str]:
    verdict = run.verdict()
    return [verdict.summary] if verdict and verdict.summary else []


def _newest_summary(context: Context) -> tuple[Run, str, str]:
    """The newest passing summary run of the section, its JSON and its Markdown.

    Raises:
        Refused: there is none, or only of trials.
    """
    trial, judged = False, ""
    for run in section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS):
        summary = next((item.path for item in run.intent.artifacts if item.schema == POWER_SUMMARY_SCHEMA), None)
        if summary is None:
            continue
        verdict = run.verdict()
        if not passed(verdict):
            judged = judged or f"; the newest is {verdict.outcome}: {verdict.summary}" if verdict else judged
            continue
        if run.intent.preset is not None and not context.demo:
            trial = True
            continue
        tables = str(PurePosixPath(summary).with_suffix(".md"))
        for path in (summary, tables):
            if not Path(context.workspace / path).is_file():
                raise Refused(f"{path} of run {run.id} is gone: run the summary again.")
        return run, summary, tables
    if trial:
        raise Refused("this section was summarised only as a smoke run, which makes no tables: run its items in full.")
    raise Refused(f"no summary of this section has passed yet, so there are no tables to write{judged}.")
