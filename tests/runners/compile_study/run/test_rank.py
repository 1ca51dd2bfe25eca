"""The end of a rank: on a CPU it destroys its process group; on CUDA it must not, or NCCL waits for CUDA graphs."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.options import parse
from llmval_runners.compile_study.run import rank
from llmval_runners.process.files import read_json


class Left(BaseException):
    """Raised in place of the end of the process."""


@pytest.mark.parametrize(
    ("device", "size", "destroyed"), [("cpu", 2, 1), ("cpu", 1, 0), ("cuda", 2, 0), ("cuda", 1, 0)]
)
def test_the_process_group_is_destroyed_on_a_cpu_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, size: int, destroyed: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: calls.append(1))
    nothing: Any = None
    work = rank.RankRun(nothing, Layout(tmp_path), nothing, nothing, 0, size)
    work.device = torch.device(device)
    work._destroy_group()
    assert len(calls) == destroyed


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_cuda_the_process_ends_itself_after_everything_is_recorded(
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
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(rank.RankRun, "run", work)
    monkeypatch.setattr(rank, "prepare_environment", lambda *_: None)
    options = parse(["--output-dir", str(tmp_path)])
    if device == "cpu":
        assert rank.run(options, layout, "") == 0 and not ended
    else:
        with pytest.raises(Left):
            rank.run(options, layout, "")
        assert ended == [(0, "done")]
    assert capsys.readouterr().out == "worked\n"
