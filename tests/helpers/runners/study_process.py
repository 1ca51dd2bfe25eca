"""Starts a small study as a process: two gloo ranks of the tiny model."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.process.files import read_json

SCHEMA = Path(__file__).parents[3] / "docs" / "schemas" / "compile_repro.schema.json"
LIMIT_S = 600.0  # generous: the speed of the machine must not decide a test
SMALL = "--model tiny --sequence-length 32 --batch-size 1 --tensor-parallel-gpus 2 --device cpu --steps 2"


def start(folder: Path, *flags: str, **environment: str) -> "subprocess.Popen[bytes]":
    quick = ("--no-collect-env", "--no-native-stacks", "--output-dir", str(folder))
    command = [sys.executable, str(SCRIPT), *SMALL.split(), *quick, *flags]
    environment = {**os.environ, **environment}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)


def wait_for(what: Callable[[], Any], seconds: float = LIMIT_S) -> Any:
    """Poll until `what` returns a true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} stayed false for {seconds:g} s")


def in_phase(layout: Layout, rank: int, phase: str) -> Callable[[], int | None]:
    """Returns the pid of a rank once it is in a phase."""

    def pid() -> int | None:
        beat = read_json(layout.beat(rank))
        return beat["pid"] if beat and beat["phase"] == phase else None

    return pid


def valid(layout: Layout) -> dict[str, Any]:
    """The result, checked against its schema."""
    result, schema = read_json(layout.result), read_json(SCHEMA)
    assert result is not None and schema is not None
    fastjsonschema.compile(schema)(result)
    return result
