"""The command line of `launch.py`, for the runners that start their own ranks; needs no torch."""

import sys
from collections.abc import Sequence
from pathlib import Path

LAUNCH = Path(__file__).resolve().with_name("launch.py")


def launcher(logs: Path, exit_codes: Path, torchrun: Sequence[str], label: str | None = None) -> list[str]:
    """`torchrun` (its flags, then the script with its own) under the launcher that keeps logs and exit codes."""
    named = ["--label", label] if label is not None else []
    own = ["--logs", str(logs), *named, "--exit-codes", str(exit_codes)]
    return [sys.executable, str(LAUNCH), *own, "--", *torchrun]
