"""What is left of the requests when the process that has them is killed."""

import json
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from llmval_runners.engine.engine import Engine
from llmval_runners.engine.request import Request
from llmval_runners.load_test import journal
from llmval_runners.load_test.arrivals import Arrival
from llmval_runners.load_test.journal import Journal, journal_path, left_behind
from llmval_runners.load_test.options import parse
from llmval_runners.load_test.rate_search import Asked, Search
from llmval_runners.load_test.result import Measured, partial_path
from llmval_runners.load_test.session import LoadTest
from llmval_runners.load_test.trial import judge_trial
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog


def sent(index: int, *times: float) -> Request:
    return Request(index, [1] * (index + 1), 2, index / 10, index / 10 + 0.001, array("d", times))


def load_test(path: Path, rank: int = 1, ranks: int = 2, *flags: str) -> LoadTest:
    options = parse(["--model", "tiny", "--device", "cpu", "--duration", "9", "--output-json", str(path), *flags])
    events = EventLog(rank, path=str(path.with_name("events.jsonl")))
    return LoadTest(options, events, rank=rank, world_size=ranks, local_rank=rank)


def noted(out: Path) -> Journal:
    """The journal of run 5 beside `out`, with one request in it."""
    writer = Journal(journal_path(out))
    writer.begin({"run": 5, "search": None, "target_qps": 4.0, "seed": 0}, [sent(0)])
    with writer._lock:
        writer._flush()
    return writer


def left(writer: Journal) -> None:
    """Let go of it as the kernel does of a process that was killed."""
    writer._over.set()
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
    deadline = time.monotonic() + 5
    while b'"index":3' not in path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert left_behind(path, 5) is None, "its writer lives"
    left(writer)
    with path.open("ab") as file:
        file.write(b'{"index":3,"tok')  # torn by the kill
    found = left_behind(path, 5)
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
    assert left_behind(path, 5) is None


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
    def refuse(*_: object) -> None:
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
    found = left_behind(writer.path, 5)
    assert found is not None
    assert [(r.index, list(r.token_times)) for r in found[1]] == [(0, []), (1, [0.2, 0.3])]


@pytest.mark.parametrize(
    "lines", ["no JSON\n", '{"window":{"run":5}}\n{"index":0,"tokens":""}\n', '{"window":{"run":5}}\n']
)
def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path, lines: str) -> None:
    test = load_test(tmp_path / "out.json")
    test._run = 5
    journal_path(tmp_path / "out.json").write_text(lines)
    test.keep_for_rank_0("rank 0 is gone")
    assert [event["code"] for event in told(tmp_path / "out.json")] == ["record_lost"]
    assert not (tmp_path / "out.partial.json").exists()


def test_the_journal_of_an_earlier_run_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("llmval_runners.load_test.session.LAST_LOOK_S", 0.0)
    out = tmp_path / "out.json"
    writer = noted(out)
    left(writer)
    test = load_test(out)
    for run in (None, 6):  # lost before the ranks met, and after
        test._run = run
        test.keep_for_rank_0("rank 0 is gone")
        assert not partial_path(out).exists() and journal_path(out).exists()
    test._run = 5
    test.keep_for_rank_0("rank 0 is gone")
    assert [event["code"] for event in told(out)] == ["rank_0_lost"]
    assert json.loads(partial_path(out).read_text())["errors"] == ["rank 0 is gone"]


def test_a_rank_that_is_stuck_when_it_is_ended_keeps_the_record_of_a_dead_rank_0(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("llmval_runners.load_test.session.LAST_LOOK_S", 0.0)
    out = tmp_path / "out.json"
    writer = noted(out)
    test = load_test(out)
    test._run = 5
    test._emergency_save(15)
    assert not partial_path(out).exists(), "rank 0 lives and keeps its own"
    left(writer)
    test._emergency_save(15)
    assert [event["code"] for event in told(out)] == ["interrupted", "interrupted", "rank_0_lost"]
    assert "until signal 15 ended it" in json.loads(partial_path(out).read_text())["errors"][0]


def test_the_trials_of_a_search_and_a_profile_outlive_rank_0(
    tmp_path: Path, make_engine: Callable[..., Engine]
) -> None:
    out = tmp_path / "out.json"
    search = ["--find-max-qps", "--slo-ttft-ms", "60000", "--max-qps", "8"]
    first, second = load_test(out, 0, 2, *search), load_test(out, 1, 2, *search)
    first._run = second._run = 5
    first._journal = Journal(journal_path(out))
    first.search = Search(Asked(4, 8, 0.05, 0.99, 9, 0))
    requests = [sent(index, index / 10 + 0.01, index / 10 + 0.02) for index in range(9)]
    arrivals = [Arrival(r.index, r.intended_s, 1, 2) for r in requests]
    planned = first.search.next()
    assert planned is not None
    first.search.took(
        judge_trial(
            Measured(requests, arrivals, 1.0), first.config.slo, 0.99, number=planned.number, purpose=planned.purpose,
            seed=planned.seed, target_qps=planned.qps,
        )
    )  # fmt: skip
    first._window(make_engine(), first.config.load(8, 0), "trial 2")
    left(first._journal)
    second.profiler.switch(True)
    second.keep_for_rank_0("rank 0 is gone")
    ours = json.loads(partial_path(out).read_text())["llmval"]
    assert ours["workload"]["target_qps"] == 8, "the record is the second trial's"
    assert [(trial["target_qps"], trial["verdict"]) for trial in ours["search"]["trials"]] == [(4, "holds")]
    assert ours["search"]["outcome"] == "interrupted"
    assert any("a profiler ran" in reason for reason in ours["invalid_reasons"])


def test_one_rank_alone_writes_no_journal(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(LoadTest, "_load", lambda *_: None)
    test = load_test(tmp_path / "out.json", 0, 1)
    test._set_up()
    assert not journal_path(tmp_path / "out.json").exists()
