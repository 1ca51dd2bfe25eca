"""fio, perftest and STREAM: their figures in true units, and what they cannot say is unknown."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.metric_names import metric_named
from llmval_tui.runs.records import Outcome
from tests.helpers.tool_results import RESULTS, changed, outcome, read


def value(result: Any, name: str) -> tuple[float | None, str]:
    return result.metrics[name].value, result.metrics[name].unit


def test_perftest_prints_mebibytes_as_mb() -> None:
    result = read("ib_write_bw -d mlx5_0 peer", stdout="perftest_write_bw.txt")
    assert outcome(result) is Outcome.PASS
    assert value(result, "bw.average") == (46548.21, "MiB/s")
    assert value(result, "bw.average.printed") == (46548.21, "MB/s")  # for a bound that was read off the tool


def test_perftest_with_several_sizes_has_no_one_bandwidth() -> None:
    result = read("ib_write_bw -a --report_gbits peer", stdout="perftest_write_bw_gbits.txt")
    assert result.metrics["bw.average"].value is None
    assert value(result, "bw.average.131072") == (388.42, "Gb/s")
    assert result.metrics["bw.peak.131072"].value is None  # -D measures none and prints 0


def test_perftest_latency() -> None:
    result = read("sudo ib_write_lat -F peer", stdout="perftest_write_lat.txt")
    assert [value(result, name) for name in ("t_typical", "t_avg", "p99", "p99.9")] == [
        (1.27, "us"), (1.28, "us"), (1.37, "us"), (5.19, "us")
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["#bytes", "\n-----"])
def test_a_perftest_that_did_not_end_is_inconclusive(end: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text((RESULTS / "perftest_write_bw.txt").read_text().rpartition(end)[0])
    assert outcome(read("ib_write_bw peer", stdout=log)) is Outcome.INCONCLUSIVE


def test_stream() -> None:
    result = read("./stream_c.exe", stdout="stream.txt")
    assert outcome(result) is Outcome.PASS
    assert value(result, "triad") == value(result, "slowest") == (332295.2, "MB/s")


@pytest.mark.parametrize(
    ("validates", "expected"), [("Failed Validation on array a[]", Outcome.FAIL), ("", Outcome.INCONCLUSIVE)]
)
def test_stream_with_wrong_arrays_fails(validates: str, expected: Outcome, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text((RESULTS / "stream.txt").read_text().replace("Solution Validates", validates))
    assert outcome(read("./stream", stdout=log)) is expected


def test_fio_text() -> None:
    result = read("fio seq.fio", stdout="fio.txt")
    assert outcome(result) is Outcome.PASS
    assert value(result, "read.bw") == value(result, "bw") == (5012 * 2**20, "B/s")
    assert value(result, "iops") == (5012, "IOPS")
    assert value(result, "read.latency.p99") == (3097, "us")
    assert value(result, "read.latency.mean") == (2043.59, "us")
    assert "write.bw" not in result.metrics


def test_fio_json(tmp_path: Path) -> None:
    result = read("fio --output-format=json rr.fio", stdout="fio.json")
    assert value(result, "iops") == (612345.5, "IOPS")
    assert value(result, "read.bw") == (2508167168, "B/s")
    assert value(result, "latency.p99") == (411.648, "us")
    result = read("fio --output-format=json --output=rr.json rr.fio", "fio.json")
    assert value(result, "iops") == (612345.5, "IOPS")

    def second(document: Any) -> None:
        document["jobs"].append(json.loads(json.dumps(document["jobs"][0])))

    result = read("fio rr.fio", stdout=changed("fio.json", tmp_path / "two.json", second))
    assert value(result, "iops") == (1224691, "IOPS")
    assert result.metrics["latency.p99"].value is None  # percentiles of two jobs do not add up

    def later(document: Any) -> None:
        second(document)
        document["jobs"][1]["groupid"] = 1

    result = read("fio rr.fio", stdout=changed("fio.json", tmp_path / "groups.json", later))
    assert result.metrics["iops"].value is None

    def failed(document: Any) -> None:
        document["jobs"][0]["error"] = 5

    assert outcome(read("fio rr.fio", stdout=changed("fio.json", tmp_path / "bad.json", failed))) is Outcome.FAIL


def test_a_fio_that_did_not_end_is_inconclusive(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text((RESULTS / "fio.txt").read_text().partition("Run status")[0])
    assert outcome(read("fio seq.fio", stdout=log)) is Outcome.INCONCLUSIVE
    assert tool_of(["fio", "--version"]) is None


@pytest.mark.parametrize(
    ("words", "tool", "unit", "name"),
    [
        ("read", "fio", "GB/s", "read.bw"),
        ("sequential write throughput", "fio", "MiB/s", "write.bw"),
        ("", "fio", "GB/s", "bw"),
        ("IOPS", "fio", None, "iops"),
        ("random read IOPS", "fio", None, "read.iops"),
        ("p99 latency", "fio", "us", "latency.p99"),
        ("read and write", "fio", "GB/s", None),
        ("latency", "fio", "us", None),  # of which percentile?
        ("bandwidth of each disk", "fio", "GB/s", None),
        ("BW average", "perftest", "MB/s", "bw.average.printed"),
        ("BW average", "perftest", "GB/s", "bw.average"),
        ("", "perftest", "Gb/s", "bw.average"),
        ("peak bandwidth", "perftest", "Gb/s", "bw.peak"),
        ("t_typical", "perftest", "us", "t_typical"),
        ("latency", "perftest", "us", None),
        ("STREAM Triad", "STREAM", "GB/s", "triad"),
        ("", "STREAM", "GB/s", "slowest"),
        ("Copy and Triad", "STREAM", "GB/s", None),
    ],
)
def test_what_words_mean(words: str, tool: str, unit: str | None, name: str | None) -> None:
    assert metric_named(words, tool, unit) == name
