"""What holds for all tests."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _a_lost_line_is_heard() -> Iterator[None]:
    """Under `nohup` SIGHUP is ignored, and children inherit that: the dashboards that tests open would outlive their
    terminals."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
