"""The comparison with nccl-tests and nvbandwidth, with programs that print what these print."""

import stat
from pathlib import Path

import pytest

from benchmarks.collectives import beside_nccl_tests, beside_nvbandwidth, counters
from tests.helpers.collective_records import record_of

RESULTS = Path(__file__).parents[1] / "actions" / "tools" / "results"
HALF = "   3475.0  309.00  {busbw}      0"
TEXT = f"""  {1 << 30}     268435456     float     sum      -1{HALF}{HALF}
# Out of bounds values : 0 OK
# Avg bus bandwidth    : {{busbw}}
"""


def program(path: Path, text: str) -> Path:
    path.with_suffix(".txt").write_text(text)
    path.write_text(f"#!/bin/sh\ncat {path.with_suffix('.txt')}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(("busbw", "reached"), [("309.00", True), ("325.00", False)])
def test_an_all_reduce_is_compared_with_nccl_tests(tmp_path: Path, busbw: str, reached: bool) -> None:
    program(tmp_path / "all_reduce_perf", TEXT.format(busbw=busbw))
    rows = beside_nccl_tests(record_of(2, busbw=309.0), tmp_path, 2)
    assert [row.reached for row in rows] == [reached, reached]
    assert "309.0 and" in rows[0].measured


def test_copies_are_compared_with_nvbandwidth(tmp_path: Path) -> None:
    text = (RESULTS / "nvbandwidth.json").read_text()
    rows = beside_nvbandwidth(record_of(2), program(tmp_path / "nvbandwidth", text))
    assert [row.name for row in rows] == [
        "slowest copy, read, beside nvbandwidth", "slowest copy, write, beside nvbandwidth"
    ]  # fmt: skip


def test_what_is_not_there_is_not_compared() -> None:
    made = record_of(2)
    assert [row.reached for row in (*beside_nccl_tests(made, None, 2), *beside_nvbandwidth(made, None))] == [None] * 4
    assert counters(made).reached is True
    made["counters"] = {"readings": [], "reason": "no NVML"}
    assert (counters(made).reached, counters(made).measured) == (None, "not available: no NVML")
