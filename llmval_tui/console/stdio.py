"""Standard output and error that take every character, and are let go of where nobody reads or no room is left."""

import codecs
import errno
import io
import json
import os
import sys
from contextlib import suppress
from typing import TextIO

# What an ASCII form is known of; all else is `?`. The signs as `tui/glyphs.py` has them.
PLAIN = {
    "✓": "x", "✗": "!", "⊘": "#", "◌": "-", "▸": ">", "○": ".", "●": "+", "◇": "v", "◔": "~", "█": "#", "░": ".",
    "…": "~", "–": "-", "—": "-", "·": "|", "•": "*", "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "µ": "u", "→": "->",
    "“": '"', "”": '"', "‘": "'", "’": "'", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def tolerate_encoding(*, as_json: bool) -> None:
    """Write what a stream cannot encode as `?`, in JSON as the escape that means the character."""
    for stream in (sys.stdout, sys.stderr):
        # With "surrogateescape" UTF-8 has a form for the names of all files, and they can be pasted.
        if isinstance(stream, io.TextIOWrapper) and (stream.errors, stream.encoding) != ("surrogateescape", "utf-8"):
            stream.reconfigure(errors="llmval-json" if as_json else "replace")


def ascii_only(*, as_json: bool) -> None:
    """Write ASCII only, signs in their ASCII form."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii", errors="llmval-json" if as_json else "llmval-plain")


def flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def describe_write_error(error: OSError) -> str | None:
    """What an error that names no file failed to write; None where it is of another kind."""
    try:
        flush()
    except OSError:
        return "standard output"  # what it holds back cannot be written now either
    # Unbuffered it holds nothing back, and cannot be told from a file.
    return "standard output, or a file," if error.errno in NO_ROOM else None


def detach(*streams: TextIO | None) -> None:
    """Have what the streams hold back go nowhere, so that Python does not complain of it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        with suppress(OSError, ValueError):  # closed, or none of the system's
            if stream is not None:
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("llmval-plain", _plain)
codecs.register_error("llmval-json", _escaped)
