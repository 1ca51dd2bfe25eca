"""What is left of the requests when the process that has them is killed."""

import json
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import fastjsonschema
import pytest
from llmval_runners.engine.engine import Engine
from llmval_runners.engine.request import Request
from llmval_runners.load_test import journal, recovery
from llmval_runners.load_test.generator import Arrival
from llmval_runners.load_test.journal import Journal, journal_path, read_dead_journal
from llmval_runners.load_test.options import parse
from llmval_runners.load_test.rate_search import Search
from llmval_runners.load_test.rate_trial import SearchConfig, judge_trial
from llmval_runners.load_test.recovery import recovery_command
from llmval_runners.load_test.result import Measured
from llmval_runners.load_test.session import LoadTest
from llmval_runners.process import launch, on_failure
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import partial_path
from llmval_runners.process.placement import Placement, replica_path


def sent(index: int, *times: float) -> Request:
    return Request(index, [1] * (index + 1), 2, index / 10, index / 10 + 0.001, array("d", times))


def load_test(path: Path, rank: int = 1, ranks: int = 2, *flags: str) -> LoadTest:
    options = parse(["--model", "tiny", "--device", "cpu", "--duration", "9", "--output-json", str(path), *flags])
    events = EventLog(rank, path=str(path.with_name("events.jsonl")))
    return LoadTest(options, events, Placement(rank, ranks, rank, ranks, ranks))


def left(writer: Journal) -> None:
    """Let go of it as the kernel does of a process that was killed."""
    writer._stop.set()
    writer._thread.join()
    writer._file.close()


def told(path: Path) -> list[dict]:
    return [json.loads(line)["data"] for line in path.with_name("events.jsonl").read_text().splitlines()]


