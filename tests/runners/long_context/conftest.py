"""Starts the runner as an operator does, and checks its result against the schema."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fastjsonschema
import pytest

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "docs" / "schemas" / "long_context.schema.json"


def _start(folder, *flags, model="tiny", **environment):
    command = [sys.executable, str(ROOT / "runners" / "long_context_validation.py"), "--model", model, *flags]
    env = {key: value for key, value in os.environ.items() if not key.startswith("LLMVAL_")}
    env |= {"LLMVAL_EVENTS": str(folder / "events.jsonl"), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def start():
    """Starts the runner with flags. Returns the process."""
    return _start


@pytest.fixture
def finished():
    """Runs the runner to its end. Returns exit code, output and errors."""

    def run(folder, *flags, **changes):
        process = _start(folder, *flags, **changes)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    return run


@pytest.fixture
def read():
    """Reads a result and checks it against the schema."""

    def result(path):
        value = json.loads(path.read_text())
        fastjsonschema.compile(json.loads(SCHEMA.read_text()))(value)
        return value

    return result
