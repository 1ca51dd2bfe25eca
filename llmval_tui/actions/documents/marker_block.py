"""The text between two marker lines of a Markdown document: found, and nothing else touched."""

import re

from llmval_tui.foundation.errors import Refused

_FENCE = re.compile(r"(`{3,}|~{3,})")


def span_between(text: str, begin: str, end: str, document: str) -> tuple[int, int] | None:
    """Where the text between the lines `begin` and `end` begins and ends; None where the document has neither.

    Raises:
        Refused: the markers do not pair up.
    """
    # Markers inside a code block would show the format, not hold it: only whole lines count, outside of fences.
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
            f"{document} must have the line {begin} once, and behind it the line {end} once: repair its markers."
        )
    return begins[0], ends[0]
