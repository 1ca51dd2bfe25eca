"""The level of a log line, from its words; the lines of a traceback have the level of their first one."""

import re
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How much a line matters; NONE: it does not say."""

    NONE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


LOOKED_AT = 400  # characters of a line that can name its level: a level stands at its beginning
# What begins a line: a rank's tag in the merged view, and torchrun's `[rank0]:`.
_LEAD = r"(?:^|\| )(?:\[rank\d+\]:? ?)?"
_TRACEBACK = re.compile(_LEAD + r"\s*Traceback \(most recent call last\)")
_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL|SEVERE|PANIC)\b|" + _LEAD + r"[EF]\d{4} \d\d:\d\d:\d\d"
    r"|"
    + _LEAD
    + r"(?:[Ee]rror|[Ff]atal(?: error)?|fatal):|"
    + _LEAD
    + r"(?:[A-Za-z_][\w.]*)?(?:Error|Exception)(?::|$)"
)
_WARN = re.compile(r"\b(?:WARN|WARNING)\b|\b\w*Warning:|" + _LEAD + r"W\d{4} \d\d:\d\d:\d\d|" + _LEAD + r"[Ww]arning:")
_INFO = re.compile(r"\bINFO\b|" + _LEAD + r"I\d{4} \d\d:\d\d:\d\d")
_DEBUG = re.compile(r"\b(?:DEBUG|TRACE)\b")
# In bytes, for a quick look over a whole file: every line with a level of WARN or more contains one of these. Plain
# words, because searching for each of them is ten times as fast as one regular expression.
CANDIDATES = (
    b"ERROR", b"CRITICAL", b"FATAL", b"SEVERE", b"PANIC", b"Traceback (most", b"WARN", b"arning:", b"rror:", b"rror\n",
    b"rror\r", b"xception:", b"xception\n", b"xception\r", b"atal:", b"atal error:",
    *(start + level for start in (b"\n", b"| ", b"]: ", b"] ") for level in (b"E0", b"E1", b"F0", b"F1", b"W0", b"W1")),
)  # fmt: skip


def level_of(text: str) -> Level:
    """The level that a line says by itself."""
    head = text[:LOOKED_AT]
    if _ERROR.search(head) or _TRACEBACK.search(head):
        return Level.ERROR
    if _WARN.search(head):
        return Level.WARN
    if _INFO.search(head):
        return Level.INFO
    return Level.DEBUG if _DEBUG.search(head) else Level.NONE


@dataclass
class LevelReader:
    """Gives lines in order their levels."""

    _inside: bool = False

    def read(self, text: str) -> tuple[Level, bool]:
        """The level of the next line, and whether it continues a traceback."""
        body = re.sub(r"^\S.{0,30}? \| ", "", text[:LOOKED_AT], count=1)
        body = re.sub(r"^\[rank\d+\]:? ?", "", body)
        if _TRACEBACK.search(body):
            self._inside = True
            return Level.ERROR, False
        if self._inside:
            if not body.strip() or body[:1] in " \t|+":
                return Level.ERROR, True
            self._inside = False  # the line of the exception itself is the last one
            if re.match(r"[A-Za-z_][\w.]*(?::|$)", body):
                return Level.ERROR, True
        return level_of(text), False
