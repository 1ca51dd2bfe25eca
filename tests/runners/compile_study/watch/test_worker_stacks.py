"""Native frames of compile workers: the busiest first, without stopped workers and C++ compilers."""

from pathlib import Path
from typing import Any

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch import evidence, stacks


def worker(pid: int, state: str, cpu: float, *, compiler: bool = False) -> dict[str, Any]:
    return {"rank": 0, "pid": pid, "state": state, "cpu_fraction": cpu, "compiler": compiler}


def test_the_busiest_workers_come_first_and_unreadable_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def native(_layout: Layout, pid: int, name: str, _py_spy: str, _deadline: float) -> str:
        read.append(pid)
        return name

    monkeypatch.setattr(stacks, "native", native)
    monkeypatch.setattr(stacks, "of_workers", lambda *_: {})
    workers = [worker(1, "S", 0.0), worker(2, "T", 0.9), worker(3, "R", 0.9), worker(4, "R", 1.0, compiler=True)]
    rank = {"rank": 0, "stack": {"source": "faulthandler"}, "process": None, "workers": workers}
    notes = evidence.deepen(Layout(tmp_path), {"stall": 2, "ranks": [rank]}, "py-spy", 0.0, native=True)
    assert read == [3, 1] and notes == ["rank0.worker3.stall2", "rank0.worker1.stall2"]
    read.clear()
    evidence.deepen(Layout(tmp_path), {"stall": 2, "ranks": [rank]}, "py-spy", 0.0, native=False)
    assert read == []
