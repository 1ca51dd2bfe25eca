"""An item on two nodes, from the command line to the tick, with real agents and supervisors and a Slurm of scripts."""

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios

import pytest

from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import Run
from tests.helpers.processes import until

ITEM, WITH_FILE = "Run `bash item.sh`", "Run `bash item.sh > artifacts/name.txt`"
NAME = "echo on $SLURMD_NODENAME"
ARGUMENTS = ("--nodes", "n[1-2]", "--same-machine")


def confirmed(cluster):
    """The code that answers the question of a first use."""
    said = cluster.llmval("run", "1.1", "--dry-run", "--json", *ARGUMENTS, check=2)
    return "--confirm", json.loads(said)["steps"][0]["open_question"]["code"]


def verdict_of(run):
    found = run.verdict()
    assert found is not None
    return found


def test_each_node_has_its_own_evidence_and_the_item_one_tick(cluster):
    cluster.write(WITH_FILE, NAME)
    cluster.llmval("run", "1.1", *ARGUMENTS, *confirmed(cluster), check=0)
    run = cluster.run()
    assert verdict_of(run).outcome is Outcome.PASS
    for name in ("n1", "n2"):
        part = Run(run.folder / "nodes" / name)
        assert verdict_of(part).outcome is Outcome.PASS
        assert (part.folder / "results/artifacts/name.txt").read_text() == f"on {name}\n"
        assert json.loads((part.folder / "left.json").read_text())["done"] == [], "the last look found nothing"
    assert not (cluster.folder / "artifacts/name.txt").exists(), "no node writes where the other would"
    assert (cluster.folder / "list.md").read_text().count("[x]") == 1
    assert len(cluster.store.ticks.lines()) == 1
    assert cluster.llmval("verify", check=0)


def test_a_cancel_reaches_every_node_and_keeps_what_was_recorded(cluster):
    cluster.write(ITEM, "echo begun; touch $LLMVAL_RUN_FOLDER/begun; sleep 1000")
    cluster.llmval("run", "1.1", "--detach", *ARGUMENTS, *confirmed(cluster), check=0)
    until(lambda: cluster.store.runs() and len(list(cluster.run().folder.glob("nodes/*/begun"))) == 2)
    cluster.llmval("cancel", check=0)
    until(lambda: cluster.run().verdict())
    run = cluster.run()
    assert verdict_of(run).summary == "cancelled (llmval cancel)"
    assert not (cluster.folder.parent / "scancel").exists(), "the agents ended their parts by themselves"
    for name in ("n1", "n2"):
        assert (run.folder / f"nodes/{name}/logs/main.stdout.log").read_text() == "begun\n"


def kill_a_dashboard(cluster):
    """Open the dashboard on a terminal, and kill it when it shows the list."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 35, 120, 0, 0))
    argv = [sys.executable, "-m", "llmval_tui", "--workspace", str(cluster.folder), "--checklist", "list.md"]
    environment = cluster.environment | {"TERM": "xterm-256color"}
    dashboard = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, cwd="/", env=environment)
    os.close(terminal)
    shown = b""
    while b"item.sh" not in shown:
        shown += os.read(screen, 65536)
    dashboard.kill()
    dashboard.wait()
    os.close(screen)


def test_the_dashboard_the_head_and_the_plan_may_die(cluster):
    cluster.write(ITEM, "touch $LLMVAL_RUN_FOLDER/begun; while [ ! -e go ]; do sleep 0.1; done; echo done")
    cluster.llmval("run", "1.1", "--detach", *ARGUMENTS, *confirmed(cluster), check=0)
    until(lambda: cluster.store.runs() and len(list(cluster.run().folder.glob("nodes/*/begun"))) == 2)
    kill_a_dashboard(cluster)
    run = cluster.run()
    assert run.supervised(), "its end is nobody else's"
    head = run.status().supervisor
    plan = json.loads(next(cluster.folder.glob("artifacts/plans/*/status.json")).read_text())["identity"]["pid"]
    assert head is not None
    os.kill(plan, signal.SIGKILL)
    os.kill(head.pid, signal.SIGKILL)
    until(lambda: not run.supervised())
    assert run.alive(), "its nodes go on"
    (cluster.folder / "go").touch()
    while run.verdict() is None:
        cluster.llmval("status", check=0)  # who looks next starts another head, and judges
    assert verdict_of(run).outcome is Outcome.PASS


def test_over_ssh_a_name_that_does_not_resolve_is_refused_and_nothing_is_started(cluster):
    cluster.write(WITH_FILE, NAME)
    arguments = ("--nodes", "n1,n9", "--launcher", "ssh", "--same-machine")
    said = cluster.llmval("run", "1.1", *arguments, *confirmed(cluster), check=2)
    assert "n9 does not resolve" in said
    assert not list(cluster.run().folder.glob("nodes/*/run.json"))


@pytest.mark.skipif(shutil.which("setsid") is None, reason="util-linux's setsid is not installed here")
def test_over_ssh_the_agents_are_detached(cluster):
    cluster.write(WITH_FILE, "echo here")
    arguments = ("--nodes", "n[1-2]", "--launcher", "ssh", "--same-machine")
    cluster.llmval("run", "1.1", *arguments, *confirmed(cluster), check=0)
    assert verdict_of(cluster.run()).outcome is Outcome.PASS
    assert cluster.run().status().job.state == "COMPLETED"


def test_a_job_that_waits_is_shown_as_waiting(cluster):
    cluster.write(ITEM, "true")
    for name, text in (
        ("sbatch", "echo PENDING > $CLUSTER/state; echo 7"),
        ("scontrol", 'echo "JobId=7 JobState=$(cat $CLUSTER/state) Reason=Resources Restarts=0 NodeList=(null)"'),
        ("scancel", "echo CANCELLED > $CLUSTER/state"),
    ):
        (cluster.folder.parent / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
    cluster.llmval("run", "1.1", "--detach", *ARGUMENTS, *confirmed(cluster), check=0)
    until(lambda: "job 7 PENDING (Resources)" in cluster.llmval("status", check=0))
    assert "PENDING (Resources)" in cluster.llmval("status", "--nodes", check=0)
    cluster.llmval("cancel", check=0)
    until(lambda: cluster.run().verdict())
    assert "PENDING" not in cluster.llmval("status", check=0)
