"""The one write that llmval makes to a checklist: a step's mark, and beside it what the tick does not cover."""

import re
from pathlib import Path

from llmval_tui.checklist.document import document_lock, read_document, replace_document
from llmval_tui.checklist.model import Checklist, Step, StepKey, parse
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line


def set_mark(path: Path, key: StepKey, checked: bool, comment: str | None = None) -> Step:
    """Tick or untick the step with that key, in the file as it is now; return the step as it then stands.

    Without `comment` at most the one byte between the brackets changes, and nothing is written where the mark is
    already right. A `comment` is put behind the item's text as `<!-- llmval: deviation: … -->`, in place of an earlier
    one; an empty one takes the earlier one away. Every other byte stays: line ends, byte order mark, trailing blanks,
    and what another program changed since the file was last read.

    Raises:
        Refused: the step is gone, an HTML comment cannot hold the text (see `safe_for_comment`), or the file cannot
            be read, parsed or written. Nothing was changed then.
    """
    note = None if comment is None else _comment_text(comment)
    with document_lock(path):
        before = parse(read_document(path, "a checklist"), path)
        step = before.find(key)
        if step is None:
            raise Refused(f"{path} no longer has the step “{key.text}” under “{key.section}”; nothing was changed.")
        source = _with_mark(before, step, checked)
        if note is not None:
            source = _with_comment(source, step, note)
        if source == before.source:
            return step
        after = parse(source, path)
        _check(before, after, step, checked, note)
        replace_document(path, source)
    found = after.find(key)
    assert found is not None
    return found


def safe_for_comment(text: str) -> str:
    """`text` as `set_mark` takes it: one line, and hyphens in a row, which a comment cannot hold, as one dash."""
    line = clean_line(" ".join(text.split()))
    return re.sub("-{2,}", "–", line).lstrip(">-").rstrip("-").strip()


def _comment_text(comment: str) -> str:
    text = " ".join(comment.split()).removeprefix("deviation:").strip()
    if "--" in text or text.startswith((">", "->")) or text.endswith("-"):
        raise Refused(f"“{text}” cannot stand in an HTML comment: leave out “--”, a leading “>” and a trailing “-”.")
    if not all(character.isprintable() for character in text):
        raise Refused("The comment holds control or invisible characters: write plain text.")
    return text


def _with_mark(checklist: Checklist, step: Step, checked: bool) -> bytes:
    source, at = checklist.source, step.mark_offset
    # The parser's line maps gave the offset; a defect there must not cost the operator a byte.
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
    """Refuse a change that reads otherwise than meant, as where the item's text ends in an open code span."""
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
