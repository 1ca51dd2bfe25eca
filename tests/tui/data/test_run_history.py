"""The rows of a step's runs."""

from pathlib import Path
from typing import Any

import pytest

from llmval_tui.runs.records import Command, StepRef
from llmval_tui.tui.data.run_history import RunHistory
from tests.helpers.workspace import write_run


@pytest.mark.parametrize(
    ("params", "gpus"),
    [({}, 2), ({"gpu_indices": None}, 2), ({"gpu_indices": [0, 1, 2]}, 3), ({"gpu_indices": []}, 0)],
)
def test_ranks_on_the_cpu_are_no_gpus(tmp_path: Path, params: dict[str, Any], gpus: int) -> None:
    command = Command("main", ["torchrun", "load.py"], "torchrun load.py", nproc=2)
    run = write_run(
        tmp_path, "20260102T030405Z-1.1-000001", StepRef("1.1", "1. Load", "Run", 1), [command], params=params
    )
    assert RunHistory().row(run).gpus == gpus
