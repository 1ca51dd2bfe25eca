"""What holds for all tests."""

import signal

import pytest


@pytest.fixture(autouse=True)
def _a_lost_line_is_heard() -> None:
    """Under `nohup`, and behind what a test calls of a supervisor or a runner, SIGHUP is ignored. Children inherit
    that: the dashboards that tests open would outlive their terminals."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
