"""The standalone script runs from an empty folder, without this project on the path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llmval_runners.compile_study.run.standalone import script

from tests.helpers.runners.study_process import LIMIT_S

SETTINGS = {
    "dimensions": {
        "layers": 2,
        "hidden": 64,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "ffn": 128,
        "vocab": 256,
        "ranks": 2,
        "norm_eps": 1e-5,
    },
    "batch_size": 1,
    "sequence_length": 16,
    "steps": 2,
    "seed": 0,
    "compile_mode": "smart",
    "backend": "aot_eager",
    "skip_compile": False,
    "device": "cpu",
    "stall_after": 60.0,
}


def test_it_imports_nothing_of_this_project() -> None:
    text = script(SETTINGS, "a title")
    compile(text, "repro.py", "exec")
    assert "llmval" not in text


@pytest.mark.slow
def test_it_runs_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "repro.py").write_text(script(SETTINGS, "a title"))
    environment = {
        "PATH": os.environ["PATH"],
        "GLOO_SOCKET_IFNAME": "lo",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "repro.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("done, it did not hang") == 2
    assert done.stdout.count("compiled step") == 6
