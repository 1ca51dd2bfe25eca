"""A small part of `make trust`: faults on purpose must leave nothing wrong."""

import subprocess
import sys

import pytest

from faults.__main__ import FAULTS
from faults.injection import Fault, run


def test_a_fault_is_injected(tmp_path) -> None:
    def work() -> int:
        for name in "abc":
            (tmp_path / name).write_text(name)
        return 0

    assert run(work).calls == 3
    assert run(work, Fault("kill before", 1)).code is None
    assert run(work, Fault("ENOSPC", 2)).has_traceback  # nothing catches it here


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_wrong_after_a_fault(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faults", name, "--share", "0.03"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
