"""What a server publishes of itself reaches the Load pane of the run that uses it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.runs.records import State
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import EngineSample, Note, Sample
from llmval_tui.terminal.glyphs import UNICODE
from llmval_tui.tui.data.run_follower import RunFollower
from llmval_tui.tui.panes.load import load_rows
from tests.helpers.tui_builder import Workspace


def run_against(workspace: Workspace, url: str | None) -> Path:
    folder = workspace.run("1.2", state=State.RUNNING)
    intent = orjson.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_bytes(orjson.dumps({**intent, "params": {**intent["params"], "engine_url": url}}))
    return folder


def answer(second: int, **values: Any) -> Sample:
    moment = second * 10**9
    return Sample(moment, moment, engine=EngineSample("http://h:1", moment, "vLLM", **values))


def write(folder: Path, *samples: Sample) -> None:
    with (folder / "telemetry.jsonl").open("ab") as file:
        file.writelines(sample.to_line() for sample in samples)


def shown(follower: RunFollower, width: int = 110) -> str:
    return "\n".join(row.plain for row in load_rows(follower.snapshot(), width, 40, UNICODE))


def test_the_engines_figures_are_charted_and_counted_from_the_start_of_the_run(workspace: Workspace) -> None:
    folder = run_against(workspace, "http://h:1")
    follower = RunFollower(Run(folder))
    state = follower.snapshot().engine
    assert state is not None and state.last is None and "no answer" in state.problem
    counts = {"preemptions": 7.0, "prefix_cache_queries": 1000.0, "prefix_cache_hits": 100.0}
    write(folder, answer(1, running=2.0, waiting=0.0, kv_cache_used_percent=10.0, **counts))
    counts = {"preemptions": 9.0, "prefix_cache_queries": 1400.0, "prefix_cache_hits": 200.0}
    later = answer(2, running=8.0, waiting=3.0, kv_cache_used_percent=41.0, **counts)
    write(folder, later, later)  # the same answer twice counts once
    snapshot = follower.snapshot()
    series = {metric.name: metric for metric in snapshot.metrics}
    assert series["engine_running"].last == series["engine_running"].peak == 8.0
    assert series["engine_waiting"].last == 3.0
    text = shown(follower)
    assert "vLLM: running 8, waiting 3, KV cache 41 %, preemptions 2, prefix hits 25 %" in text
    assert "Server: running requests" in text and "Server: KV cache %" in text


def test_what_the_server_does_not_publish_is_not_available(workspace: Workspace) -> None:
    folder = run_against(workspace, "http://h:1")
    write(folder, answer(1, running=2.0), answer(2, running=2.0))
    assert "waiting n/a, KV cache n/a, preemptions n/a, prefix hits n/a" in shown(RunFollower(Run(folder)))


def test_why_there_are_no_figures_is_said(workspace: Workspace) -> None:
    folder = run_against(workspace, "http://h:1")
    write(folder, answer(1, running=2.0), Sample(2, 2, notes=[Note("engine", "no_answer", "http://h:1 is gone.")]))
    assert "server: http://h:1 is gone." in shown(RunFollower(Run(folder)))


def test_a_run_without_a_server_has_no_engine(workspace: Workspace) -> None:
    folder = run_against(workspace, None)
    write(folder, answer(1, running=2.0))
    snapshot = RunFollower(Run(folder)).snapshot()
    assert snapshot.engine is None and not snapshot.metrics


def test_the_queue_of_a_server_does_not_stand_beside_the_verdict(workspace: Workspace) -> None:
    folder = run_against(workspace, "http://h:1")
    counts = {"preemptions": 2.0, "prefix_cache_queries": 0.0, "prefix_cache_hits": 0.0}
    write(folder, answer(1, running=8.0, waiting=3.0, kv_cache_used_percent=41.0, **counts))
    follower = RunFollower(Run(folder))
    assert "vLLM: running 8, waiting 3, KV cache 41 %, preemptions 0" in shown(follower)
    ended = replace(follower.snapshot(), state=State.FINISHED)
    text = "\n".join(row.plain for row in load_rows(ended, 110, 40, UNICODE))
    assert "vLLM, while the run lasted: preemptions 0, prefix hits n/a" in text
    assert "waiting 3" not in text and "KV cache 41" not in text and "last 3" in text
