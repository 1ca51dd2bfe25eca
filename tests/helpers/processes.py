"""Waiting for processes and finding them."""

import time
from collections.abc import Callable

from llmval_tui.foundation.process import Identity
from llmval_tui.runs.store import Run


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def supervisor_of(run: Run) -> Identity:
    """The process that supervises the run."""
    identity = run.status().supervisor
    assert identity is not None
    return identity
