"""Two replicas as processes on this machine, each of which takes itself for a node."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.engine.replicas import _listening

from llmval_tui.actions.judges.load_test_result import metrics_of, read_result

ROOT = Path(__file__).parents[2]
LOAD_TEST, LONG_CONTEXT = "inference_server_load_test.py", "long_context_validation.py"
LATE_S = 300.0
Start = Callable[..., list["subprocess.Popen[str]"]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the ranks of two nodes as torchrun does, with a file of events for each node; kills what is left."""
    started: list[subprocess.Popen[str]] = []

    def ranks(runner: str, per_node: int, *flags: str, recorded: bool = True) -> list["subprocess.Popen[str]"]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")}
        common = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(2 * per_node),
            "LOCAL_WORLD_SIZE": str(per_node), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, str(ROOT / "runners" / runner), "--model", "tiny", "--device", "cpu", *flags]
        for rank in range(2 * per_node):
            node, local = divmod(rank, per_node)
            own = {
                "RANK": str(rank), "LOCAL_RANK": str(local), "SLURMD_NODENAME": f"n{node}",
                **({"LLMVAL_EVENTS": str(tmp_path / f"events{node}.jsonl")} if recorded else {}),
            }  # fmt: skip
            started.append(
                subprocess.Popen(
                    [*command, "--output-json", str(tmp_path / "r.json")], env=kept | common | own, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
        return started

    yield ranks
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(processes: list["subprocess.Popen[str]"]) -> list[str]:
    """What each rank has said, after all of them have ended."""
    return [process.communicate(timeout=LATE_S)[0] for process in processes]


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LATE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def valid(path: Path, schema: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    fastjsonschema.compile(json.loads((ROOT / f"docs/schemas/{schema}.schema.json").read_text()))(value)
    return value


def records(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("events"))


def test_a_load_test_over_two_nodes_is_one_record(start: Start, tmp_path: Path) -> None:
    said = ended(start(LOAD_TEST, 1, "--duration", "2", "--target-qps", "16"))
    made = valid(tmp_path / "r.json", "load_test")
    assert records(tmp_path) == ["r.json"], said
    ours = made["llmval"]
    assert (ours["identity"]["tensor_parallel"], ours["identity"]["data_parallel"]) == (1, 2)
    assert [(one["host"], one["ranks"], one["requests"]) for one in ours["replicas"]] == [
        ("n0", [0, 0], 16), ("n1", [1, 1], 16),
    ]  # fmt: skip
    assert ours["workload"]["target_qps"] == 16 and ours["rates"]["offered_qps"] == pytest.approx(16)
    result = read_result(tmp_path / "r.json")
    assert result is not None and metrics_of(result)["completed_qps"] == pytest.approx(ours["rates"]["completed_qps"])


@pytest.mark.parametrize(
    ("runner", "flags"),
    [
        (LOAD_TEST, ("--duration", "0.2", "--target-qps", "2000", "--max-in-flight", "1")),  # far more than it can
        (LONG_CONTEXT, ("--sequence-lengths", "64")),
    ],
)
def test_by_hand_each_node_ends_with_the_verdict_and_exit_code_of_all(
    start: Start, tmp_path: Path, runner: str, flags: tuple[str, ...]
) -> None:
    ranks = start(runner, 1, *flags, recorded=False)
    said = ended(ranks)
    made = json.loads((tmp_path / "r.json").read_text())
    verdict = made["llmval"]["verdict"] if runner == LOAD_TEST else made["verdict"]
    assert (verdict["exit_code"] == 0) == (runner == LONG_CONTEXT), verdict
    assert [rank.returncode for rank in ranks] == [verdict["exit_code"]] * 2, said
    assert any(line.startswith(verdict["word"]) and "of all 2 replicas" in line for line in said[1].splitlines()), said[
        1
    ]
    assert "Traceback" not in said[1] and "of all 2 replicas" not in said[0]


def test_the_ports_on_which_an_agent_listens_are_seen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert port not in _listening(os.getpid()), "it is bound only"
        server.listen()
        assert port in _listening(os.getpid()) and port not in _listening(os.getppid())
    assert port not in _listening(os.getpid())


def test_a_killed_rank_ends_both_replicas_and_costs_no_request(start: Start, tmp_path: Path) -> None:
    ranks = start(LOAD_TEST, 2, "--duration", "600", "--target-qps", "16")
    events = tmp_path / "events0.jsonl"
    wait_for(lambda: events.exists() and b'"completed_qps"' in events.read_bytes())
    ranks[3].send_signal(signal.SIGKILL)
    said = ended(ranks)
    assert ranks[0].returncode == 1
    made = valid(tmp_path / "r.partial.json", "load_test")
    ours = made["llmval"]
    assert ours["verdict"]["word"] == "ended early"
    assert ours["verdict"]["reason"].startswith("replica 1 (ranks 2 to 3 on n1): rank 2 lost another rank"), said
    own = valid(tmp_path / "r.replica1.partial.json", "load_test")
    assert own["num_prompts"] > 0 and [one["requests"] for one in ours["replicas"]][1] in (0, own["num_prompts"])
    assert made["num_prompts"] == sum(one["requests"] for one in ours["replicas"]) > 0
    assert records(tmp_path) == ["r.partial.json", "r.replica1.partial.json"]


def test_a_long_context_runs_on_each_node(start: Start, tmp_path: Path) -> None:
    said = ended(start(LONG_CONTEXT, 1, "--sequence-lengths", "64", "128"))
    made = valid(tmp_path / "r.json", "long_context")
    assert records(tmp_path) == ["r.json"], said
    assert made["verdict"]["word"] == "ok" and made["identity"]["data_parallel"] == 2
    parts = made["replicas"]
    assert [(one["host"], [entry["status"] for entry in one["lengths"]]) for one in parts] == [
        ("n0", ["passed"] * 2), ("n1", ["passed"] * 2),
    ]  # fmt: skip
    for index, entry in enumerate(made["lengths"]):
        total = sum(one["lengths"][index]["prefill"]["tokens_per_s"] for one in parts)
        assert entry["prefill"]["tokens_per_s"] == pytest.approx(total)
