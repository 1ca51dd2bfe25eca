"""Propose a section with the newest long-context findings for a document, as a diff to accept."""

from typing import Any

from llmval_tui.actions.api import Condition, Context, Judgement, Need, Proposal
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.command.runner_catalog import LONG_CONTEXT_SCHEMA
from llmval_tui.actions.documents.findings_section import BEGIN, END, NEW_DOCUMENT, section_of, with_section
from llmval_tui.actions.documents.marker_block import span_between
from llmval_tui.actions.documents.proposal import (
    accept_question,
    acceptance,
    judged_source,
    newest_result,
    propose_text,
    required_document,
)
from llmval_tui.actions.judges.long_context import passed_lengths, read_long_context
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, inherited, perform_command
from llmval_tui.foundation.files import read_json, write_json
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

FINDINGS = "findings.json"


class FindingsNote:
    """A dated section with peak memory and times of each length, added after the operator accepts."""

    name = "findings_note"
    title = "note findings"
    about = "Proposes a dated section with the newest long-context findings for the document, as a diff to accept."
    directives = frozenset({"document"})
    needs = (Need(COMMAND_ACTIONS, Condition.PASSES, LONG_CONTEXT_SCHEMA),)

    def propose(self, context: Context) -> Proposal:
        name = required_document(context, "to write to")
        document = resolve_document(name, context.workspace)
        span_between(document.workspace_text, BEGIN, END, name)  # refuses markers that do not pair up
        source, artifact = newest_result(
            context,
            LONG_CONTEXT_SCHEMA,
            kind="long-context run",
            makes="finding",
            presets=(context.options.preset,),
        )
        state = "gets one more section" if document.source == "workspace" else "does not exist yet and would be created"
        return Proposal(
            action=self.name,
            summary=f"Proposes a section in {name} with the findings of run {source.id}.",
            details=(
                f"reads {artifact.path}",
                f"{name} {state}; it changes only after you accept the diff",
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{FINDINGS}"),),
            deviations=inherited([source]),
            params={"source_run": source.id, "result": artifact.path, "document": name},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        params, workspace = run.intent.params, run.workspace
        source, sha256, result = judged_source(run, read_long_context, "a long-context result")
        document = resolve_document(params["document"], workspace)
        text = document.workspace_text
        record: dict[str, Any] = {
            "v": 1,
            "source_run": source.id,
            "document": params["document"],
            "lengths": passed_lengths(result),
            "document_sha256": document.sha256,
            "noted_already": _is_noted(text, source.id, params["document"]),
        }
        if not record["noted_already"]:
            section = section_of(result, source.intent, params["result"], sha256)
            new = with_section(text or NEW_DOCUMENT, section, params["document"])
            record |= propose_text(run, params["document"], text, new)
        write_json(run.folder / FINDINGS, record)
        return 0

    def judge(self, run: Run) -> Judgement:
        record = read_json(run.folder / FINDINGS)
        if not isinstance(record, dict):
            return [Gate("findings", Outcome.INCONCLUSIVE, "none", "a section")], {}, "nothing was proposed", None
        what, document = f"findings of run {record['source_run']}", record["document"]
        lengths = ", ".join(f"{length:,}" for length in record["lengths"]) or "no length"
        metrics: dict[str, float | None] = {"lengths_noted": float(len(record["lengths"]))}
        if record["noted_already"]:
            text = f"{document} has the {what} already"
            return [Gate("findings", Outcome.PASS, "noted before", "in the document")], metrics, text, None
        accepted_by = acceptance(run)
        if accepted_by is not None:
            gate = Gate("findings", Outcome.PASS, lengths, "in the document", accepted_by)
            return [gate], metrics, f"{what} are in {document}; {accepted_by}", None
        gate = Gate("findings", Outcome.INCONCLUSIVE, "proposed", "in the document", "the diff waits for your answer")
        question = accept_question(run, record, f"Add the {what} to {document}?")
        return [gate], metrics, f"{what} ({lengths} tokens) wait for your answer", question


def _is_noted(text: str, run_id: str, document: str) -> bool:
    """Whether a section of that run is already between the markers."""
    span = span_between(text, BEGIN, END, document)
    return span is not None and f"- run `{run_id}`," in text[slice(*span)]
