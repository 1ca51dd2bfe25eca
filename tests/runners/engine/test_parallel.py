"""The ranks of one node: errors that mean a lost rank, a hang, and a slow shutdown."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.engine.parallel import Parallel
from llmval_runners.process import shutdown
from llmval_runners.process.errors import RankLost
from llmval_runners.process.shutdown import HangWatch

ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "runners" / "llmval_runners" / "process" / "launch.py"
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "mine",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("NCCL error in: init.cc:1, unhandled cuda error. Cuda failure 2 'out of memory'"),
    ],
)
def test_an_error_of_this_rank_is_not_reported_as_a_lost_rank(mine: Exception) -> None:
    parallel = Parallel(CPU)
    with pytest.raises(type(mine)) as raised, parallel._guarded("all-reduce"):
        raise mine
    assert raised.value is mine
    lost = pytest.raises(RankLost, match=r"lost another rank during all-reduce \(Connection closed\)")
    with lost, parallel._guarded("all-reduce"):
        raise RuntimeError("[/gloo/pair.cc:1] Connection closed")


def test_the_reported_all_reduce_names_the_algorithm_for_each_size() -> None:
    parallel = Parallel(CPU)
    assert parallel.all_reduce_name == "none"
    parallel.size, parallel.device = 2, torch.device("meta")
    named = {}
    for choice in all_reduce.CHOICES:
        parallel._choice = choice
        named[choice] = parallel.all_reduce_name
    assert named["nccl"] == "nccl"
    sizes = {1: 2 * 8, 128: 128 * 1024, 129: 129 * 1024, 1024: 2**20, 1025: 2**20 + 16}
    for choice, name in named.items():
        ran = {all_reduce.algorithm(choice, torch.empty(size // 2, dtype=torch.bfloat16)) for size in sizes.values()}
        assert all(how in name for how in ran), (choice, name, ran)


def test_a_wait_that_lasts_is_noticed_once_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "HANG_POLL_S", 0.001)
    began: list[float | None] = [None]
    told, looked = threading.Event(), threading.Semaphore(0)
    waited: list[float] = []

    def since() -> float | None:
        looked.release()
        return began[0]

    def hung(seconds: float) -> None:
        waited.append(seconds)
        told.set()

    watch = HangWatch(since, 50.0, hung)
    watch.start()
    for value in (None, time.monotonic()):
        began[0] = value
        for _ in range(3):
            looked.acquire()
    assert not told.is_set()
    began[0] = time.monotonic() - 51
    assert told.wait(20)
    watch.join(20)
    assert not watch.is_alive() and len(waited) == 1 and waited[0] > 50


SLOW_REPORT = """
import sys, time
from datetime import timedelta
sys.path.insert(0, sys.argv.pop(1))
from llmval_runners.engine import parallel
from llmval_runners.load_test.session import LoadTest

parallel.TIMEOUT = timedelta(seconds=3)
save = LoadTest._save

def slow(self):
    time.sleep(7)
    return save(self)

LoadTest._save = slow
from llmval_runners.load_test.main import main
main(sys.argv[1:])
"""


def test_a_report_may_take_longer_than_a_collective(tmp_path: Path) -> None:
    script, out = tmp_path / "slow.py", tmp_path / "out.json"
    script.write_text(SLOW_REPORT)
    load = ["--model", "tiny", "--device", "cpu", "--duration", "1", "--target-qps", "4", "--output-json", str(out)]
    own = ["--logs", str(tmp_path / "logs"), "--exit-codes", str(tmp_path / "ranks.json")]
    command = [sys.executable, str(LAUNCH), *own, "--", "--nproc_per_node=2", str(script), str(ROOT / "runners"), *load]
    ended = subprocess.run(command, env=os.environ | {"LLMVAL_EVENTS": os.devnull}, timeout=120, check=False)
    told = (tmp_path / "logs" / "main.rank1.stderr.log").read_text()
    assert (ended.returncode, json.loads((tmp_path / "ranks.json").read_text())["ranks"]) == (0, {"0": 0, "1": 0}), told
    assert json.loads(out.read_text())["llmval"]["valid"] and not list(tmp_path.glob("*.partial.*"))
