"""One command that outlives the ranks: launch.py runs it after a launch that did not end well.

A rank registers it for data that only its own memory holds completely, and withdraws it once the data are written.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

VARIABLE = "LLMVAL_ON_FAILURE"  # launch.py sets it for its ranks: the file that takes the command


def register(argv: Sequence[str]) -> None:
    """Leave a command for launch.py, which appends one argument: why the launch failed. No effect without launch.py."""
    if (file := os.environ.get(VARIABLE)) is not None:
        try:
            Path(file).write_text(json.dumps(list(argv)))
        except OSError as error:  # the run goes on; only the record of a killed rank would be lost
            print(f"warning: {file} cannot be written ({error.strerror})", file=sys.stderr, flush=True)


def withdraw() -> None:
    """Take the command back."""
    if (file := os.environ.get(VARIABLE)) is not None:
        with suppress(OSError):  # its folder may be gone
            Path(file).unlink(missing_ok=True)


def take(file: Path) -> list[str] | None:
    """The registered command, removed from its file; None if there is none."""
    try:
        argv: list[str] = json.loads(file.read_text())
    except (OSError, ValueError):  # a rank was killed while it wrote the file: it had written nothing else yet
        return None
    with suppress(OSError):
        file.unlink(missing_ok=True)
    return argv
