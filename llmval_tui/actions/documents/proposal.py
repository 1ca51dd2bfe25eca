"""A change to a document that a step proposes: the new text in the run folder, its diff, and the operator's answer."""

import difflib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.api import Context, NotYet
from llmval_tui.actions.reading.words import documents
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, passed, section_runs
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of, write_atomic
from llmval_tui.foundation.paths import inside
from llmval_tui.runs.records import Artifact
from llmval_tui.runs.store import Run, RunStore

_PROPOSED = "proposed.md"
_Result = TypeVar("_Result")


def required_document(context: Context, what: str) -> str:
    """The one Markdown file that the step names.

    Raises:
        Refused: the step names none, or several.
    """
    named = context.step.directives.get("document")
    found = [named] if named else documents(context.step)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused(f"the item names no document {what}: write its path as a code span, such as `docs/NAME.md`.")
    raise Refused(f"the item names {len(found)} documents ({', '.join(found)}): keep only the one {what}.")


def newest_result(
    context: Context, schema: str, *, kind: str, makes: str, presets: Collection[str | None] = (None,)
) -> tuple[Run, Artifact]:
    """The newest passing run of the section with a result of this schema, and that result.

    Outside a demo workspace only runs with one of `presets` count. `kind` names the run and `makes` names the thing
    that is made of its result, both for messages.

    Raises:
        Refused: there is no such run, or its result is gone.
    """
    other_preset, newest = False, ""
    for run in section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS):
        artifact = next((item for item in run.intent.artifacts if item.schema == schema), None)
        if artifact is None:
            continue
        verdict = run.verdict()
        if not passed(verdict):
            newest = newest or (f" (the newest: {verdict.outcome}, {verdict.summary})" if verdict else "")
            continue
        if run.intent.preset not in presets and not context.demo:
            other_preset = True
            continue
        if not (context.workspace / artifact.path).is_file():
            raise NotYet(f"{artifact.path} of run {run.id} is gone: run the {kind} again.")
        return run, artifact
    if other_preset:
        raise NotYet(f"this section has passed only as a smoke run, which makes no {makes}: run the {kind} in full.")
    raise NotYet(f"no {kind} of this section has passed yet{newest}: run it first.")


def unchanged_sha256(source: Run, path: str) -> str:
    """The SHA-256 of a file that the verdict of `source` rests on.

    Raises:
        Refused: the file is gone, or differs from the one that was judged.
    """
    verdict = source.verdict()
    judged = next((item.sha256 for item in verdict.evidence if item.path == path), None) if verdict else None
    file = inside(source.workspace, path)
    if judged is None or not file.is_file() or judged != sha256_of(file):
        raise Refused(f"{path} changed after run {source.id} was judged: run its item again.")
    return judged


def judged_source(run: Run, read: Callable[[Path], _Result | None], what: str) -> tuple[Run, str, _Result]:
    """The run whose result a step reads, with the hash and the content of that result.

    Args:
        run: of the step; its parameters name the source and the path of the result.
        read: returns None if the file is not such a result.
        what: the kind of result, for the message.

    Raises:
        Refused: the result differs from the one that was judged, or is of another kind.
    """
    path = run.intent.params["result"]
    source = RunStore(run.workspace).get(run.intent.params["source_run"])
    sha256 = unchanged_sha256(source, path)
    result = read(inside(run.workspace, path))
    if result is None:
        raise Refused(f"{path} is not {what}: run its item again.")
    return source, sha256, result


def propose_text(run: Run, name: str, old: str, new: str) -> dict[str, str]:
    """Write the new text of a document into the run folder and print the diff; returns the record of both."""
    write_atomic(run.folder / _PROPOSED, new.encode())
    diff = unified_diff(old, new, name)
    print(diff, end="")
    return {"proposed_sha256": sha256_of(run.folder / _PROPOSED), "diff": diff}


def unified_diff(old: str, new: str, name: str) -> str:
    """The change of a document in the format of `diff -u`; `old` is "" for a new document."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after, f"a/{name}" if old else "/dev/null", f"b/{name}")
    return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def accept_question(run: Run, record: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The question whether the proposed text may replace the document; `accept` carries out the answer.

    `record` holds the document's path, the diff, and the SHA-256 of the old and the new text.
    """
    return {
        "kind": "accept",
        "text": text,
        "diff": record["diff"],
        "file": record["document"],
        "new_text_path": str((run.folder / _PROPOSED).absolute().relative_to(run.workspace)),
        "old_sha256": record["document_sha256"],
        "new_sha256": record["proposed_sha256"],
    }


def acceptance(run: Run) -> str | None:
    """The person who accepted the proposal of a run, and when; None if nobody did."""
    answer = accepted(run)
    return f"accepted by {answer.get('by')} at {answer.get('at_utc')}" if answer is not None else None
