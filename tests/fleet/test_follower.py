"""All nodes of a run at one moment, from their folders and from fleet.json."""

import os
from dataclasses import replace

import orjson
import pytest

from benchmarks.fleet_workspace import make_fleet, make_refused_fleet
from llmval_tui.fleet.follower import MOST_NODES_A_LOOK, FleetFollower
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.fleet.overview import (
    SILENT_S,
    NodeView,
    Overview,
    metrics_of,
    newest_fleet_run,
    progress_text,
    watched,
    worst,
)
from llmval_tui.foundation.files import to_json
from llmval_tui.runs.records import JobStatus, Status
from llmval_tui.telemetry.dcgm.exporters import NodeTelemetry
from llmval_tui.telemetry.dcgm.exposition import NodeReading
from llmval_tui.telemetry.sample import GpuSample


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def states(overview):
    return {node.name: node.state for node in overview.nodes}


def test_a_judged_fleet_is_shown_as_fleet_json_has_it(tmp_path):
    run = make_fleet(tmp_path, 16, slow=[2], failed=[4], silent=[6], fewer=[7])
    found = FleetFollower(run).look()
    assert found.compared and found.outcome == "fail" and found.how == "each"
    special = {name: state for name, state in states(found).items() if state is not NodeState.PASSED}
    assert special == {"n03": NodeState.SLOW, "n05": NodeState.FAILED, "n07": NodeState.LOST}
    assert (
        found.deviation("completed_qps", found.node("n03"))
        < -0.04
        < 0.04
        < found.worse("completed_qps", found.node("n03"))
    )
    assert "completed_qps" in found.node("n03").reason
    assert [node.name for node in found.silent] == ["n07"]
    assert worst(found, "completed_qps")[0].name == "n08" and "7 of 8 GPUs" in found.node("n08").reason
    assert len(found.node("n08").gpus) == 7 and metrics_of(found)


def test_a_running_fleet_is_read_from_the_folders_of_its_nodes(tmp_path, clock):
    run = make_fleet(tmp_path, 8, slow=[], failed=[], silent=[], fewer=[], running=[3, 4], judged=False)
    follower = FleetFollower(run, clock=clock)
    found = follower.look()
    assert not found.compared and found.job == "RUNNING"
    assert states(found)["n4"] is NodeState.RUNNING and found.node("n4").fraction == pytest.approx(0.9)
    assert found.node("n4").phase == "measure" and states(found)["n1"] is NodeState.PASSED
    assert found.statistics["completed_qps"].groups[found.node("n1").group].n == 6


def test_a_node_that_stops_writing_is_silent_and_its_age_counts_here(tmp_path, clock):
    run = make_fleet(tmp_path, 8, slow=[], failed=[], silent=[], fewer=[], running=[3, 4], judged=False)
    events = [run.folder / "nodes" / name / "events.jsonl" for name in ("n4", "n5")]
    follower = FleetFollower(run, clock=clock)
    follower.look()
    clock.now += SILENT_S + 5
    with events[1].open("ab") as file:  # n5 goes on; what its own clock says does not matter
        file.write(to_json({"v": 1, "t_ns": 1, "mono_ns": 1, "rank": 0, "kind": "heartbeat", "data": {"phase": "x"}}))
    os.utime(events[1], (1, 1))
    found = follower.look()
    assert states(found)["n4"] is NodeState.NO_ANSWER and found.node("n4").age_s >= SILENT_S + 5
    assert "phase measure" in found.node("n4").reason
    assert states(found)["n5"] is NodeState.RUNNING and found.node("n5").age_s == 0


def test_what_the_launcher_says_of_a_node_counts(tmp_path):
    run = make_fleet(tmp_path, 8, slow=[], failed=[], silent=[], fewer=[], running=[3, 4], judged=False)
    status = Status(state=run.status().state, job=JobStatus("1", state="RUNNING", lost={"n4": "slurmd is down"}))
    (run.folder / "status.json").write_bytes(to_json(status))
    found = FleetFollower(run).look()
    assert found.node("n4").state is NodeState.LOST and found.node("n4").reason == "slurmd is down"


def test_a_node_of_a_cancelled_launch_is_not_blamed_while_it_is_judged(tmp_path):
    run = make_fleet(tmp_path, 8, slow=[], failed=[3], silent=[], fewer=[], running=[4], judged=False)
    job = JobStatus("1", state="RUNNING", nodes=[f"n{number}" for number in range(1, 9)])
    for how, state in (("each", NodeState.FAILED), ("collective", NodeState.INCONCLUSIVE)):
        intent = orjson.loads((run.folder / "run.json").read_bytes())
        (run.folder / "run.json").write_bytes(orjson.dumps({**intent, "how": how}))
        (run.folder / "status.json").write_bytes(to_json(Status(state=run.status().state, job=job, cancelled="me")))
        found = FleetFollower(type(run)(run.folder)).look()
        assert found.node("n4").state is state
    assert found.node("n4").reason.startswith("the launch was cancelled by me; ")


