"""A small study as a process, for tests: two gloo ranks of the tiny model."""

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

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "compile_repro.schema.json"
SMALL = "--model tiny --sequence-length 32 --batch-size 1 --tensor-parallel-gpus 2 --device cpu --steps 2"


def start(folder: Path, *flags: str, **environment: str) -> "subprocess.Popen[bytes]":
    quick = ("--no-collect-env", "--no-native-stacks", "--output-dir", str(folder))
    command = [sys.executable, str(SCRIPT), *SMALL.split(), *quick, *flags]
    environment = {**os.environ, **environment}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come")


def in_phase(layout: Layout, rank: int, phase: str) -> Callable[[], int | None]:
    """The pid of a rank, once it is in a phase."""

    def look() -> int | None:
        beat = read_json(layout.beat(rank))
        return beat["pid"] if beat and beat["phase"] == phase else None

    return look


def valid(layout: Layout) -> dict[str, Any]:
    """The result, which keeps its schema."""
    result = read_json(layout.result)
    fastjsonschema.compile(read_json(SCHEMA))(result)
    assert result is not None
    return result
