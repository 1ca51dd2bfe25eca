"""The text of inline Markdown as a person reads it: a small reader, because markdown-it-py is slow to import."""

import re
from collections.abc import Callable

from llmval_tui.foundation.text import clean_line

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_COMMENT = re.compile(r"\s*<!--.*?-->", re.DOTALL)
_AUTOLINK = re.compile(r"<((?:https?|mailto|ftp):[^<>\s]+)>")
# The destination of a link may have balanced parentheses, one deep, or be in angle brackets.
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\](?:\((?:<[^<>]*>|(?:[^()]|\([^()]*\))*)\)|\[[^\[\]]*\])")
# Underscores inside a word are part of the word: `__init__`, `max_model_len`.
_EMPHASIS = (
    re.compile(r"(\*\*)(?=\S)(.+?)(?<=\S)\1"),
    re.compile(r"(?<!\w)(__)(?=\S)(.+?)(?<=\S)\1(?!\w)"),
    re.compile(r"(?<!\*)(\*)(?=[^\s*])(.+?)(?<=[^\s*])\1(?!\*)"),
    re.compile(r"(?<!\w)(_)(?=[^\s_])(.+?)(?<=[^\s_])\1(?!\w)"),
    re.compile(r"(~~)(?=\S)(.+?)(?<=\S)\1"),
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_HELD = re.compile("\ue000(\\d+)\ue001")  # in place of a code span: nothing inside it is markup


def code_spans(markdown: str) -> list[str]:
    """The code spans, without their backticks."""
    return [_unpadded(match[2]) for match in _CODE.finditer(markdown)]


def read_markdown(markdown: str, code: Callable[[str], str] = lambda span: span) -> str:
    """The text without markup, in one line; `code` may change the text of each code span.

    Markup that is not closed stays as it is written: a stray `*` or backtick is not a reason to drop the rest.
    """
    held: list[str] = []

    def hold(text: str) -> str:
        held.append(text)
        return f"\ue000{len(held) - 1}\ue001"

    text = markdown.replace("\ue000", "").replace("\ue001", "")
    text = _CODE.sub(lambda match: hold(code(_unpadded(match[2]))), text)
    text = _ESCAPE.sub(lambda match: hold(match[1]), _COMMENT.sub("", text))
    text = _AUTOLINK.sub(lambda match: hold(match[1]), text)
    text = _LINK.sub(r"\1", text)
    for pattern in _EMPHASIS:
        text = pattern.sub(r"\2", text)
    return clean_line(_HELD.sub(lambda match: held[int(match[1])], text))


def _unpadded(span: str) -> str:
    """A span's text; one space at both ends only keeps backticks apart."""
    return span[1:-1] if span[:1] == span[-1:] == " " and span.strip() else span