def test_a_pending_job_has_queued_nodes_and_says_so(tmp_path):
    run = make_fleet(tmp_path, 8, judged=False, running=[0])
    import shutil

    shutil.rmtree(run.folder / "nodes")
    status = replace(run.status(), job=JobStatus("7", state="PENDING", reason="Resources"))
    (run.folder / "status.json").write_bytes(to_json(status))
    found = FleetFollower(run).look()
    assert set(states(found).values()) == {NodeState.QUEUED} and found.job == "PENDING (Resources)"
    (run.folder / "status.json").write_bytes(to_json(replace(run.status(), job=JobStatus("7", state="RUNNING"))))
    far = FleetFollower(run).look()  # without a shared file system, nothing of the nodes is here yet
    assert set(states(far).values()) == {NodeState.RUNNING} and all(node.age_s is None for node in far.nodes)


@pytest.mark.parametrize("judged", [False, True])
def test_nodes_of_a_run_that_was_refused_before_its_start_are_not_started(tmp_path, judged):
    run = make_refused_fleet(tmp_path, 4, "n1 and n2 are one machine: name each machine once.", judged=judged)
    found = FleetFollower(run).look()
    assert set(states(found).values()) == {NodeState.NOT_STARTED} and not found.silent
    assert found.refused.startswith("n1 and n2") and not any(node.reason for node in found.nodes)


def test_a_damaged_record_of_one_node_hides_no_other(tmp_path):
    run = make_fleet(tmp_path, 8, slow=[], failed=[], silent=[], fewer=[], judged=False)
    (run.folder / "nodes" / "n2" / "verdict.json").write_text('{"v": 1')
    found = FleetFollower(run).look()
    assert found.node("n2").state is NodeState.INCONCLUSIVE and "damaged" in found.node("n2").reason
    assert states(found)["n3"] is NodeState.PASSED


def test_a_look_at_a_large_fleet_reads_a_part_of_it(tmp_path, clock, monkeypatch):
    count = MOST_NODES_A_LOOK + 40
    run = make_fleet(tmp_path, count, slow=[], failed=[], silent=[], fewer=[], running=range(count), judged=False)
    follower = FleetFollower(run, clock=clock)
    assert len(follower.look().nodes) == count
    read = []
    for one in follower._nodes.values():
        monkeypatch.setattr(one, "read", lambda *_, name=one.name: read.append(name))
    follower.look()
    assert len(read) == MOST_NODES_A_LOOK
    follower.look()
    assert set(read) == {node.name for node in follower.look().nodes}


def test_exporters_stand_in_for_recordings(tmp_path):
    gpu = GpuSample(0, power_w=123.0, temperature_c=40.0)
    answers = {
        "a": NodeTelemetry(NodeReading([gpu], []), 990.0),
        "b": NodeTelemetry(NodeReading([gpu], []), 900.0, "its exporter does not answer (timed out)"),
        "c": NodeTelemetry(problem="its exporter answers 404"),
    }
    found = watched(answers, 1000.0)
    assert list(states(found).values()) == [NodeState.ANSWERS, NodeState.NO_ANSWER, NodeState.NO_ANSWER]
    assert [node.age_s for node in found.nodes] == [10.0, 100.0, None]
    assert "404" in found.node("c").reason and found.node("a").hottest_c == 40.0


def test_the_newest_run_on_several_nodes_is_found(tmp_path):
    run = make_fleet(tmp_path, 8)
    assert newest_fleet_run([run]) is run and newest_fleet_run([]) is None
    intent = orjson.loads((run.folder / "run.json").read_bytes())
    intent["params"]["fleet"]["repeats"] = "another-run"
    (run.folder / "run.json").write_bytes(orjson.dumps(intent))
    assert newest_fleet_run([type(run)(run.folder)]) is None, "it only measures suspects of another run again"
    intent |= {"launcher": None}
    (run.folder / "run.json").write_bytes(orjson.dumps(intent))
    assert newest_fleet_run([type(run)(run.folder)]) is None


def test_one_line_says_how_far_the_nodes_are():
    def node(name, state, phase=None, fraction=None):
        return NodeView(name, state, fraction=fraction, phase=phase, age_s=1.0)

    running = [node(f"n{at}", NodeState.RUNNING, "measure", at / 10) for at in (4, 3, 5)]
    lost = [node(f"n{at}", NodeState.NO_ANSWER) for at in (6, 7, 8, 9)]
    assert progress_text(Overview((*running, *lost))) == (
        "4 no answer (n6, n7, n8 …), 3 running; furthest behind: n3, measure, 30 %"
    )
    early = node("n1", NodeState.RUNNING, "setup")
    assert progress_text(Overview((*running, early))) == "4 running; furthest behind: n1, setup"
    waiting = NodeView("n1", NodeState.QUEUED)
    assert (
        progress_text(Overview((waiting,), job="PENDING (Resources)"))
        == "1 node waits for its job: PENDING (Resources)"
    )
    assert progress_text(Overview((), job="PENDING (Resources)")) == "PENDING (Resources)"
    assert progress_text(Overview((waiting,), launcher="slurm", job="SUBMITTING")) == "submitting the job"
    assert progress_text(Overview((waiting,), launcher="ssh")) == "asking the nodes"
    assert progress_text(Overview((waiting,), launcher="ssh", job="STARTING")) == "starting the agents"
    begun = NodeView("n1", NodeState.RUNNING)
    assert progress_text(Overview((begun,), launcher="ssh", job="RUNNING")) == "1 running", "it has no job to wait for"
    assert progress_text(Overview((waiting,), job="REFUSED", refused="n1: no")) == "refused: nothing was started"
    assert (
        progress_text(Overview((node("n1", NodeState.PASSED), node("n2", NodeState.JUDGING)))) == "1 judging, 1 passed"
    )
