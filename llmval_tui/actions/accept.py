"""The operator's answer to a run's question: applies a document or stores a link, and records who answered, when."""

import hashlib
import re
from typing import Any

from llmval_tui.checklist.edit import edit_document
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import locked, read_json, sha256_of, write_json
from llmval_tui.foundation.paths import inside
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.inventory import user_name
from llmval_tui.runs.store import Run

ACCEPTED = "accepted.json"
_LINK = re.compile(r"https?://[^\s<>\"'`()\[\]\x00-\x1f]+")


def accept(run: Run, link: str | None = None) -> str:
    """Carry out the operator's decision; returns one sentence about the result.

    Raises:
        Refused: the run has no question, was accepted before, the document changed after the diff was made, or
            the link is not valid.
    """
    verdict = run.verdict()
    question = verdict.question if verdict else None
    if question is None:
        raise Refused(f"run {run.id} has no question: there is nothing to accept.")
    with locked(run.folder / "accept.lock"):
        earlier = accepted(run)
        if earlier is not None:
            raise Refused(f"run {run.id} was already accepted by {earlier.get('by')} at {earlier.get('at_utc')}.")
        if question["kind"] == "link":
            done = _link(link)
        elif link is not None:
            raise Refused(f"run {run.id} needs a yes, not a link: accept it without one.")
        else:
            done = _apply(run, question)
        write_json(run.folder / ACCEPTED, {"v": 1, "run_id": run.id, "by": user_name(), "at_utc": utc_iso(), **done})
    return f"The link {done['link']} is stored with run {run.id}." if "link" in done else f"{done['file']} was updated."


def accepted(run: Run) -> dict[str, Any] | None:
    """The record of the acceptance: `by`, `at_utc`, and `link` or `file` with `sha256`; None before it."""
    value = read_json(run.folder / ACCEPTED)
    return value if isinstance(value, dict) else None


def _link(link: str | None) -> dict[str, Any]:
    if link is None or not _LINK.fullmatch(link.strip()):
        raise Refused("this run needs the link of the filed report: give its address, beginning with https://.")
    return {"kind": "link", "link": link.strip()}


def _apply(run: Run, question: dict[str, Any]) -> dict[str, Any]:
    workspace = run.workspace
    target = inside(workspace, question["file"])
    source = inside(workspace, question["new_text_path"])
    if not source.is_file() or sha256_of(source) != question["new_sha256"]:
        raise Refused(f"{question['new_text_path']} is missing or was changed: run the item again.")
    new = source.read_bytes()
    # After a crash between the two writes, the document has the new text already and only the record is missing.
    expected = {question["old_sha256"] or hashlib.sha256(b"").hexdigest(), question["new_sha256"]}

    def change(data: bytes) -> bytes:
        if hashlib.sha256(data).hexdigest() not in expected:
            raise Refused(
                f"{question['file']} was edited after the diff was made, so it was not changed: run the item again."
            )
        return new

    edit_document(target, change, missing=None if question["old_sha256"] else b"")
    return {"kind": "accept", "file": question["file"], "sha256": question["new_sha256"]}
