"""The text between two marker lines of a Markdown document; power tables are written there."""

import re

from llmval_tui.foundation.errors import Refused

POWER_BEGIN, POWER_END = "<!-- llmval:power:begin -->", "<!-- llmval:power:end -->"
_FENCE = re.compile(r"(`{3,}|~{3,})")


def span_between(text: str, begin: str, end: str, document: str) -> tuple[int, int] | None:
    """Start and end of the text between the lines `begin` and `end`; None if the document has neither.

    Raises:
        Refused: the markers do not pair up.
    """
    # Markers in a code block only show the format. So only whole lines outside of fences count.
    begins, ends, fence, offset = [], [], None, 0
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        opening = _FENCE.match(bare)
        if fence is not None:
            fence = None if opening and opening[1].startswith(fence) and bare == opening[1] else fence
        elif opening:
            fence = opening[1]
        elif bare == begin:
            begins.append(offset + len(line))
        elif bare == end:
            ends.append(offset)
        offset += len(line)
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise Refused(
            f"{document} must contain the line {begin} once and, after it, the line {end} once: repair its markers."
        )
    return begins[0], ends[0]


def with_markers(text: str, begin: str, end: str, heading: str, document: str) -> tuple[str, tuple[int, int]]:
    """The document with both markers, and the span between them. Missing markers are added at the end, after `heading`.

    Raises:
        Refused: the markers do not pair up.
    """
    span = span_between(text, begin, end, document)
    if span is None:
        newline = newline_of(text)
        gap = (newline if text.endswith("\n") else newline * 2) if text else ""
        text += f"{gap}{heading}{newline}{newline}{begin}{newline}{end}{newline}"
        span = span_between(text, begin, end, document)
        assert span is not None
    return text, span


def newline_of(text: str) -> str:
    """The line ending of a document."""
    return "\r\n" if "\r\n" in text else "\n"


def power_tables_of(text: str, name: str) -> str:
    """The text between the markers of the analyzer's Markdown.

    Raises:
        Refused: it has no such block.
    """
    span = span_between(text, POWER_BEGIN, POWER_END, name)
    if span is None:
        raise Refused(f"{name} has no line {POWER_BEGIN}: run the summary again.")
    return text[slice(*span)]


def with_power_tables(text: str, tables: str, document: str) -> str:
    """The document with `tables` between its markers; every other byte stays.

    Raises:
        Refused: the markers do not pair up.
    """
    text, (start, end) = with_markers(text, POWER_BEGIN, POWER_END, "## Tables of this node", document)
    newline = newline_of(text)
    return text[:start] + newline.join(tables.splitlines()) + newline + text[end:]
