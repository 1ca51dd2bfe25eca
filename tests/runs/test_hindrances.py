"""A run that stands still says why: a stopped process, a full, read-only or hanging disk."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmval_tui.foundation.process import Identity
from llmval_tui.runs import client, hindrances
from llmval_tui.runs.hindrances import HindranceWatch, disk_problem, stopped_processes
from llmval_tui.runs.store import Run
from tests.helpers.processes import supervisor_of, until


def test_stopped_ranks_are_named_by_whoever_looks_and_in_the_record(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    rank = "RANK={n} bash -c 'echo $$ > pid{n}; while true; do sleep 0.1; done' &"
    run = make_run(f"{rank.format(n=0)} {rank.format(n=1)} wait")
    client.start(run)
    until(lambda: all((tmp_path / f"pid{n}").exists() and (tmp_path / f"pid{n}").read_text().strip() for n in (0, 1)))
    pids = [int((tmp_path / f"pid{n}").read_text()) for n in (0, 1)]
    assert stopped_processes(run) == []
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: len(stopped_processes(run)) == 2)
    assert [one.short for one in stopped_processes(run)] == ["rank 0 stopped", "rank 1 stopped"]
    assert f"kill -CONT {pids[1]}" in stopped_processes(run)[1].sentence
    until(lambda: sum("is stopped" in note for note in run.status().notes) == 2)
    os.kill(pids[0], signal.SIGCONT)
    until(lambda: [one.short for one in stopped_processes(run)] == ["rank 1 stopped"])


def test_a_stopped_supervisor_is_named(make_run: Callable[..., Run]) -> None:
    run = make_run("sleep 300")
    client.start(run)
    supervisor_of(run).send(signal.SIGSTOP)
    until(lambda: [one.short for one in stopped_processes(run)] == ["supervisor stopped"])
    supervisor_of(run).send(signal.SIGCONT)


@pytest.mark.parametrize(
    ("disk", "short"),
    [
        ({}, None),
        ({"f_bavail": 0}, "disk full"),
        ({"f_favail": 0}, "disk full"),
        ({"f_files": 0, "f_favail": 0}, None),  # btrfs counts no inodes
        ({"f_flag": os.ST_RDONLY}, "disk read-only"),
    ],
)
def test_a_disk_that_takes_nothing(disk: dict[str, int], short: str | None, monkeypatch, tmp_path: Path) -> None:
    whole = {"f_bavail": 10**6, "f_frsize": 4096, "f_files": 10**6, "f_favail": 10**6, "f_flag": 0}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**whole | disk))
    found = disk_problem(tmp_path)
    assert (found.short if found else None) == short
    assert found is None or str(tmp_path) in found.sentence


def test_a_disk_that_does_not_answer_is_named_after_a_while(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., Run]
) -> None:
    run, now = make_run("true"), 100.0
    me = Identity.of(os.getpid())
    assert me is not None
    monkeypatch.setattr(hindrances, "_supervisor", lambda run: me)
    monkeypatch.setattr(hindrances, "state_of", lambda pid: "D" if pid == me.pid else "S")
    monkeypatch.setattr(hindrances, "time", SimpleNamespace(monotonic=lambda: now))
    watch = HindranceWatch(run.workspace)
    assert watch.look([run]) == ()
    now += 1
    assert watch.look([run]) == ()  # the answer of before
    now += hindrances.DISK_WAIT_S
    assert [one.short for one in watch.look([run])] == ["disk hangs"]
    now += hindrances.LOOK_S
    monkeypatch.setattr(hindrances, "state_of", lambda pid: "S")
    assert watch.look([run]) == ()
