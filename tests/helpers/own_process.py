"""Runs a script in a process of its own, where it may put empty modules in Triton's place (`no_triton`)."""

import subprocess
import sys
from pathlib import Path


def run(script: str) -> str:
    """What the script printed; fails with what it complained of. It finds the runners, and what lies here."""
    here = Path(__file__).parent
    paths = f"{here.parents[1] / 'runners'}:{here}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True, text=True, timeout=120, check=False, env={"PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
