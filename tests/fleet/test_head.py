"""The head of a run, in virtual time, with a transport that only says what the test wants."""

import json

import pytest

from llmval_tui.fleet import head as heads
from llmval_tui.fleet import transport as transports
from llmval_tui.fleet.head import MOST_CRASHES, PEERS_S, Head, deliver
from llmval_tui.fleet.launch import LaunchKind, launch_of
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.records import JobStatus, State, Status


class Story:
    """A transport, and the clock: at each sleep, what the test planned for that second happens."""

    def __init__(self, run, events, beats):
        self.run, self.events, self.beats = run, dict(events), beats
        self.now, self.steps, self.started, self.job_over = 0.0, [], 0, False

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 1000, "it never ends"
        for at in [at for at in self.events if at <= self.now]:
            self.events.pop(at)(self)

    def start(self, job):
        self.started += 1
        job.id, job.state, job.nodes = "7", "RUNNING", list(self.run.intent.nodes)

    def look(self, job, pulses, now_s):
        for name, pulse in pulses.items():
            if name in self.beats:
                pulse.hear([{"t_ns": 0}], now_s)

    def over(self, job):
        return self.job_over

    def cancel(self, job, waited_s, *, taken):
        if not self.steps:
            self.steps.append(self.now)
            self.job_over = True
        return "scancel"

    def finish(self, job, pulses, *, forced):
        return []


def over(story):
    story.job_over = True


def carry_out(run, events, beats=("n1", "n2")):
    story = Story(run, events, set(beats))
    head = Head(run, story, clock=story.clock, sleep=story.sleep)
    story.head = head
    head.supervise()
    return story, json.loads((run.folder / "status.json").read_text())


def test_a_node_that_falls_silent_is_named_within_30_s_and_the_others_go_on(make_fleet_run):
    named = {}

    def look(story):
        named.update(story.head.status.job.lost)

    events = {10: lambda story: story.beats.discard("n2"), 40: look, 100: over}
    _, status = carry_out(make_fleet_run(), events)
    assert "nothing has come from it" in named["n2"] and "n1" not in named
    assert status["state"] == "finished" and status["cancelled"] is None


def test_of_a_launch_over_all_nodes_the_others_are_ended_if_they_do_not_end(make_fleet_run):
    run = make_fleet_run(how=LaunchKind.COLLECTIVE)
    story, status = carry_out(run, {10: lambda story: story.beats.discard("n2")})
    assert status["cancelled"] == "the end of n2"
    assert PEERS_S < story.steps[0] < PEERS_S + 40
    assert json.loads(run.cancel_file.read_text())["by"] == "the end of n2", "every agent reads this"


def test_a_cancel_is_passed_on_once(make_fleet_run):
    run = make_fleet_run()
    story, status = carry_out(run, {5: lambda story: write_json(run.cancel_file, {"by": "me"})})
    assert (status["cancelled"], status["state"], len(story.steps)) == ("me", "finished", 1)


def test_a_head_that_died_is_followed_by_one_that_submits_nothing(make_fleet_run):
    run = make_fleet_run()
    write_json(
        run.folder / "status.json", Status(state=State.RUNNING, job=JobStatus("7", "7.1", ["n1", "n2"], 0, "RUNNING"))
    )
    assert run.alive() and run.state() is State.RUNNING, "no process is here, and the nodes may go on"
    story, status = carry_out(run, {5: over})
    assert story.started == 0 and status["job"]["id"] == "7"


def test_a_head_that_stops_on_an_internal_error_is_not_started_again_for_ever(make_fleet_run, monkeypatch):
    run = make_fleet_run()

    def look(*_):
        raise KeyError("x")

    monkeypatch.setattr(Story, "look", look)
    for _ in range(MOST_CRASHES - 1):
        with pytest.raises(KeyError):
            carry_out(run, {})
        assert run.alive(), "its nodes go on: whoever looks starts another head"
    story, status = carry_out(run, {})
    assert status["state"] == "finished" and story.steps, "the nodes are cancelled"
    assert status["cancelled"].startswith("its head, after 3 internal errors, at last KeyError: 'x'; see /")
    assert "supervisor.log" in status["cancelled"] and run.cancelled_by() == status["cancelled"]
    assert sum("internal error (KeyError: 'x')" in line for line in status["notes"]) == MOST_CRASHES


def test_the_end_of_a_run_waits_for_a_full_disk(make_fleet_run, monkeypatch):
    run = make_fleet_run()
    last = run.folder / "status.json"
    full = [True]

    def write(path, value):
        if path == last and full[0]:
            raise Refused(f"{path} cannot be written (No space left on device).")
        write_json(path, value)

    monkeypatch.setattr(heads, "write_json", write)
    story, status = carry_out(run, {100: over, 200: lambda story: full.clear() or full.append(False)})
    assert status["state"] == "finished" and story.now >= 200


