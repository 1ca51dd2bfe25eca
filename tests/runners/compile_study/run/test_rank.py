"""How a rank ends: on a CPU it tidies up and returns, on CUDA it must not, or NCCL waits for CUDA graphs."""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.run import rank
from llmval_runners.process.files import read_json


class Left(BaseException):
    """In place of the end of the process."""


@pytest.mark.parametrize(
    ("device", "size", "destroyed"), [("cpu", 2, 1), ("cpu", 1, 0), ("cuda", 2, 0), ("cuda", 1, 0)]
)
def test_the_process_group_is_destroyed_on_a_cpu_only(tmp_path: Path, device: str, size: int, destroyed: int) -> None:
    calls: list[int] = []
    stand_in = SimpleNamespace(distributed=SimpleNamespace(destroy_process_group=lambda: calls.append(1)))
    nothing: Any = None
    study = rank._Study(nothing, Layout(tmp_path), nothing, nothing, 0, size)
    study.device = torch.device(device)
    study._leave(stand_in)
    assert len(calls) == destroyed


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_cuda_the_process_ends_by_itself_once_all_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    layout = Layout(tmp_path / "study")
    layout.make()
    ended: list[tuple[int, str]] = []

    def leave(code: int) -> None:
        beat = read_json(layout.beat(0))
        assert beat is not None
        ended.append((code, beat["phase"]))
        raise Left

    def work(study: Any) -> None:
        study.device = torch.device(device)
        print("worked")

    monkeypatch.setenv("LLMVAL_EVENTS", str(tmp_path / "events.jsonl"))
    monkeypatch.setattr(rank.os, "_exit", leave)
    monkeypatch.setattr(rank._Study, "run", work)
    monkeypatch.setattr(rank, "prepare_environment", lambda *_: None)
    asked = argparse.Namespace()
    if device == "cpu":
        assert rank.run(asked, layout, "") == 0 and not ended
    else:
        with pytest.raises(Left):
            rank.run(asked, layout, "")
        assert ended == [(0, "done")]
    assert capsys.readouterr().out == "worked\n"
