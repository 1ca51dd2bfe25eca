"""A trace of a GPU has the names of kernels inside CUDA graphs, and the ranges."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "runners" / "capture_fp8_flexattention_traces.sh"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch finds none"),
]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_trace_holds_the_graphs_kernels(tmp_path: Path, ranks: int) -> None:
    if torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} GPUs, and there are {torch.cuda.device_count()}")
    words = ["--model", "tiny", "--fp8-mode", "none", "--profiler", "torch", "--duration", "6", "--target-qps", "20"]
    words += ["--output-len", "64", "--trace-seconds", "2", "--tensor-parallel-gpus", str(ranks)]
    done = subprocess.run(
        ["bash", str(SCRIPT), "--python", sys.executable, *words, "--output-dir", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["unit"] == "kernels"
    assert [one["device"] for one in summary["devices"]] == ["0"]
    steps = {one["name"]: one["calls"] for one in summary["ranges"]}
    # More kernels than a graph's launch alone would be: each of two layers has at least eight.
    assert summary["calls"] > 16 * steps["decode step"]
    assert summary["shares"]["attention"] > 0
    assert summary["shares"]["gemm"] > 0
    assert (summary["shares"]["communication"] > 0) == (ranks > 1)