def test_a_journal_speaks_only_for_the_dead(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(journal, "FLUSH_S", 0.01)
    path = journal_path(tmp_path / "out.json")
    writer = Journal(path)
    writer.begin({"seed": 1}, [sent(9, 1.0, 2.0)])
    requests = [sent(0), sent(1, 0.2, 1 / 3), sent(2, 0.3)]
    writer.begin({"run": 5, "seed": 2, "target_qps": 4.0}, requests)  # a new window: nothing of the old one stays
    writer.ended(requests[1])
    requests.append(sent(3))
    deadline = time.monotonic() + 60
    while b'"index":3' not in path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert read_dead_journal(path) is None, "its writer lives"
    left(writer)
    with path.open("ab") as file:
        file.write(b'{"index":3,"tok')  # torn by the kill
    found = read_dead_journal(path)
    assert found is not None
    header, kept = found
    assert header == {"run": 5, "seed": 2, "target_qps": 4.0}
    assert [(r.index, len(r.prompt), r.output_tokens, r.dispatch_s, list(r.token_times)) for r in kept] == [
        (0, 1, 2, 0.001, []), (1, 2, 2, 0.101, [0.2, 1 / 3]), (2, 3, 2, 0.201, []), (3, 4, 2, 0.301, []),
    ]  # fmt: skip


def test_a_journal_goes_with_the_record(tmp_path: Path) -> None:
    path = tmp_path / "x.partial.jsonl"
    writer = Journal(path)
    writer.begin({}, [])
    writer.remove()
    assert not path.exists()
    assert read_dead_journal(path) is None


def test_two_load_tests_do_not_write_one_journal(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    writer = Journal(journal_path(out))
    writer.begin({"seed": 1}, [])
    before = writer.path.read_bytes()
    second = load_test(out, 0, 2)
    with pytest.raises(Refused, match=r"another load test writes .*/out\.partial\.jsonl: pass another --output-json\."):
        second._set_up()
    assert second.parallel is None, "refused before anything heavy"
    assert before and writer.path.read_bytes() == before
    writer.remove()


def test_a_refusal_leaves_no_journal(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        assert journal_path(tmp_path / "out.json").exists()
        raise Refused("the memory does not hold it")

    test = load_test(tmp_path / "out.json", 0, 2)
    monkeypatch.setattr("llmval_runners.load_test.session.Parallel", refuse)
    with pytest.raises(Refused, match="the memory"):
        test._set_up()
    assert not journal_path(tmp_path / "out.json").exists()


def test_a_full_disk_ends_the_journal_and_not_the_run(tmp_path: Path, monkeypatch, capsys) -> None:
    writer = Journal(tmp_path / "x.partial.jsonl")
    with Path("/dev/full").open("wb", buffering=0) as full:
        file, writer._file = writer._file, full
        for _ in range(2):
            writer._write([{"index": 1}])
        writer._file = file
    writer.remove()
    assert capsys.readouterr().err.count("cannot be written any more (No space left on device)") == 1


def test_a_request_sent_and_ended_during_a_flush_has_its_index_line_first(tmp_path: Path) -> None:
    class Sent(list):
        """Another request is sent, and ends, just after the ones that are new were looked for."""

        def __getitem__(self, place):
            found = super().__getitem__(place)
            if len(self) == 1:
                self.append(sent(1, 0.2, 0.3))
                writer.ended(super().__getitem__(1))
            return found

    writer = Journal(tmp_path / "x.partial.jsonl")
    writer.begin({"run": 5}, Sent([sent(0)]))
    with writer._lock:
        writer._flush()
        writer._flush()
    left(writer)
    found = read_dead_journal(writer.path)
    assert found is not None
    assert [(r.index, list(r.token_times)) for r in found[1]] == [(0, []), (1, [0.2, 0.3])]


@pytest.mark.parametrize(
    "lines", ["no JSON\n", '{"window":{"seed":5}}\n{"index":0,"tokens":""}\n', '{"window":{"seed":5}}\n']
)
def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch, lines: str) -> None:
    out = tmp_path / "out.json"
    journal_path(out).write_text(lines)
    monkeypatch.setenv("LLMVAL_EVENTS", str(tmp_path / "events.jsonl"))
    assert recovery.main([str(journal_path(out)), str(out), "rank 0 is gone"]) == 1
    assert [event["code"] for event in told(out)] == ["record_lost"]
    assert not partial_path(out).exists()


def test_a_journal_without_a_window_and_one_whose_writer_lives_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    writer = Journal(journal_path(out))
    assert recovery.recover(journal_path(out), out, "rank 0 is gone") is None
    left(writer)
    assert recovery.recover(journal_path(out), out, "rank 0 is gone") is None, "killed before its first window"
    assert not partial_path(out).exists() and journal_path(out).exists()


def test_the_trials_of_a_search_and_a_profile_outlive_rank_0(
    tmp_path: Path, make_engine: Callable[..., Engine], monkeypatch
) -> None:
    out = tmp_path / "out.json"
    test = load_test(out, 0, 2, "--find-max-qps", "--slo-ttft-ms", "60000", "--max-qps", "8")
    test._journal = Journal(journal_path(out))
    test.profiler.kind = "torch"
    test._cache = {"bytes_per_rank": 1, "bytes_total": 2, "tokens": 3, "page_size": 4, "dtype": "float32"}
    test.search = Search(SearchConfig(4, 8, 0.05, 0.2, 0.99, 9, 0, 40, 0.95))
    requests = [sent(index, index / 10 + 0.01, index / 10 + 0.02) for index in range(9)]
    arrivals = [Arrival(r.index, r.intended_s, 1, 2) for r in requests]
    planned = test.search.next()
    assert planned is not None
    test.search.record(judge_trial([Measured(requests, arrivals, 1.0)], test.load.slo, 0.99, planned))
    load = test.load.load(8, 0)
    window = test._window(make_engine(), load, "trial 2")
    window._generator.sent.append(sent(0))
    with test._journal._lock:
        test._journal._flush()
    left(test._journal)
    monkeypatch.setenv("LLMVAL_EVENTS", str(tmp_path / "events.jsonl"))
    assert subprocess.run([*recovery_command(out), "rank 0 is gone"], check=False, timeout=120).returncode == 0
    assert told(out)[-1]["code"] == "rank_0_lost"
    record = json.loads(partial_path(out).read_text())
    ours = record["llmval"]
    assert record["errors"] == ["rank 0 is gone"] and ours["partial"] and not journal_path(out).exists()
    assert ours["workload"]["target_qps"] == 8, "the record is the second trial's"
    assert [(trial["target_qps"], trial["verdict"]) for trial in ours["search"]["trials"]] == [(4, "holds")]
    assert ours["search"]["outcome"] == "interrupted"
    assert any("a profiler ran" in reason for reason in ours["invalid_reasons"])
    assert f"only 1 of {len(load.arrivals)} requests were sent" in ours["invalid_reasons"]
    schema = json.loads((Path(__file__).parents[3] / "docs/schemas/load_test.schema.json").read_text())
    fastjsonschema.compile(schema)(record)


def test_what_is_left_of_one_replica_says_that_it_is_not_all(tmp_path: Path) -> None:
    flags = ["--model", "tiny", "--device", "cpu", "--duration", "9", "--output-json", str(tmp_path / "r.json")]
    test = LoadTest(parse(flags), EventLog(1), Placement(1, 2, 0, 1, 1))
    out = replica_path(tmp_path / "r.json", 1)
    load = test.load.load()
    writer = Journal(journal_path(out))
    writer.begin(test._journal_header(load), [sent(0, 0.5, 0.6), sent(1)])
    with writer._lock:
        writer._flush()
    left(writer)
    test.finish()
    assert recovery.recover(journal_path(out), out, "rank 1 ended first: SIGKILL") == 2
    record = json.loads((tmp_path / "r.replica1.partial.json").read_text())
    assert record["request_rate"] == 2.0, "its share"
    assert record["llmval"]["verdict"]["reason"] == (
        "rank 1 ended first: SIGKILL; only replica 1 (rank 1) is in this record"
    )


def test_launch_runs_what_a_rank_left_only_after_a_failure(tmp_path: Path, monkeypatch, capfd) -> None:
    file = tmp_path / "left.json"
    monkeypatch.setenv(on_failure.VARIABLE, str(file))
    echo = [sys.executable, "-c", "import sys; print('why:', sys.argv[1])"]
    for code, first, says in (
        (1, {"rank": 0, "how": "SIGKILL"}, "rank 0 ended first: SIGKILL"),
        (143, None, "SIGTERM"),
        (0, None, ""),
    ):
        on_failure.register(echo)
        launch._run_registered(file, {"first_failure": first}, code)
        assert not list(tmp_path.iterdir()) and says in capfd.readouterr().out
    on_failure.register(echo)
    on_failure.withdraw()
    assert on_failure.take(file) == []


def test_each_leader_of_a_node_leaves_a_command_of_its_own(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "left.json"
    monkeypatch.setenv(on_failure.VARIABLE, str(file))
    for rank in ("0", "2"):
        monkeypatch.setenv("RANK", rank)
        on_failure.register(["save", rank])
    assert on_failure.take(file) == [["save", "0"], ["save", "2"]]
    for rank in ("0", "2"):
        monkeypatch.setenv("RANK", rank)
        on_failure.register(["save", rank])
    on_failure.withdraw()  # rank 2 has written its record, and rank 0 has not
    assert on_failure.take(file) == [["save", "0"]]


def test_one_rank_alone_writes_no_journal(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(LoadTest, "_load", lambda *_: None)
    test = load_test(tmp_path / "out.json", 0, 1)
    test._set_up()
    assert not journal_path(tmp_path / "out.json").exists()
