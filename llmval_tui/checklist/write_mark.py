"""Writing to a checklist: the mark of a step, and a comment with the deviations of the tick."""

import re
from pathlib import Path

from llmval_tui.checklist.edit import edit_document
from llmval_tui.checklist.model import Checklist, Step, parse
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line


def set_mark(path: Path, key: StepKey, checked: bool, comment: str | None = None) -> Step:
    """Tick or untick the step with that key in the present file; returns the step after the change.

    Without `comment`, at most the byte between the brackets changes; if the mark is already right, nothing is written.
    A `comment` is put after the item's text as `<!-- llmval: deviation: … -->` and replaces an earlier one; an empty
    comment removes it. Every other byte stays: line ends, byte order mark, trailing spaces, and changes that another
    program made after the file was last read.

    Raises:
        Refused: the step is gone, an HTML comment cannot hold the text (see `safe_for_comment`), or the file cannot
            be read, parsed or written. Nothing was changed.
    """
    note = None if comment is None else _comment_text(comment)

    def change(source: bytes) -> bytes:
        return marked(parse(source, path), key, checked, note)

    found = parse(edit_document(path, change, "a checklist"), path).find(key)
    assert found is not None
    return found


def marked(checklist: Checklist, key: StepKey, checked: bool, note: str | None = None) -> bytes:
    """The bytes of the checklist with this mark, and this comment if there is one; writes nothing.

    Raises:
        Refused: as `set_mark`.
    """
    step = checklist.find(key)
    if step is None:
        raise Refused(
            f"{checklist.path} no longer has the step “{key.text}” under “{key.section}”; nothing was changed."
        )
    source = _with_mark(checklist, step, checked)
    if note is not None:
        source = _with_comment(source, step, note)
    if source != checklist.source:
        _check(checklist, parse(source, checklist.path), step, checked, note)
    return source


def safe_for_comment(text: str) -> str:
    """`text` as a valid comment for `set_mark`: one line, with a dash for repeated hyphens."""
    line = clean_line(" ".join(text.split()))
    return re.sub("-{2,}", "–", line).lstrip(">-").rstrip("-").strip()


def _comment_text(comment: str) -> str:
    text = " ".join(comment.split()).removeprefix("deviation:").strip()
    if "--" in text or text.startswith((">", "->")) or text.endswith("-"):
        raise Refused(f"“{text}” cannot stand in an HTML comment: leave out “--”, a leading “>” and a trailing “-”.")
    if not all(character.isprintable() for character in text):
        raise Refused("The comment contains control or invisible characters: write plain text.")
    return text


def _with_mark(checklist: Checklist, step: Step, checked: bool) -> bytes:
    source, at = checklist.source, step.mark_offset
    # The offset comes from the parser's line maps; a defect there must not damage the operator's file.
    if source[at - 1 : at] != b"[" or source[at + 1 : at + 2] != b"]" or source[at : at + 1] not in b" xX":
        raise Refused(f"{checklist.path}, line {step.line}: no box at byte {at}; nothing was changed.")
    if checked == step.checked:
        return source
    return source[:at] + (b"x" if checked else b" ") + source[at + 1 :]


def _with_comment(source: bytes, step: Step, note: str) -> bytes:
    text = f" <!-- llmval: deviation: {note} -->".encode() if note else b""
    if step.deviation_range is not None:
        start, end = step.deviation_range
        return source[:start] + text + source[end:]
    return source[: step.end_offset] + text + source[step.end_offset :]


def _check(before: Checklist, after: Checklist, step: Step, checked: bool, note: str | None) -> None:
    """Refuse a change with side effects, for instance if the item's text ends in an open code span."""
    expected = [
        (other.key, checked if other.key == step.key else other.checked, _deviation(other, step, note))
        for other in before.steps
    ]
    if [(other.key, other.checked, other.deviation) for other in after.steps] != expected:
        raise Refused(
            f"{before.path}, line {step.line}: the mark or its comment would change how the list reads; nothing was "
            "changed: look for an unclosed code span or HTML comment in this item."
        )


def _deviation(other: Step, step: Step, note: str | None) -> str | None:
    return other.deviation if note is None or other.key != step.key else (note or None)
