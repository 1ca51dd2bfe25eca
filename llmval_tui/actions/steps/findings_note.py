"""Add the findings of a section to a document: the newest passing long-context result, as a diff to accept."""

import hashlib
from typing import Any

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.command.resolve import resolve_document
from llmval_tui.actions.documents.findings_section import BEGIN, END, NEW_DOCUMENT, section_of, with_section
from llmval_tui.actions.documents.marker_block import span_between
from llmval_tui.actions.judges.long_context import SCHEMA, passed_lengths, read_long_context
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

FINDINGS, PROPOSED = "findings.json", "proposed.md"


class FindingsNote:
    """A dated section with peak memory and times of each length; the document changes only by the operator's word."""

    name = "findings_note"
    title = "note findings"
    about = (
        "Adds a dated section with the section's newest long-context findings to the document, shown as a diff before."
    )
    directives = frozenset({"document"})

    def propose(self, context: Context) -> Proposal:
        name = the_document(context, "to write to")
        document = resolve_document(name, context.workspace)
        there = document.source == "workspace"
        span_between(document.text if there else "", BEGIN, END, name)  # refuses markers that do not pair up
        source, artifact = _newest_result(context)
        state = "gets one section more" if there else "is not there yet and would be made"
        return Proposal(
            action=self.name,
            summary=f"Proposes a section in {name} with the findings of run {source.id}.",
            details=(
                f"reads {artifact.path}",
                f"{name} {state}; nothing in it changes before you accept the diff",
            ),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{FINDINGS}"),),
            deviations=inherited([source]),
            params={"source_run": source.id, "result": artifact.path, "document": name},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        params, workspace = run.intent.params, workspace_of(run)
        source = RunStore(workspace).get(params["source_run"])
        path = inside(workspace, params["result"])
        verdict = source.verdict()
        backed = {item.path: item.sha256 for item in verdict.evidence} if verdict else {}
        if not path.is_file() or backed.get(params["result"]) != sha256_of(path):
            raise Refused(f"{params['result']} is not what run {source.id} was judged by any more: run its item again.")
        result = read_long_context(path)
        if result is None:
            raise Refused(f"{params['result']} is no long-context result: run its item again.")
        document = resolve_document(params["document"], workspace)
        there = document.source == "workspace"
        text = document.text if there else ""
        record: dict[str, Any] = {
            "v": 1,
            "source_run": source.id,
            "document": params["document"],
            "lengths": passed_lengths(result),
            "document_sha256": hashlib.sha256(text.encode()).hexdigest() if there else None,
            "noted_already": _noted(text, source.id, params["document"]),
        }
        if not record["noted_already"]:
            section = section_of(result, source.intent, params["result"], backed[params["result"]])
            new = with_section(text or NEW_DOCUMENT, section, params["document"])
            write_atomic(run.folder / PROPOSED, new.encode())
            record["proposed_sha256"] = sha256_of(run.folder / PROPOSED)
            record["diff"] = unified_diff(text, new, params["document"])
            print(record["diff"], end="")
        write_json(run.folder / FINDINGS, record)
        return 0

    def judge(self, run: Run) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
        record = read_json(run.folder / FINDINGS)
        if not isinstance(record, dict):
            return [Gate("findings", Outcome.INCONCLUSIVE, "none", "a section")], {}, "nothing was proposed", None
        what, document = f"findings of run {record['source_run']}", record["document"]
        lengths = ", ".join(f"{length:,}" for length in record["lengths"]) or "no length"
        metrics: dict[str, float | None] = {"lengths_noted": float(len(record["lengths"]))}
        if record["noted_already"]:
            text = f"{document} has the {what} already"
            return [Gate("findings", Outcome.PASS, "noted before", "in the document")], metrics, text, None
        answer = accepted(run)
        if answer is not None:
            word = f"accepted by {answer.get('by')} at {answer.get('at_utc')}"
            gate = Gate("findings", Outcome.PASS, lengths, "in the document", word)
            return [gate], metrics, f"{what} are in {document}; {word}", None
        gate = Gate("findings", Outcome.INCONCLUSIVE, "proposed", "in the document", "the diff waits to be accepted")
        return [gate], metrics, f"{what} ({lengths} tokens) wait to be accepted", _question(run, record, what)


def _question(run: Run, record: dict[str, Any], what: str) -> dict[str, Any]:
    return accept_question(run, record, PROPOSED, f"Add the {what} to {record['document']}?")


def _noted(text: str, run_id: str, document: str) -> bool:
    """Whether a section of that run stands between the markers."""
    span = span_between(text, BEGIN, END, document)
    return span is not None and f"- run `{run_id}`," in text[slice(*span)]


def _newest_result(context: Context) -> tuple[Run, Artifact]:
    """The newest passing long-context run of the section, and its result.

    Raises:
        Refused: there is none, or only smoke runs outside a demo workspace.
    """
    smoke = False
    for run in section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS):
        artifact = next((item for item in run.intent.artifacts if item.schema == SCHEMA), None)
        if artifact is None or not passed(run.verdict()):
            continue
        if run.intent.preset != context.options.preset and not context.demo:
            smoke = True
            continue
        if not (context.workspace / artifact.path).is_file():
            raise Refused(f"{artifact.path} of run {run.id} is gone: run its item again.")
        return run, artifact
    if smoke:
        raise Refused(
            "this section has passed only under another preset, which makes no finding: run its item in full."
        )
    raise Refused(
        "no long-context run of this section has passed yet, so there is nothing to note: run its item first."
    )
