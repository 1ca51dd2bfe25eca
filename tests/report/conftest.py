"""A workspace with finished load tests, and the options of the command line."""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.runs.records import Artifact, Command, Gate, Outcome, StepRef
from llmval_tui.runs.store import Run, RunStore
from tests.helpers.workspace import load_test_json, request_json, run_id_of, write_run, write_verdict

CHECKLIST = """# List

## 1. Load
- [ ] Run: `python load.py`
- [ ] Ask the network team.
"""
ZERO_NS = 5_000_000_000_000
WALL_NS = 1_767_323_045_000_000_000


def result_json(
    count: int = 200, *, seed: int = 0, schedule: int = 0, slower: float = 1.0, **changes: Any
) -> dict[str, Any]:
    """A load test of `count` requests: about 100 ms to the first token, then 20 ms × `slower` per token.

    Results with the same `schedule` have the same arrivals.
    """
    arrivals, rng = random.Random(schedule), random.Random(seed)
    requests, now = [], 0.0
    for index in range(count):
        first = now + 0.001 + 0.1 * rng.lognormvariate(0, 0.2)
        last = first + 7 * 0.020 * slower * rng.lognormvariate(0, 0.05)
        requests.append(request_json(index, now, first, last))
        now += arrivals.expovariate(8)
    workload = {"target_qps": 8.0, "duration_s": 25.0, "output_len": "fixed:8"}
    return load_test_json(requests, workload, **changes)


class Workspace:
    """A workspace folder that can create runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = RunStore(folder)
        self.count = 0
        (folder / "docs").mkdir()
        (folder / "docs" / "llm_validation_checklist.md").write_text(CHECKLIST)

    def run(
        self,
        result: dict[str, Any] | None = None,
        *,
        outcome: Outcome | None = Outcome.PASS,
        gates: list[Gate] | None = None,
        display: str = "python load.py",
        **intent: Any,
    ) -> Run:
        """A finished run of item 1.1 with its result as evidence; not judged if `outcome` is None."""
        self.count += 1
        artifact = f"artifacts/r{self.count}.json"
        path = self.folder / artifact
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result_json() if result is None else result))
        values: dict[str, Any] = {
            "artifacts": [Artifact(artifact, "load_test")],
            "host": {"name": "node1", "cpu_count": 8, "memory_bytes": 1 << 34, "gpu": {"gpus": [], "notes": []}},
            "versions": {"llmval": "0.1.0", "torch": "2.11.0"},
            **intent,
        }
        run = write_run(
            self.folder,
            run_id_of(self.count, "1.1"),
            StepRef("1.1", "1. Load", "Run: `python load.py`", 1, "docs/llm_validation_checklist.md"),
            [Command("main", ["python", "load.py"], display)],
            status={"ended_utc": "2026-01-02T03:05:05Z"},
            **values,
        )
        if outcome is not None:
            metrics = {"ttft_sched_p99_ms": 123.25, "failed_requests": 0.0, "goodput_qps": None}
            gates = gates or [Gate("exit: main", outcome, "exit 0", "exit 0")]
            write_verdict(run, outcome, gates, summary="as it went", metrics=metrics)
        return run

    def events(self, run: Run, *events: tuple[float, str, dict[str, Any]]) -> None:
        """Write events of rank 0; times are seconds after `ZERO_NS`."""
        lines = [
            {
                "v": 1, "t_ns": WALL_NS + int(at * 1e9), "mono_ns": ZERO_NS + int(at * 1e9), "rank": 0, "kind": kind,
                "data": data,
            }
            for at, kind, data in events
        ]  # fmt: skip
        run.events.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "ws"
    folder.mkdir()
    return Workspace(folder)


@pytest.fixture
def options(workspace: Workspace) -> Callable[..., argparse.Namespace]:
    """The command line's options with their defaults."""

    def make(**changes: Any) -> argparse.Namespace:
        values = {
            "workspace": str(workspace.folder), "checklist": None, "readonly": False, "json": False, "output": None,
            "format": None, "runs": [], "anyway": False, "every": 0.1,
        } | changes  # fmt: skip
        return argparse.Namespace(**values)

    return make
