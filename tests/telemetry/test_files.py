"""The recording as a file: lines, tail, load, replay."""

import math
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmval_tui.telemetry.recording import SampleTail, load
from llmval_tui.telemetry.replay import ReplaySource
from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample
from llmval_tui.telemetry.sampling import CounterRate, Schedule

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, 2**53)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int | None": st.none() | COUNT,
    "float | None": st.none() | NUMBER,
    "str | None": st.none() | TEXT,
    "list[str] | None": st.none() | st.lists(TEXT, max_size=3),
    "list[int] | None": st.none() | st.lists(COUNT, max_size=3),
    "int": COUNT,
    "str": TEXT,
}


def any_of(cls: type) -> st.SearchStrategy[Any]:
    kind = {item.name: str(getattr(item.type, "__name__", item.type)) for item in fields(cls)}
    names = {item.name: str(item.type) if "|" in str(item.type) else kind[item.name] for item in fields(cls)}
    return st.builds(cls, **{name: KINDS[text] for name, text in names.items()})


SAMPLES = st.builds(
    Sample,
    t_ns=COUNT,
    mono_ns=COUNT,
    host=st.none() | any_of(HostSample),
    gpus=st.lists(any_of(GpuSample), max_size=2),
    notes=st.lists(any_of(Note), max_size=2),
)


