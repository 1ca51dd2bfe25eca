"""The last word of a run: one, whole or as far as it came, and never lost without a word."""

import json
from pathlib import Path

import pytest
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import OutputFile
from llmval_runners.process.record import RunRecord
from llmval_runners.process.shutdown import StopSignals


@pytest.fixture
def parts(tmp_path: Path):
    """The record's path, its writer, and the events that were written."""
    events = EventLog(0, path=str(tmp_path / "events.jsonl"))
    path = tmp_path / "r.json"
    yield path, RunRecord(OutputFile(path), StopSignals(lambda _: None), events), tmp_path / "events.jsonl"
    events.close()


def test_the_complete_record_is_the_last_word(parts) -> None:
    path, record, events = parts
    done: list[str] = []
    record.so_far(lambda: {"n": 1})
    assert json.loads(path.with_name("r.partial.json").read_text()) == {"n": 1}
    assert record.complete(lambda: {"n": 2}, lambda: done.append("after")) == {"n": 2}
    assert record.early(lambda: {"n": 3}) is None
    record.so_far(lambda: {"n": 4})
    assert json.loads(path.read_text()) == {"n": 2} and done == ["after"]
    assert not path.with_name("r.partial.json").exists()
    assert [json.loads(line)["data"]["path"] for line in events.read_text().splitlines()] == [str(path)]


def test_the_first_early_end_is_the_last_word(parts) -> None:
    path, record, _ = parts
    assert record.early(lambda: {"why": "signal"}) == ({"why": "signal"}, path.with_name("r.partial.json"))
    assert record.early(lambda: {"why": "rank lost"}) is None
    assert json.loads(path.with_name("r.partial.json").read_text()) == {"why": "signal"} and not path.exists()


def test_a_record_that_cannot_be_written_can_still_be_shown(parts, monkeypatch: pytest.MonkeyPatch) -> None:
    path, record, events = parts

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutputFile, "_replace", full)
    done: list[str] = []
    with pytest.raises(OSError, match="No space left"):
        record.complete(lambda: {"n": 1}, lambda: done.append("after"))
    assert record.early(lambda: {"n": 1}, lambda: done.append("after")) == ({"n": 1}, None)
    assert not done, "what goes with the record stays until it is written"
    assert f"{path.with_name('r.partial.json')} cannot be written (No space left on device)" in events.read_text()
