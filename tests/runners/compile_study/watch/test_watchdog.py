"""The watchdog's limits: it gives up on a launch only if the agent is gone."""

import os
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.selftest.trials import ANSWER_S
from llmval_runners.compile_study.watch import evidence, stacks
from llmval_runners.compile_study.watch.processes import descendants, read_process
from llmval_runners.compile_study.watch.watchdog import FIRST_HEARTBEAT_S, Watchdog
from llmval_runners.process.files import write_json


@pytest.fixture
def watchdog(tmp_path: Path) -> Watchdog:
    layout = Layout(tmp_path)
    layout.make()
    options = {"timeout": 900.0, "stall_after": 30.0, "stacks": "faulthandler", "after_stall": "end"}
    write_json(layout.run, {"options": options, "ranks": 2, "started_mono_s": 100.0})
    return Watchdog(layout)


def test_the_watchdog_waits_for_a_living_agent_only(watchdog: Watchdog) -> None:
    own = read_process(os.getpid())
    assert own is not None
    agent = watchdog.layout.agent
    late, early = 100.0 + FIRST_HEARTBEAT_S + 1, 100.0 + FIRST_HEARTBEAT_S - 1
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


def test_the_evidence_waits_less_than_the_verdict_may_take() -> None:
    """The longest waits together; `test_hangs.py` measures no seconds, since those depend on the machine."""
    sampling = (evidence.SAMPLES - 1) * evidence.SAMPLE_S
    assert sampling + stacks.PYTHON_S + stacks.FAULTHANDLER_S + evidence.DUMP_WAIT_S < ANSWER_S


def process_like(pid: int, parent: int):
    own = read_process(os.getpid())
    assert own is not None
    return type(own)(pid, parent, own.start, own.state, own.cpu_s, own.threads, own.command)
