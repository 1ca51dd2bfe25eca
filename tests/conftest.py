"""What holds for all tests."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("slow machines", deadline=None)  # a deadline would test the machine
settings.load_profile("slow machines")

# Hundreds of processes start here. Where this is set, as in many containers, each of them compiles its modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

if shutil.which("python") is None:  # the lists of many tests run `python`
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(autouse=True)
def _a_lost_line_is_heard() -> None:
    """Under `nohup`, and behind what a test calls of a supervisor or a runner, SIGHUP is ignored. Children inherit
    that: the dashboards that tests open would outlive their terminals."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
