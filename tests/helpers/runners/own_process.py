"""Runs a script in its own process, where it may replace Triton by empty modules (`no_triton`)."""

import subprocess
import sys
from pathlib import Path


def run(script: str) -> str:
    """Run the script and return its output. It can import the runners and the modules of this folder."""
    here = Path(__file__).parent
    paths = f"{here.parents[2] / 'runners'}:{here}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True, text=True, timeout=120, check=False, env={"PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
