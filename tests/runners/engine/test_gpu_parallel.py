"""Two GPUs: the sharded engine compared with one GPU, every all-reduce with exact sums, and a rank that dies."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two NVIDIA GPUs here"),
]
ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "runners" / "llmval_runners" / "process" / "launch.py"
RANKS = Path(__file__).with_name("gpu_parallel_ranks.py")
CHOICES = ("nccl", "one-shot", "two-shot", "auto")


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    logs = ["--logs", str(folder / "logs"), "--exit-codes", str(folder / "ranks.json")]
    command = [sys.executable, str(LAUNCH), *logs, "--", "--nproc_per_node=2", str(RANKS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def outcome(folder: Path, task: str) -> Any:
    ended = launch(folder, task, str(folder / "found.json"), *CHOICES)
    stderr = "".join(path.read_text()[-3000:] for path in sorted((folder / "logs").glob("*.stderr.log")))
    assert ended.returncode == 0, ended.stderr + stderr
    return json.loads((folder / "found.json").read_text())


def test_consecutive_sums_are_exact_while_ranks_are_late_in_turn(tmp_path: Path) -> None:
    found = outcome(tmp_path, "sums")
    assert [name for name, sums in found.items() if not sums["right"]] == []
    ran = {name: sums["ran"] for name, sums in found.items()}
    assert (ran["one-shot 131072"], ran["two-shot 16384"], ran["nccl 16384"]) == ("one-shot", "two-shot", "nccl")
    assert (ran["auto 131072"], ran["auto 1048576"], ran["auto 2097152"]) == ("one-shot", "two-shot", "nccl")


def test_two_gpus_equal_one_and_graphs_equal_eager_mode(tmp_path: Path) -> None:
    found = outcome(tmp_path, "logits")
    assert {choice: found[choice]["ran"] for choice in CHOICES} == {
        "nccl": "nccl", "one-shot": "one-shot", "two-shot": "two-shot", "auto": "one-shot",
    }  # fmt: skip
    for choice in CHOICES:
        assert found[choice]["distance"] < 0.02, choice
        assert found[choice]["bits"] and found[choice]["tokens"], choice


@pytest.mark.parametrize("choice", ["nccl", "one-shot"])
def test_a_dead_rank_ends_the_other(tmp_path: Path, choice: str) -> None:
    begun = time.monotonic()
    ended = launch(tmp_path, "die", str(tmp_path / "found.json"), choice)
    assert ended.returncode == 1
    assert "rank 1 failed first: SIGKILL" in ended.stderr
    assert not (tmp_path / "found.json").exists()
    assert time.monotonic() - begun < 120
    assert json.loads((tmp_path / "ranks.json").read_text())["ranks"]["1"] == -9
