"""A small part of `make trust`: faults on purpose must leave nothing wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from faults.__main__ import FAULTS
from faults.injection import Fault, run

ROOT = Path(__file__).parents[2]


def test_a_fault_is_injected(tmp_path) -> None:
    def work() -> int:
        for name in "abc":
            (tmp_path / name).write_text(name)
        return 0

    assert run(work).calls == 3
    assert run(work, Fault("kill before", 1)).code is None
    assert run(work, Fault("ENOSPC", 2)).has_traceback  # nothing catches it here


# Of the cases of `make trust`. Three need minutes or root, and are left to it.
SHARES = {
    "kills": 0.05, "second_kills": 0.004, "disk": 0.04, "bits": 0.03, "records": 0.03, "clock": 0.1, "pids": 0.2,
    "editor": 0.02, "resizes": 0.02, "readers": 0.1, "driver": 0.1, "recorder": 0.2, "stopped": 0.05, "plans": 0.2,
    "trees": 0.005, "agents": 0.05,
}  # fmt: skip


def test_every_fault_is_tried_here_or_left_to_make_trust() -> None:
    assert set(FAULTS) - set(SHARES) == {"full", "oom", "trees_twice"}


@pytest.mark.parametrize("name", SHARES)
def test_nothing_is_wrong_after_a_fault(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faults", name, "--share", str(SHARES[name])],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 0 |" in done.stdout.splitlines()[-1]
