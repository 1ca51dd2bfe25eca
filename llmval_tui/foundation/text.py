"""Cleaning text from outside, UTC time stamps, and the unit of memory sizes."""

import re
from datetime import UTC, datetime

GIB = 1024**3  # bytes; memory sizes are shown in GiB, as the GPU vendor's tools show them

# CSI, OSC / DCS / SOS / PM / APC (ended by BEL or ST, or incomplete), two-byte escapes; then their 8-bit C1 forms.
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]"
    r"|\x9b[0-?]*[ -/]*[@-~]"
    r"|[\x90\x98\x9d-\x9f][^\x07\x9c]*(?:\x07|\x9c|$)"
)
# Control characters except tab; bidirectional overrides and isolates (they reorder a line); line separators.
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def clean_line(text: str, *, tab: int = 4) -> str:
    """One line that is safe for a terminal: no escape sequences, no control characters, tabs as spaces.

    After a carriage return only the last part is kept, as a terminal shows a progress bar.
    """
    text = text.rstrip("\r\n")
    if "\r" in text:
        text = text.rsplit("\r", 1)[1]
    if text.isascii() and text.isprintable():
        return text
    return CONTROLS.sub("", ESCAPES.sub("", text)).expandtabs(tab)


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 rank`, `4 ranks`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def utc_stamp(moment: datetime | None = None) -> str:
    """UTC time for file names: `20260102T030405Z`."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def utc_iso(moment: datetime | None = None) -> str:
    """UTC time for people and JSON: `2026-01-02T03:04:05Z`."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
