"""When the watchdog gives up on a launch: never while its agent only is slow."""

import os
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch.processes import descendants, read_process
from llmval_runners.compile_study.watch.watchdog import JOIN_S, Watchdog
from llmval_runners.process.files import write_json


@pytest.fixture
def watchdog(tmp_path: Path) -> Watchdog:
    layout = Layout(tmp_path)
    layout.make()
    options = {"timeout": 900.0, "stall_after": 30.0, "stacks": "faulthandler", "after_stall": "end"}
    write_json(layout.run, {"options": options, "ranks": 2, "started_mono_s": 100.0})
    return Watchdog(layout)


def test_an_agent_that_lives_is_waited_for_and_one_that_is_gone_is_not(watchdog: Watchdog) -> None:
    own = read_process(os.getpid())
    assert own is not None
    agent = watchdog.layout.watch / "agent.json"
    late, early = 100.0 + JOIN_S + 1, 100.0 + JOIN_S - 1
    write_json(agent, {"pid": own.pid, "start": own.start})
    assert not watchdog._launch_failed(late), "torch on a cold disk takes a minute"
    write_json(agent, {"pid": own.pid, "start": own.start + 1})
    assert watchdog._launch_failed(late) and not watchdog._launch_failed(early)
    write_json(watchdog.layout.exit_codes, {"ranks": {}})
    assert watchdog._launch_failed(early)


def test_the_tree_is_the_same_from_one_pass_over_all_processes() -> None:
    children = {1: [], 5: [process_like(6, 5)], 6: [process_like(7, 6)]}
    assert [process.pid for process in descendants(5, children)] == [6, 7]
    assert descendants(9, children) == []


def process_like(pid: int, parent: int):
    own = read_process(os.getpid())
    assert own is not None
    return type(own)(pid, parent, own.start, own.state, own.cpu_s, own.threads, own.command)
