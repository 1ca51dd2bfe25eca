"""The rows of a step's runs."""

from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.actions.tick_basis import Key
from llmval_tui.checklist.model import Step, load
from llmval_tui.runs.records import Command, Outcome, StepRef
from llmval_tui.runs.store import Run
from llmval_tui.tui.data.run_history import RunHistory
from tests.helpers.workspace import write_run, write_verdict


@pytest.mark.parametrize(
    ("params", "gpus"),
    [({}, 2), ({"gpu_indices": None}, 2), ({"gpu_indices": [0, 1, 2]}, 3), ({"gpu_indices": []}, 0)],
)
def test_ranks_on_the_cpu_are_not_gpus(tmp_path: Path, params: dict[str, Any], gpus: int) -> None:
    command = Command("main", ["torchrun", "load.py"], "torchrun load.py", nproc=2)
    run = write_run(
        tmp_path, "20260102T030405Z-1.1-000001", StepRef("1.1", "1. Load", "Run", 1), [command], params=params
    )
    assert RunHistory().row(run).gpus == gpus


def test_the_trends_are_read_a_part_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "list.md"
    path.write_text("## 1. Load\n" + "".join(f"- [ ] Run {n}\n" for n in range(3)))
    steps = load(path).steps
    runs: dict[Key, list[Run]] = {step.key: [_judged_run(tmp_path, step, age) for age in (3, 2, 1)] for step in steps}
    statuses = [StepStatus(step, StepState.PASSED, runs[step.key][0]) for step in steps]
    history = RunHistory()
    lengths = [
        [len(fact.trend) for fact in history.facts(statuses, runs, new_rows=new_rows).values()]
        for new_rows in (0, 3, 3, 3)
    ]
    assert lengths == [[0, 0, 0], [3, 0, 0], [3, 3, 0], [3, 3, 3]]


def _judged_run(workspace: Path, step: Step, age: int) -> Run:
    ref = StepRef(step.number, step.section, step.text, 1)
    command = Command("main", ["true"], "true")
    run = write_run(workspace, f"20260102T03040{age}Z-{step.number}-00000{age}", ref, [command])
    write_verdict(run, Outcome.PASS, metrics={"output_tokens_per_s": age})
    return run
