"""Commands that outlive the ranks: launch.py runs them after a launch that did not end well.

A rank registers one for data that only its own memory holds completely, and withdraws it once the data are written.
"""

import glob
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

VARIABLE = "LLMVAL_ON_FAILURE"  # launch.py sets it for its ranks: their commands are in files beside this one


def _file_of(beside: str) -> Path:
    return Path(f"{beside}.{os.environ.get('RANK', 0)}")


def register(argv: Sequence[str]) -> None:
    """Leave a command for launch.py, which appends one argument: why the launch failed. No effect without launch.py."""
    if (file := os.environ.get(VARIABLE)) is not None:
        try:
            _file_of(file).write_text(json.dumps(list(argv)))
        except OSError as error:  # the run goes on; only the record of a killed rank would be lost
            print(f"warning: {file} cannot be written ({error.strerror})", file=sys.stderr, flush=True)


def withdraw() -> None:
    """Take the command back."""
    if (file := os.environ.get(VARIABLE)) is not None:
        with suppress(OSError):  # its folder may be gone
            _file_of(file).unlink(missing_ok=True)


def take(beside: Path) -> list[list[str]]:
    """The registered commands of all ranks, removed from their files."""
    found: list[list[str]] = []
    for file in sorted(beside.parent.glob(f"{glob.escape(beside.name)}.*")):
        # A rank was killed while it wrote the file: it had written nothing else yet.
        with suppress(OSError, ValueError):
            found.append(json.loads(file.read_text()))
        with suppress(OSError):
            file.unlink(missing_ok=True)
    return found
