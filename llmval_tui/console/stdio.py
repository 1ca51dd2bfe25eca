"""Standard output and error: control characters, characters that the encoding lacks, full disks and closed pipes."""

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from llmval_tui.foundation.text import CONTROLS, ESCAPES

# ASCII replacements; any other character becomes `?`. The signs are those of `terminal/glyphs.py`.
ASCII = {
    "✓": "+", "✗": "!", "⊘": "#", "◌": "-", "▸": ">", "○": ".", "●": "o", "◇": "v", "◑": "e", "≠": "%",
    "↯": "&", "□": "u", "▨": "=", "◔": "~", "◷": ":", "▼": "<", "∅": "0", "█": "#", "░": ".",
    "…": "~", "–": "-", "—": "-", "·": "|", "•": "*", "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "µ": "u", "→": "->",
    "“": '"', "”": '"', "‘": "'", "’": "'", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class CleanStream:
    """A stream without terminal control: lists, logs, file names and results of others may contain escape sequences.

    Line breaks and tabs stay. In JSON the characters are escaped and not left out.
    """

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self.terminal = stream  # for our own control sequences: progress, bell, notification
        self._as_json = as_json

    def write(self, text: str) -> int:
        if not text.isascii() or "\x1b" in text or not text.replace("\n", "").isprintable():
            text = CONTROLS_IN_LINES.sub(_json_escape, text) if self._as_json else _clean_lines(text)
        return self.terminal.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)


CONTROLS_IN_LINES = re.compile(CONTROLS.pattern.replace(r"\x0a-", r"\x0b-"))


def _clean_lines(text: str) -> str:
    return CONTROLS_IN_LINES.sub("", ESCAPES.sub("", text))


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def terminal_of(stream: TextIO) -> TextIO:
    """The stream for our own control sequences. Text of others must be cleaned before it is written there."""
    return stream.terminal if isinstance(stream, CleanStream) else stream


@contextmanager
def clean_output(*, as_json: bool) -> Iterator[None]:
    """While the context lasts, everything printed is cleaned."""
    streams = sys.stdout, sys.stderr
    try:
        if sys.stdout is not None:
            sys.stdout = CleanStream(sys.stdout, as_json=as_json)
        if sys.stderr is not None:
            sys.stderr = CleanStream(sys.stderr, as_json=False)
        yield
    finally:
        sys.stdout, sys.stderr = streams


def tolerate_encoding(*, as_json: bool) -> None:
    """Replace characters that a stream cannot encode: by their ASCII form, or in JSON by their escape."""
    for stream in map(terminal_of, (sys.stdout, sys.stderr)):
        # UTF-8 with "surrogateescape" writes every file name so that it can be copied and pasted.
        if isinstance(stream, io.TextIOWrapper) and (stream.errors, stream.encoding) != ("surrogateescape", "utf-8"):
            stream.reconfigure(errors="llmval-json" if as_json else "llmval-ascii")


def ascii_only(*, as_json: bool) -> None:
    """Write ASCII only: signs become their ASCII form, in JSON their escape."""
    for stream in map(terminal_of, (sys.stdout, sys.stderr)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii", errors="llmval-json" if as_json else "llmval-ascii")


def flush() -> None:
    """Write out what standard output has buffered."""
    if sys.stdout is not None:
        sys.stdout.flush()


def describe_write_error(error: OSError) -> str | None:
    """The target that could not be written, for an error without a file name; None if it is not a write error."""
    try:
        flush()
    except OSError:
        return "standard output"  # its buffer still cannot be written
    # If standard output is unbuffered, the flush does not show which of the two failed.
    return "standard output or a file" if error.errno in DISK_ERRORS else None


def detach(*streams: TextIO | None) -> None:
    """Send what the streams still buffer to /dev/null, so that Python does not report a write error at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        with suppress(OSError, ValueError):  # the stream is closed or has no file descriptor
            if stream is not None:
                os.dup2(null, stream.fileno())
    os.close(null)


def _to_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII.get(character, "?") for character in error.object[error.start : error.end]), error.end


def _to_json_escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    import json  # late: it takes 3 ms, and few outputs have such a character

    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("llmval-ascii", _to_ascii)
codecs.register_error("llmval-json", _to_json_escape)
