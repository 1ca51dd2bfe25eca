"""Waiting for processes and finding them."""

import time
from collections.abc import Callable

from llmval_tui.foundation.process import Identity
from llmval_tui.runs.store import Run

LONGEST_S = 300.0  # for what takes a second: other work may be on the machine


def until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait for an effect of another process or thread.

    Raises:
        AssertionError: it did not come within `LONGEST_S`.
    """
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {LONGEST_S:.0f} s"
        time.sleep(0.02)


def supervisor_of(run: Run) -> Identity:
    """The process that supervises the run."""
    identity = run.status().supervisor
    assert identity is not None
    return identity