@given(SAMPLES)
def test_a_line_reads_back_as_its_sample(sample):
    line = sample.to_line()
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert Sample.from_line(line) == sample
    assert Sample.from_line(line[: len(line) // 2]) is None


def test_not_a_number_becomes_null():
    line = Sample(1, 2, gpus=[GpuSample(0, power_w=math.nan, sm_util_percent=math.inf)]).to_line()
    assert b'"power_w":null' in line and Sample.from_line(line).gpus[0].sm_util_percent is None


@settings(max_examples=60)
@given(st.lists(SAMPLES, min_size=1, max_size=5), st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_a_tail_over_any_chopping_gives_exactly_the_lines(tmp_path_factory, samples, cuts, torn):
    path = tmp_path_factory.mktemp("tail") / "telemetry.jsonl"
    data = b"".join(sample.to_line() for sample in samples) + (b'{"t_ns":1,"mono' if torn else b"")
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    tail, found = SampleTail(path), []
    assert tail.poll() == []
    for start, end in pairwise(edges):
        with path.open("ab") as file:
            file.write(data[start:end])
        found += tail.poll()
    assert found == samples == load(path)


def test_a_tail_survives_rubbish_truncation_and_replacement(tmp_path, synthetic):
    path = tmp_path / "telemetry.jsonl"
    one, two, three, *_ = synthetic.synthetic(1, 5, 0)
    path.write_bytes(one.to_line() + b"rubbish\n[1]\n\xff\n" + two.to_line() + two.to_line())
    tail = SampleTail(path)
    assert tail.poll() == [one, two, two]
    path.write_bytes(three.to_line())
    assert tail.poll() == [three]
    path.unlink()
    assert tail.poll() == []
    path.write_bytes(two.to_line())
    assert tail.poll() == [two]


def test_a_tail_can_begin_near_the_end(tmp_path, synthetic):
    path = tmp_path / "telemetry.jsonl"
    synthetic.write(path, 2, 50)
    every = list(synthetic.synthetic(2, 50, 0))
    whole_lines = sum(len(sample.to_line()) for sample in every[-3:])
    assert SampleTail(path, backlog_bytes=whole_lines).poll() == every[-3:]
    assert SampleTail(path, backlog_bytes=whole_lines - 1).poll() == every[-2:]


def test_load_gives_the_last_seconds_without_the_rest(tmp_path, synthetic, monkeypatch):
    path = tmp_path / "telemetry.jsonl"
    synthetic.write(path, 1, 300)
    monkeypatch.setattr("llmval_tui.telemetry.recording._BLOCK", 2048)
    every = load(path)
    assert len(every) == 301
    assert load(path, last_seconds=30) == every[-31:]
    assert load(path, last_seconds=1e6) == every
    assert load(tmp_path / "none", last_seconds=3) == []


@given(st.integers(0, 10**12), st.integers(1, 10**10), st.integers(0, 10**13))
def test_the_schedule_keeps_its_grid_and_makes_up_for_nothing(start, interval, late):
    due = Schedule(start, interval).next_after(start + late)
    assert (due - start) % interval == 0 and 0 < due - (start + late) <= interval


def test_a_counter_rate():
    rate = CounterRate()
    assert rate.update(10, 0) is None
    assert rate.update(30, 2_000_000_000) == 10
    assert rate.update(99, 2_000_000_000) is None  # no time has passed
    assert rate.update(40, 3_000_000_000) == 10  # and the base stayed
    assert rate.update(1, 4_000_000_000) is None


class Clock:
    def __init__(self) -> None:
        self.now = 5_000_000_000_000

    def play(self, path, **options):
        source = ReplaySource(path, monotonic_ns=lambda: self.now, wall_ns=lambda: 10**18 + self.now, **options)
        source.open()
        return source


def test_a_replay_keeps_the_rhythm_on_todays_clock(tmp_path, synthetic):
    path, clock = tmp_path / "telemetry.jsonl", Clock()
    synthetic.write(path, 8, 10)
    every = list(synthetic.synthetic(8, 10, 0))
    source = clock.play(path, speed=4.0)
    played = []
    while (sample := source.next_sample()) is not None:
        played.append(sample)
    assert [sample.mono_ns - clock.now for sample in played] == [number * 250_000_000 for number in range(11)]
    assert all(sample.t_ns - sample.mono_ns == 10**18 for sample in played)
    assert all(gpu.energy_mono_ns == sample.mono_ns for sample in played for gpu in sample.gpus)
    strip = [[replace(gpu, energy_mono_ns=None) for gpu in sample.gpus] for sample in played]
    assert strip == [[replace(gpu, energy_mono_ns=None) for gpu in sample.gpus] for sample in every]
    assert {note.code for sample in played for note in sample.notes} == {"replay"}
    assert source.ended


def test_a_replay_read_at_any_moment_seeks_ends_and_loops(tmp_path, synthetic):
    path, clock = tmp_path / "telemetry.jsonl", Clock()
    synthetic.write(path, 1, 10)
    every = list(synthetic.synthetic(1, 10, 0))

    def shown(source):
        reading = source.read()
        return [sample.host for sample in every].index(reading.host), {note.code for note in reading.notes}

    once, loop = clock.play(path), clock.play(path, loop=True)
    clock.now += 3_500_000_000
    assert shown(once)[0] == shown(loop)[0] == 3
    once.seek(0.8)
    assert shown(once)[0] == 8 and once.next_sample().host == every[8].host
    clock.now += 9_000_000_000  # 12.5 s played of 11 s a turn
    assert shown(loop) == (1, {"replay"})
    assert shown(once) == (10, {"replay", "replay_ended"})
    for _ in range(12):
        last = loop.next_sample()
    assert last.host == every[0].host and not loop.ended


def test_a_replay_of_nothing_says_so(tmp_path):
    (tmp_path / "empty").write_bytes(b"rubbish\n")
    for name in ("empty", "missing"):
        source = Clock().play(tmp_path / name)
        assert [note.code for note in source.read().notes] == ["no_recording"]
        assert source.next_sample() is None and source.ended
        source.seek(0.5)


def test_a_made_up_recording_moves_everywhere_and_repeats(synthetic):
    every = list(synthetic.synthetic(8, 60, 3))
    assert every == list(synthetic.synthetic(8, 60, 3)) and len(every[0].gpus) == 8
    still = {"index", "uuid", "name", "sm_util_source", "memory_total_bytes", "power_limit_w", "memory_clock_mhz"}
    still |= {"processes", "foreign_processes", "xid"}
    for gpu in range(8):
        for item in fields(GpuSample):
            if item.name not in still:
                values = {str(getattr(sample.gpus[gpu], item.name)) for sample in every}
                assert len(values) > 1, item.name


def test_speed_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="speed"):
        ReplaySource(tmp_path, speed=0)