def test_a_node_that_reports_after_a_silence_is_not_lost(make_fleet_run):
    """A file system that hung for half a minute is not a lost node."""
    run = make_fleet_run()

    def report(story):
        story.head.pulses["n2"].hear([{"ended": True, "outcome": "fail"}], story.now)

    _, status = carry_out(run, {10: lambda story: story.beats.discard("n2"), 40: report, 50: over})
    assert status["job"]["lost"] == {} and any("n2 answers again" in line for line in status["notes"])


def test_why_an_agent_ended_without_an_outcome_is_said(make_fleet_run):
    def end(story):
        reason = "nodes/n2/run.json cannot be written (No space left on device)."
        story.head.pulses["n2"].hear([{"ended": True, "outcome": None, "reason": reason}], story.now)

    _, status = carry_out(make_fleet_run(), {5: end, 9: over})
    assert status["job"]["lost"]["n2"].startswith("its agent ended early: nodes/n2/run.json cannot be written")


def test_a_node_that_failed_before_a_cancel_is_recorded(make_fleet_run):
    run = make_fleet_run(how=LaunchKind.COLLECTIVE)

    def fail(story):
        story.head.pulses["n1"].hear([{"ended": True, "outcome": "fail"}], story.now)

    _, status = carry_out(run, {5: fail, 20: lambda _: write_json(run.cancel_file, {"by": "me"})})
    assert status["job"]["failed"] == ["n1"]


def test_a_run_whose_job_may_have_been_submitted_is_started_again(make_fleet_run):
    run = make_fleet_run()
    write_json(run.folder / "status.json", Status(state=State.RUNNING, job=JobStatus(state="SUBMITTING")))
    assert carry_out(run, {5: over})[0].started == 1


def test_a_refusal_ends_the_run_with_its_sentence(make_fleet_run, monkeypatch):
    run = make_fleet_run()
    monkeypatch.setattr(Story, "start", lambda *_: (_ for _ in ()).throw(Refused("no such partition: name another.")))
    _, status = carry_out(run, {})
    assert status["job"]["refused"] == "no such partition: name another." and status["state"] == "finished"


def test_a_record_that_cannot_be_read_later_is_not_a_refusal_of_the_start(make_fleet_run, monkeypatch):
    """The nodes have worked: nobody may say that nothing was started."""
    run = make_fleet_run()
    monkeypatch.setattr(Story, "finish", lambda *_, **__: (_ for _ in ()).throw(Refused("env.json is damaged.")))
    for _ in range(MOST_CRASHES - 1):
        with pytest.raises(Refused):
            carry_out(run, {1: over})
    _, status = carry_out(run, {1: over})
    assert status["job"]["refused"] is None and run.refused() is None
    assert "env.json is damaged." in status["cancelled"]


def test_a_run_that_was_never_begun_is_not_started_by_who_looks(make_fleet_run):
    assert make_fleet_run().state() is State.LOST


@pytest.mark.parametrize("state", ["CANCELLED", "TIMEOUT", "PREEMPTED"])
def test_a_job_that_slurm_ends_is_cancelled_by_slurm(make_fleet_run, state):
    def end(story):
        story.head.status.job.state = state

    _, status = carry_out(make_fleet_run(), {5: end})
    assert status["cancelled"] == f"Slurm (the job is {state})"


def test_a_job_that_slurm_wants_to_start_again_is_ended(make_fleet_run):
    def requeue(story):
        story.head.status.job.restarts, story.head.status.job.state = 1, "PENDING"

    story, status = carry_out(make_fleet_run(), {5: requeue})
    assert "start the job again" in status["cancelled"] and story.steps


def test_the_ladder_of_a_job(make_fleet_run, monkeypatch):
    done = []
    monkeypatch.setattr(transports.slurm, "interrupt", lambda job: done.append(f"INT {job}"))
    monkeypatch.setattr(transports.slurm, "cancel", lambda job: done.append(f"scancel {job}"))
    run = make_fleet_run()
    transport = transports.SlurmTransport(run, launch_of(run.intent))
    job = JobStatus("7", "7.1", ["n1"], 0, "RUNNING")
    climb = [(1, False), (9, False), (11, False), (12, False), (50, True), (101, True), (102, True)]
    for waited, taken in climb:
        transport.cancel(job, float(waited), taken=taken)
    assert done == ["INT 7", "scancel 7"]
    done.clear()
    transport = transports.SlurmTransport(run, launch_of(run.intent))
    transport.cancel(job, 11.0, taken=True)
    assert done == [], "every node has the request already: a second signal would only disturb"
    transport.cancel(JobStatus("7", "7.1", [], 0, "PENDING"), 0.0, taken=True)
    assert done == ["scancel 7"]


def test_the_result_of_a_launch_is_put_where_the_item_names_it(make_fleet_run):
    run = make_fleet_run(how=LaunchKind.COLLECTIVE)
    results = run.folder / "nodes" / "n1" / "results" / "artifacts"
    results.mkdir(parents=True)
    (results / "x.json").write_text("1")
    assert deliver(run) == []
    assert (run.workspace / "artifacts" / "x.json").read_text() == "1"
