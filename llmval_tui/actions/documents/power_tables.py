"""The tables of a power summary in a document: the block between two markers, and every other byte as it was."""

from llmval_tui.actions.documents.marker_block import span_between
from llmval_tui.foundation.errors import Refused

BEGIN, END = "<!-- llmval:power:begin -->", "<!-- llmval:power:end -->"
_HEADING = "## Tables of this node"


def block_of(text: str, name: str) -> str:
    """What stands between the markers of the analyzer's Markdown, without them.

    Raises:
        Refused: it has no such block.
    """
    span = span_between(text, BEGIN, END, name)
    if span is None:
        raise Refused(f"{name} has no line {BEGIN}: run the summary again.")
    return text[slice(*span)]


def with_tables(text: str, block: str, document: str) -> str:
    """The document with `block` between its markers; one without markers gets them, under a heading, at its end.

    Raises:
        Refused: markers that do not pair up.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    span = span_between(text, BEGIN, END, document)
    if span is None:
        gap = "" if not text or text.endswith("\n") else newline
        text += f"{gap}{newline if text else ''}{_HEADING}{newline}{newline}{BEGIN}{newline}{END}{newline}"
        span = span_between(text, BEGIN, END, document)
        assert span is not None
    start, end = span
    return text[:start] + newline.join(block.splitlines()) + newline + text[end:]
