"""Steps named in few characters: a checklist's items are whole commands, a list has room for their names."""

import re
from pathlib import PurePosixPath

from llmval_tui.foundation.text import clean_line

_SPAN = re.compile(r"(`+)(.+?)\1")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_STRONG = re.compile(r"(\*\*|__)(.+?)\1")


def plain_text(markdown: str) -> str:
    """The item's text without Markdown's signs."""
    text = _LINK.sub(r"\1", _SPAN.sub(r"\2", markdown))
    return clean_line(_STRONG.sub(r"\2", text))


def short_text(markdown: str) -> str:
    """The item's text with each command reduced to its script's name, and each path to its last part."""
    return clean_line(_STRONG.sub(r"\2", _LINK.sub(r"\1", _SPAN.sub(lambda m: _short_span(m[2]), markdown))))


def _short_span(span: str) -> str:
    words = span.split()
    if not words:
        return span
    script = next((word for word in words if word.endswith((".py", ".sh"))), None)
    if script is not None:
        return PurePosixPath(script).name
    if len(words) == 1 and "/" in span and "*" not in span:
        return PurePosixPath(span).name or span
    return span
