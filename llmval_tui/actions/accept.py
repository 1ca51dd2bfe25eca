"""The operator's decision on a run's question: a document is applied or a link kept; who and when are recorded."""

import getpass
import hashlib
import re
from typing import Any

from llmval_tui.checklist.document import document_lock, replace_document
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import locked, read_json, sha256_of, write_json
from llmval_tui.foundation.paths import inside
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.store import Run

ACCEPTED = "accepted.json"
_LINK = re.compile(r"https?://[^\s<>\"'`()\[\]\x00-\x1f]+")


def accept(run: Run, link: str | None = None) -> str:
    """Carry out what the operator decided; one sentence of what was done.

    Raises:
        Refused: the run asks nothing, was accepted before, the document changed since the diff was made, or
            the link is none.
    """
    verdict = run.verdict()
    question = verdict.question if verdict else None
    if question is None:
        raise Refused(f"run {run.id} asks nothing: there is nothing to accept.")
    with locked(run.folder / "accept.lock"):
        before = accepted(run)
        if before is not None:
            raise Refused(f"run {run.id} was accepted by {before.get('by')} at {before.get('at_utc')} already.")
        if question["kind"] == "link":
            done = _link(link)
        elif link is not None:
            raise Refused(f"run {run.id} asks for a yes, not for a link: accept it without one.")
        else:
            done = _apply(run, question)
        write_json(run.folder / ACCEPTED, {"v": 1, "run_id": run.id, "by": _user(), "at_utc": utc_iso(), **done})
    return f"The link {done['link']} is kept with run {run.id}." if "link" in done else f"{done['file']} was updated."


def accepted(run: Run) -> dict[str, Any] | None:
    """What was accepted: `by`, `at_utc`, and `link` or `file` with `sha256`; None where nothing was."""
    value = read_json(run.folder / ACCEPTED)
    return value if isinstance(value, dict) else None


def _link(link: str | None) -> dict[str, Any]:
    if link is None or not _LINK.fullmatch(link.strip()):
        raise Refused("this run asks for the link of the filed report: give its address, beginning with https://.")
    return {"kind": "link", "link": link.strip()}


def _apply(run: Run, question: dict[str, Any]) -> dict[str, Any]:
    workspace = run.workspace
    target = inside(workspace, question["file"])
    source = inside(workspace, question["new_text_path"])
    if not source.is_file() or sha256_of(source) != question["new_sha256"]:
        raise Refused(f"{question['new_text_path']} is gone or changed: run the item again.")
    new = source.read_bytes()
    with document_lock(target):  # two runs may propose to change one document
        current = hashlib.sha256(target.read_bytes()).hexdigest() if target.is_file() else None
        # After a crash between the two writes the document already has the new text: then only the record is missing.
        if current not in (question["old_sha256"], question["new_sha256"]):
            raise Refused(
                f"{question['file']} was edited since the diff was made and stays as it is: run the item again."
            )
        if current != question["new_sha256"]:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_document(target, new)
    return {"kind": "accept", "file": question["file"], "sha256": question["new_sha256"]}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
