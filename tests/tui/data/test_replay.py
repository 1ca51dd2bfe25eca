"""A replay shows the recorded run at the moment of its clock: forward, back, and at the end."""

import json
import shutil
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.console.dashboard import recording
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.log_times import times_path
from llmval_tui.runs.records import State
from llmval_tui.runs.store import LogFile, Run, RunStore
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.log_merge import MergedLogFile, MergedLogs, merge_logs
from llmval_tui.tui.data.log_reader import open_log
from llmval_tui.tui.data.replay_source import RecordedRun, Replay, ReplayTelemetry, ReplayWorkspace, open_replay
from llmval_tui.tui.data.replay_timeline import SPEEDS, TimedLines, Timeline
from llmval_tui.tui.data.snapshot import Selection
from llmval_tui.tui.keys import KEYS, PANES
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.tui_builder import (
    CELLS,
    SECOND,
    T0,
    TO_DO,
    Workspace,
    load_events,
    sample,
    sweep_events,
    verdict,
    write_sweep,
)
from tests.helpers.tui_pilot import drained_press, text_of, toasts_of, until


@pytest.fixture
def recorded(workspace: Workspace) -> Path:
    """A run of 300 s that passed, with everything on record."""
    folder = workspace.run("1.2", state=State.FINISHED, verdict=verdict())
    (folder / "events.jsonl").write_bytes(load_events(300))
    (folder / "telemetry.jsonl").write_bytes(b"".join(sample(s, 2).to_line() for s in range(306)))
    (folder / "logs" / "main.rank0.stdout.log").write_text("".join(f"step {i:04}\n" for i in range(1000)))
    (folder / "logs" / "main.rank1.stdout.log").write_text("".join(f"other {i:04}\n" for i in range(500)))
    return folder


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_argument_of_replay(recorded: Path, workspace: Workspace, tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert recording(str(recorded), workspace.root, stack) == recorded
        assert recording("last", workspace.root, stack).name == recorded.name
        assert recording("abcdef", workspace.root, stack).name == recorded.name
        assert recording(str(recorded / "telemetry.jsonl"), workspace.root, stack).is_file()
        (tmp_path / "alone").mkdir()
        shutil.copy(recorded / "telemetry.jsonl", tmp_path / "alone")
        assert recording(str(tmp_path / "alone"), workspace.root, stack) == tmp_path / "alone" / "telemetry.jsonl"
        with pytest.raises(Refused, match="no run is called 'nothing'"):
            recording("nothing", workspace.root, stack)
        content = content_of(RunStore(workspace.root), [Run(recorded)], whole=False)
        archive = write_archive(content, tmp_path / "archive-without-suffix").path
        assert recording(str(archive), workspace.root, stack).name == recorded.name
        (tmp_path / "other").mkdir()
        with pytest.raises(Refused, match=r"has no run\.json"):
            recording(str(tmp_path / "other") + "/", workspace.root, stack)
    (tmp_path / "empty.jsonl").write_text("{}\n")
    with pytest.raises(Refused, match="holds no samples"):
        open_replay(tmp_path / "empty.jsonl")


def test_the_clock_pauses_seeks_and_never_leaves_the_recording() -> None:
    real = Clock()
    line = Timeline(0, 100 * SECOND, real)
    real.now += 5
    assert line.now_ns == 5 * SECOND
    line.change_speed(2)
    assert line.speed == 5
    real.now += 2
    assert line.now_ns == 15 * SECOND
    line.toggle_pause()
    real.now += 1000
    assert line.now_ns == 15 * SECOND and line.paused
    line.seek(-10)
    assert line.now_ns == 5 * SECOND
    line.toggle_pause()
    line.seek_tenths(2)
    assert line.now_ns == 25 * SECOND
    real.now += 1000
    assert line.now_ns == 100 * SECOND and line.ended and line.fraction == 1.0
    line.toggle_pause()  # at the end: again from the start
    assert line.now_ns == 0 and not line.paused
    for _ in SPEEDS:
        line.change_speed(1)
    assert line.speed == 100
    for _ in SPEEDS:
        line.change_speed(-1)
    assert line.speed == 1


@given(times=st.lists(st.integers(0, 50), max_size=30), stops=st.lists(st.integers(-1, 51), min_size=1, max_size=8))
def test_playing_forward_gives_every_line_once(times: list[int], stops: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_text("".join(f'{{"t_ns": {t}, "n": {n}}}\n' for n, t in enumerate(times)) + '{"t_ns": 3')
        lines = TimedLines(path)
        assert len(lines) == len(times)  # the torn line is none
        given_, at = [], -1
        for stop in sorted({*stops, 99}):
            given_ += lines.between(at, stop)
            at = stop
        assert b"".join(given_) == path.read_bytes()[: -len('{"t_ns": 3')]


def test_the_run_is_shown_at_the_moment_of_the_replay(recorded: Path) -> None:
    run = RecordedRun(open_replay(recorded))
    early = run.snapshot_at((T0 + 60) * SECOND)
    assert early.alive and early.verdict is None and early.status.ended_utc is None
    assert early.progress.done == 60 and len(list(early.metrics[0].recent)) == 61
    assert early.status.commands[0].exit_code is None
    late = run.snapshot_at(10**19)
    assert not late.alive and late.verdict is not None and late.progress.done == 300


def test_a_file_that_did_not_travel_with_a_recording_is_not_called_missing(recorded: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / recorded.name
    shutil.copytree(recorded, elsewhere)
    record = json.loads((elsewhere / "verdict.json").read_text())
    record["evidence"] = [{"path": "artifacts/far.json", "sha256": "ab" * 32, "bytes": 2}]
    (elsewhere / "verdict.json").write_text(json.dumps(record))
    replay = open_replay(elsewhere)
    workspace = ReplayWorkspace(LaunchSettings(elsewhere.parent, elsewhere.parent / "list.md"), replay)
    replay.timeline.seek(10_000)
    detail = workspace.snapshot(Selection()).detail
    assert detail is not None
    (line,) = detail.artifacts
    assert (line.path, line.state, line.intact) == ("artifacts/far.json", "not with this recording", None)


def test_the_sweep_fills_in_over_time(workspace: Workspace) -> None:
    folder = workspace.run("2.1", state=State.FINISHED, verdict=verdict())
    write_sweep(workspace.root / "power_results" / "x", CELLS, TO_DO)
    (folder / "events.jsonl").write_bytes(sweep_events())
    run = RecordedRun(open_replay(folder))
    before, after = run.snapshot_at((T0 + 9) * SECOND), run.snapshot_at((T0 + 11) * SECOND)
    assert before.sweep is not None and before.sweep.done == 0  # they ended at second 10
    assert after.sweep is not None and after.sweep.done == 6


@pytest.fixture
def player(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    """The run played somewhere else, without its workspace and without a checklist."""
    monkeypatch.setenv("TZ", "UTC")
    away = tmp_path / "away" / "artifacts" / "runs" / recorded.name
    shutil.copytree(recorded, away)
    return Dashboard(LaunchSettings(tmp_path, tmp_path / "none", interval=0.1, readonly=True, replay=away), live=False)


async def test_keys_control_a_replay(player: Dashboard) -> None:
    app = player
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: app.main.state.detail is not None)
        timeline, header = app.main.state.timeline, app.main.header
        assert timeline is not None
        assert "1.2" in text_of(app.main.steps) and "REPLAY 0:0" in text_of(header)
        await pilot.press("space")
        assert timeline.paused
        start = timeline.now_s
        await pilot.press("right_curly_bracket", "right_curly_bracket", "greater_than_sign", "less_than_sign", ">")
        at = round(timeline.now_s - start)
        assert at == round(2 * 30.7 + 10)
        await pilot.press("4")
        await until(pilot, lambda: f"{T0 and int(timeline.now_s - T0)}/300 s" in text_of(app.main.panes["load"]))
        await until(pilot, lambda: "paused" in text_of(header) and "REPLAY 1:1" in text_of(header))
        samples = app.main.state.live
        await until(pilot, lambda: samples.last and abs(samples.last.t_ns / 1e9 - timeline.now_s) < 1.1)
        await pilot.press("left_curly_bracket", "left_curly_bracket")
        await until(pilot, lambda: app.main.state.run and (app.main.state.run.progress.done or 0) < 15, "the way back")

        def went_back() -> bool:
            last = app.main.state.live.last
            return last is not None and last.t_ns / 1e9 <= timeline.now_s

        await until(pilot, went_back, "older samples")
        await pilot.press("plus", "plus", "plus")
        assert timeline.speed == 10
        await pilot.press("minus", "P")
        assert timeline.speed == 5 and not timeline.paused
        for _ in range(11):
            await pilot.press("right_curly_bracket")
        await until(pilot, lambda: "passed" in text_of(app.main.steps), "the verdict")
        assert "ended" in text_of(header)
        await pilot.press("1", "y")
        await until(pilot, lambda: "clipboard: torchrun --nproc_per_node=8" in toasts_of(app), "the recorded command")


async def test_the_keys_of_a_replay_work_in_every_pane(player: Dashboard) -> None:
    app = player
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: app.main.state.detail is not None)
        main, timeline = app.main, app.main.state.timeline
        assert timeline is not None
        if not timeline.paused:
            await drained_press(pilot, "P")
        keys = [key.keys.split(",")[0] for key in KEYS if key.replay]
        for pane in ("list", *PANES):
            main.focus_list() if pane == "list" else main.show_pane(pane)
            await drained_press(pilot, "right_curly_bracket")  # somewhere in the middle, so that all can move
            for key in ("plus", *keys, "minus"):
                before = timeline.now_s, timeline.paused, timeline.speed
                await drained_press(pilot, key)
                assert (timeline.now_s, timeline.paused, timeline.speed) != before, f"{key} in {pane}"
            timeline.seek(-timeline.end_ns // SECOND)
            if not timeline.paused:
                await drained_press(pilot, "P")


async def test_a_replay_changes_nothing_and_shows_logs_by_fraction(player: Dashboard) -> None:
    app = player
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: app.main.state.detail is not None)
        timeline = app.main.state.timeline
        assert timeline is not None
        for key in KEYS:
            if key.changes:
                await pilot.press(key.keys)
        await until(pilot, lambda: "plays a recording" in toasts_of(app), "the reason")
        assert app.screen is app.main
        await pilot.press("1")  # the keys come back in the place of the message
        await until(pilot, lambda: "pause" in text_of(app.main.key_bar), "the keys")
        assert "complete" not in text_of(app.main.key_bar)
        await pilot.press("P", *["right_curly_bracket"] * 5, "2")
        log = app.main.log_pane
        share = timeline.fraction
        await until(pilot, lambda: "step" in text_of(log), "the log")
        await until(pilot, lambda: f"step {round(10_000 * share) // 10 - 1:04}" in text_of(log), "its share")
        assert "share of time" in text_of(log)
        await pilot.press("m")
        await until(pilot, lambda: "r0 | step" in text_of(log) and "r1 | other" in text_of(log), "all ranks")
        await pilot.press("left_curly_bracket")
        await until(pilot, lambda: "step 0300" not in text_of(log) and "truncated" not in text_of(log))


def test_a_replayed_log_is_shown_as_it_was_at_the_moment(tmp_path: Path) -> None:
    """Two logs whose last lines came at the end: the share of the time would show half of each before."""
    paths = [tmp_path / f"r{rank}.log" for rank in range(2)]
    for rank, path in enumerate(paths):
        path.write_text(f"first {rank}\nlast {rank}\n")
        notes = [(10 + rank, path.read_text().index("last")), (95 + rank, path.stat().st_size)]
        times_path(path).write_bytes(b"".join(struct.pack("<qq", at * SECOND, size) for at, size in notes))
    timeline = Timeline(0, 100 * SECOND)
    (tmp_path / "none").touch()
    replay = Replay(timeline, samples=TimedLines(tmp_path / "none"))
    merged = merge_logs([LogFile("main", rank, "stdout", path) for rank, path in enumerate(paths)])

    def shown(at_s: float, source: Path | MergedLogs) -> list[str]:
        timeline.seek(at_s - timeline.now_ns / SECOND)
        file = open_log(source, replay.log_limit)
        file.poll()
        try:
            return [line.text.split("| ")[-1] for line in file.backward(file.size, 9).lines]
        finally:
            file.close()

    timeline.toggle_pause()
    assert shown(9, paths[0]) == [] and shown(9, merged) == []
    assert shown(50, paths[0]) == ["first 0"] and shown(50, merged) == ["first 0", "first 1"]
    assert shown(95.5, paths[0]) == ["first 0", "last 0"] and shown(95.5, merged) == ["first 0", "first 1", "last 0"]
    assert shown(100, merged) == ["first 0", "first 1", "last 0", "last 1"]


def test_merged_logs_are_interleaved_and_then_in_order_of_arrival(tmp_path: Path) -> None:
    paths = [tmp_path / f"r{rank}.log" for rank in range(2)]
    paths[0].write_text("a1\na2\na3\na4\n")
    paths[1].write_text("b1\nb2\ntorn")
    file = MergedLogFile(merge_logs([LogFile("main", 0, "stdout", paths[0]), LogFile("main", 1, "stderr", paths[1])]))
    file.poll()
    lines = lambda: [line.text for line in file.forward(0, 99).lines]  # noqa: E731
    assert lines() == ["r0     | a1", "r1 err | b1", "r0     | a2", "r0     | a3", "r1 err | b2", "r0     | a4"]
    with paths[1].open("a") as out:
        out.write(" no more\n")
    file.poll()
    assert lines()[-1] == "r1 err | torn no more"
    spool = file.path
    file.close()
    assert not spool.exists()


def test_going_back_restarts_the_charts(recorded: Path) -> None:
    replay = open_replay(recorded)
    replay.timeline.toggle_pause()
    replay.timeline.seek(100)
    posted: list[Any] = []
    thread = ReplayTelemetry(replay, posted.append, 60.0)
    thread.start()
    wait(lambda: posted)
    assert len(posted[0].samples) == 101 and not posted[0].restart
    replay.timeline.seek(-60)
    thread.refresh_now()
    wait(lambda: len(posted) == 2)
    assert len(posted[1].samples) == 41 and posted[1].restart
    thread.stop()
    thread.join(5)
    assert not thread.is_alive()


def wait(true: Callable[[], object]) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")
