"""The program as a person starts it, on CPUs: ranks, records, refusals, signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.collective.baseline import check_files
from llmval_runners.collective.facts import disagreement, name_hosts, warnings
from llmval_runners.collective.options import parse
from llmval_runners.process.errors import Refused

ROOT = Path(__file__).parents[3]
ENTRY = ROOT / "runners/collective_bandwidth.py"
SMALL = ["--device", "cpu", "--max-bytes", "4K", "--iterations", "2", "--repeats", "2", "--warmup", "1"]
SCHEMA = json.loads((ROOT / "docs/schemas/collective_bandwidth.schema.json").read_text())


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("LLMVAL_", "NCCL_"))} | more


def start(*flags: str, **more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ENTRY), *SMALL, *flags]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=300, check=False)


def test_two_ranks_measure_check_and_record_everything(tmp_path: Path) -> None:
    out, events = tmp_path / "new" / "c.json", tmp_path / "events.jsonl"
    ended = start("--output-json", str(out), LLMVAL_EVENTS=str(events), NCCL_NVLS_ENABLE="0")
    assert ended.returncode == 0, ended.stderr  # llmval judges the record itself
    record = json.loads(out.read_text())
    fastjsonschema.compile(SCHEMA)(record)
    assert record["verdict"]["word"] == "inconclusive" and record["verdict"]["exit_code"] == 3
    assert record["environment"]["NCCL_NVLS_ENABLE"] == "0"
    assert {one["operation"] for one in record["rows"]} == set(record["settings"]["operations"])
    assert {(one["wrong"], one["wrong_int32"]) for one in record["rows"]} == {(0, 0)}
    assert all(one["time_us"] > 0 and one["busbw_gb_per_s"] > 0 for one in record["rows"])
    cells = [
        (one["from"], one["to"], one["method"], one["directions"], one["wrong"]) for one in record["pairs"]["cells"]
    ]
    assert cells == [(0, 1, "gloo", 1, 0), (1, 0, "gloo", 1, 0), (0, 1, "gloo", 2, 0)]
    assert record["counters"] == {"readings": [], "reason": "these ranks are on CPUs"}
    assert max(len(line) for line in ended.stdout.splitlines() if str(out) not in line) <= 80
    assert (out.with_suffix(".nccl-tests") / "alltoall_perf.json").is_file()
    assert not list(out.parent.glob("*.partial*"))
    kinds = [json.loads(line)["kind"] for line in events.read_text().splitlines()]
    assert {"phase", "progress", "metrics", "result", "heartbeat"} <= set(kinds)


def test_four_ranks_stand_for_nodes_that_meet_in_rounds_and_form_a_ring(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    flags = ["--operations", "all_reduce", "--pairs", "rounds", "--ranks-per-node", "1", "--nproc-per-node", "4"]
    ended = start(*flags, "--output-json", str(out))
    assert ended.returncode == 3, ended.stderr
    record = json.loads(out.read_text())
    fastjsonschema.compile(SCHEMA)(record)
    fabric = record["fabric"]
    assert [one["numbers"] for one in fabric["links"]] == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert fabric["rounds"] == 3 and all(one["gb_per_s"] > 0 and one["wrong"] == 0 for one in fabric["links"])
    assert fabric["ring"]["gb_per_s"] > 0 and fabric["ring"]["wrong"] == 0
    assert fabric["slow"] == [] and "one machine" in fabric["reason"]
    assert record["summary"]["node_ring_gb_per_s"] == fabric["ring"]["gb_per_s"]


def test_one_rank_says_that_nothing_crosses_a_link(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    ended = start("--nproc-per-node", "1", "--dtype", "bfloat16", "--output-json", str(out))
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.startswith("inconclusive: one rank: nothing crosses a link")
    record = json.loads(out.read_text())
    fastjsonschema.compile(SCHEMA)(record)
    assert {one["busbw_gb_per_s"] for one in record["rows"]} == {None}
    assert all(one["wrong"] == one["wrong_int32"] == 0 for one in record["rows"])


def test_sizes_that_do_not_fit_are_refused_with_one_that_does() -> None:
    ended = start("--operations", "all_reduce", "--nproc-per-node", "1", "--max-bytes", "1T")
    assert ended.returncode == 2, ended.stderr
    said = next(line for line in ended.stderr.splitlines() if line.startswith("refused: "))
    assert said.startswith("refused: --max-bytes 1T needs 1024.0 GiB on each rank, and rank 0 on")
    assert re.search(r"GiB free: pass --max-bytes \d+[MG] or less\.$", said)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output-json", "/proc/c.json"], "--output-json /proc/c.json cannot be written"),
        (["--output-json", "/tmp"], "/tmp is a folder: pass a file for --output-json."),
        (["--output-json", "c.txt"], "--output-json c.txt does not end in .json: pass such a name."),
        (["--baseline", "/nowhere/b.json"], "--baseline /nowhere/b.json cannot be read"),
    ],
)
def test_files_are_checked_before_anything_starts(flags: list[str], words: str) -> None:
    with pytest.raises(Refused) as refusal:
        check_files(parse(flags))
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-bytes", "4", "--min-bytes", "8"], "--max-bytes 4 is less than --min-bytes 8"),
        (["--max-bytes", "4x"], "4x is not a size such as 8, 64K, 1M or 1G"),
        (["--max-bytes", "0"], "0 is not a size"),
        (["--operations", "all_reduce,reduce"], "--operations 'reduce' is not one of all_reduce, all_gather"),
        (["--device", "cpu", "--modes", "graph"], "a CPU has no CUDA graphs"),
        (["--dtype", "float64"], "invalid choice: 'float64'"),
        (["--factor", "1"], "1 is not at least 2"),
        (["--ranks-per-node", "1"], "--ranks-per-node is for --pairs rounds"),
        (["--nproc-per-node", "0"], "0 is not at least 1"),
    ],
)
def test_wrong_flags_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(flags)
    assert words in str(refusal.value)


SAME_GPU = (
    "ranks 1 and 3 have the same GPU GPU-1: start one rank for each GPU, with the same CUDA_VISIBLE_DEVICES for all "
    "ranks of a node."
)


def fact(rank: int, **changes: Any) -> dict[str, Any]:
    return {
        "rank": rank, "host": f"node{rank // 2}", "boot_id": str(rank // 2), "uuid": f"GPU-{rank}",
        "versions": {"nccl": "2.28.9", "torch": "2.11.0"}, "asked": {"--dtype": "float32"}, "environment": {},
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"versions": {"nccl": "2.27.3", "torch": "2.11.0"}},
            "rank 3 on node1 has NCCL 2.27.3 and rank 0 on node0 has 2.28.9: install the same PyTorch for all ranks.",
        ),
        (
            {"versions": {"nccl": "2.28.9", "torch": "2.13"}},
            "rank 3 on node1 has PyTorch 2.13 and rank 0 on node0 has 2.11.0: install the same PyTorch for all ranks.",
        ),
        (
            {"asked": {"--dtype": "int32"}},
            "rank 3 was started with --dtype int32 and rank 0 with float32: start all ranks with the same flags.",
        ),
        (
            {"uuid": "GPU-1"},
            SAME_GPU,
        ),
        ({}, None),
    ],
)
def test_ranks_that_do_not_fit_together_are_named(change: dict[str, Any], sentence: str | None) -> None:
    assert disagreement([fact(0), fact(1), fact(2), fact(3, **change)]) == sentence


def test_a_group_with_another_nccl_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    child = Path(__file__).parent / "children" / "another_nccl.py"
    command = [
        sys.executable, str(ROOT / "runners/llmval_runners/process/launch.py"), "--logs", str(tmp_path / "logs"),
        "--exit-codes", str(tmp_path / "codes.json"), "--", "--nproc_per_node=2", str(child), *SMALL,
        "--output-json", str(tmp_path / "out" / "c.json"),
    ]  # fmt: skip
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2, ended.stderr
    said = (tmp_path / "logs" / "main.rank0.stderr.log").read_text()
    assert "has NCCL 2.1 and rank 0 on" in said and "install the same PyTorch for all ranks." in said
    assert "Traceback" not in said
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == []


def test_a_signal_leaves_a_partial_record(tmp_path: Path) -> None:
    number = signal.SIGTERM
    out, events = tmp_path / "c.json", tmp_path / "events.jsonl"
    command = [sys.executable, str(ENTRY), "--device", "cpu", "--repeats", "1000", "--iterations", "1000"]
    process = subprocess.Popen(
        [*command, "--output-json", str(out)], env=environment(LLMVAL_EVENTS=str(events)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while '"measure"' not in (events.read_text() if events.exists() else ""):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number, stderr
    assert not out.exists()
    record = json.loads((tmp_path / "c.partial.json").read_text())
    fastjsonschema.compile(SCHEMA)(record)
    assert record["ended_early"] == f"ended by {number.name}"
    assert f"ended early: ended by {number.name}" in stdout


def test_hosts_with_the_same_name_are_told_apart() -> None:
    facts = [fact(0, host="vm", boot_id="11111111-2"), fact(1, host="vm", boot_id="22222222-3"), fact(2, host="a")]
    name_hosts(facts)
    assert [one["host"] for one in facts] == ["vm (boot 11111111)", "vm (boot 22222222)", "a"]


def test_variables_that_differ_or_hide_nvlink_are_warned_about() -> None:
    found = warnings([fact(0, environment={"NCCL_ALGO": "Ring", "NCCL_P2P_DISABLE": "1"}), fact(1)])
    assert found == [
        "NCCL_ALGO is not the same on all ranks: Ring, unset",
        "NCCL_P2P_DISABLE is not the same on all ranks: 1, unset",
        "NCCL_P2P_DISABLE=1 keeps NCCL off NVLink",
    ]
