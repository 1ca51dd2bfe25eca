"""On GPUs: CUDA events and graphs, copies by the copy engine and by an SM kernel, NVML's links and counters.

One GPU runs everything but the links. With two, `test_two_gpus…` compares with what the links allow, and shows that a
path over the host is named.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import torch

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs/schemas/collective_bandwidth.schema.json").read_text())
GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not GPUS, reason="needs an NVIDIA GPU, and torch finds none"),
]
two = pytest.mark.skipif(GPUS < 2, reason=f"needs 2 GPUs, and there are {GPUS}")


def measured(tmp_path: Path, *flags: str, code: int, **more: str) -> dict[str, Any]:
    out = tmp_path / "c.json"
    command = [sys.executable, str(ROOT / "runners/collective_bandwidth.py"), "--output-json", str(out), *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")} | more
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    record: dict[str, Any] = json.loads(out.read_text())
    fastjsonschema.compile(SCHEMA)(record)
    assert {one["wrong"] for one in record["rows"]} == {0}, "a collective is wrong"
    assert {one["reason"] for one in record["rows"]} == {None}
    return record


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_gpu_runs_every_path_but_the_links(tmp_path: Path, dtype: str) -> None:
    record = measured(tmp_path, "--nproc-per-node", "1", "--max-bytes", "64M", "--dtype", dtype, code=3)
    assert {one["mode"] for one in record["rows"]} == {"eager", "graph"}
    assert {one["wrong_int32"] for one in record["rows"]} == {0}
    cells = {one["method"]: one for one in record["pairs"]["cells"]}
    assert set(cells) == {"copy_engine", "sm"}
    for one in cells.values():
        assert one["reason"] is None and one["wrong"] == 0
        assert 100 < one["gb_per_s"] < 5000
    gpu = record["gpus"][0]
    assert gpu["links_unknown"] is None and gpu["uuid"].startswith("GPU-")
    assert gpu["pcie"]["generation"] and gpu["pcie"]["width"]
    assert record["verdict"]["reason"].startswith("one rank")


def test_more_ranks_than_gpus_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "runners/collective_bandwidth.py"), "--nproc-per-node", str(GPUS + 1)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert f"{GPUS + 1} ranks need {GPUS + 1} GPUs, and {GPUS} can be used" in done.stderr


@two
def test_two_gpus_reach_what_their_links_allow(tmp_path: Path) -> None:
    record = measured(tmp_path, "--nproc-per-node", "2", code=0)
    if record["line"]["kind"] != "NVLink":
        pytest.skip(f"the GPUs are connected by {record['line']['kind']}")
    assert record["summary"]["all_reduce_share_of_line"] > 0.6
    assert record["summary"]["pair_min_share_of_line"] > 0.75
    shares = [one[key] for one in record["counters"]["readings"] for key in ("tx_share", "rx_share")]
    assert all(abs(share - 1) < 0.02 for share in shares if share is not None), shares


@two
def test_a_path_over_the_host_is_named(tmp_path: Path) -> None:
    flags = ("--nproc-per-node", "2", "--operations", "all_reduce", "--min-bytes", "256M", "--max-bytes", "256M")
    record = measured(tmp_path, *flags, code=1, NCCL_P2P_DISABLE="1")
    if record["line"]["kind"] != "NVLink":
        pytest.skip(f"the GPUs are connected by {record['line']['kind']}")
    assert record["verdict"]["reason"].startswith("NVLink carried 0% of")
    assert record["warnings"] == ["NCCL_P2P_DISABLE=1 keeps NCCL off NVLink"]
