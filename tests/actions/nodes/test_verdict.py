"""The verdict over nodes: the worst decides, a silent node leaves it open and is named; the same bytes each time."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.actions.judge import judge, judge_part
from llmval_tui.actions.nodes.verdict import judge_fleet
from llmval_tui.fleet.launch import LaunchKind
from llmval_tui.fleet.part import part_of
from llmval_tui.foundation.files import sha256_of, write_json
from llmval_tui.runs.create import write_run
from llmval_tui.runs.records import (
    Artifact,
    Command,
    CommandStatus,
    Gate,
    JobStatus,
    Outcome,
    RestsOn,
    State,
    Status,
    Verdict,
)
from tests.fleet.conftest import make_fleet_run, said_by  # noqa: F401  (a fixture)


def ended(run, job=None, **status):
    job = job or JobStatus("7", "7.1", list(run.intent.nodes), 0, "COMPLETED")
    write_json(run.folder / "status.json", Status(state=State.FINISHED, job=job, **status))


def judged(run, name, outcome=Outcome.PASS, reason="fast", **metrics):
    gates = [Gate("bound", outcome, "1", "1")]
    write_json(
        run.folder / "nodes" / name / "verdict.json",
        Verdict(1, f"{run.id}.{name}", outcome, gates, "2026", reason, metrics=metrics, rests_on=RestsOn.MEASURED),
    )


def gate(verdict, name):
    return next(one for one in verdict.gates if one.name == name)


def test_all_nodes_passed(make_fleet_run):  # noqa: F811
    run = make_fleet_run()
    ended(run)
    judged(run, "n1")
    judged(run, "n2")
    verdict = judge_fleet(run)
    assert (verdict.outcome, verdict.rests_on) == (Outcome.PASS, RestsOn.MEASURED)
    assert [Path(one.path).parts[-1] for one in verdict.evidence] == ["fleet.json", "verdict.json", "verdict.json"]
    assert verdict.evidence[0].sha256 == sha256_of(run.folder / "fleet.json")
    fleet = json.loads((run.folder / "fleet.json").read_text())
    assert fleet["nodes"]["n2"]["verdict_sha256"] == sha256_of(run.folder / "nodes/n2/verdict.json")
    assert schema_problem(run.folder / "fleet.json", "fleet") is None


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE])
def test_the_worst_node_decides_and_is_named(make_fleet_run, outcome):  # noqa: F811
    run = make_fleet_run()
    ended(run)
    judged(run, "n1")
    judged(run, "n2", outcome, "too slow")
    verdict = judge_fleet(run)
    assert verdict.outcome is outcome
    assert "n2" in verdict.summary and "too slow" in verdict.summary


def test_a_node_that_did_not_report_leaves_it_open_and_is_named(make_fleet_run):  # noqa: F811
    run = make_fleet_run()
    ended(run, JobStatus("7", "7.1", ["n1", "n2"], 0, "FAILED", lost={"n2": "nothing came for 20 s"}))
    judged(run, "n1")
    verdict = judge_fleet(run)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert gate(verdict, "nodes reported").measured == "1 of 2; silent: n2"
    assert "nothing came for 20 s" in gate(verdict, "nodes reported").reason
    assert json.loads((run.folder / "fleet.json").read_text())["silent"] == ["n2"]


def test_a_part_that_nobody_judged_where_its_files_are_is_lost(make_fleet_run):  # noqa: F811
    """Copies have other times and inodes than the node's record: judged here, they would count as changed."""
    run = make_fleet_run(commands=(Command("main", ["true"], "true"),), artifacts=(Artifact("artifacts/x.txt"),))
    ended(run, JobStatus(nodes=["n1", "n2"], state="COMPLETED", lost={"n2": "nothing came for 20 s"}))
    judged(run, "n1")
    far, first = said_by("n2", run_sha256=None), said_by("n1")
    write_json(run.folder / "nodes/n2/env.json", far)
    part = write_run(run.folder / "nodes/n2", part_of(run, "n2", ["n1", "n2"], far, first))
    write_json(part.folder / "status.json", Status(state=State.FINISHED))
    verdict = judge(run)
    assert verdict.outcome is Outcome.INCONCLUSIVE and part.verdict() is None
    assert "silent: n2" in verdict.summary and "nothing came for 20 s" in verdict.summary
    write_json(run.folder / "nodes/n2/env.json", said_by("n2"))
    judge(run)
    assert part.verdict() is not None, "it writes where we read: these are the files that it left"


def test_a_failed_node_counts_more_than_a_silent_one(make_fleet_run):  # noqa: F811
    run = make_fleet_run()
    ended(run)
    judged(run, "n1", Outcome.FAIL, "broken")
    assert judge_fleet(run).outcome is Outcome.FAIL


def test_the_same_evidence_gives_the_same_bytes(make_fleet_run):  # noqa: F811
    run = make_fleet_run(nodes=tuple(f"n{number}" for number in range(1, 10)))
    ended(run)
    for number in range(1, 10):
        judged(run, f"n{number}", completed_qps=10.0 + number / 100)
    seen = {(judge_fleet(run).summary, (run.folder / "fleet.json").read_bytes()) for _ in range(20)}
    assert len(seen) == 1


def test_a_cancelled_run_proves_nothing(make_fleet_run):  # noqa: F811
    run = make_fleet_run()
    ended(run, cancelled="llmval cancel")
    judged(run, "n1")
    judged(run, "n2")
    verdict = judge_fleet(run)
    assert (verdict.outcome, verdict.summary) == (Outcome.INCONCLUSIVE, "cancelled (llmval cancel)")


def test_a_run_that_was_refused_says_why(make_fleet_run):  # noqa: F811
    run = make_fleet_run()
    ended(run, JobStatus("7", refused="n2 has llmval 0.0.1: install the same."))
    verdict = judge_fleet(run)
    assert verdict.outcome is Outcome.INCONCLUSIVE and "n2 has llmval 0.0.1" in verdict.summary


def test_a_job_that_slurm_started_again_is_not_a_measurement(make_fleet_run):  # noqa: F811
    run = make_fleet_run()
    ended(run, JobStatus("7", "7.1", ["n1", "n2"], 1, "COMPLETED"))
    judged(run, "n1")
    judged(run, "n2")
    assert judge_fleet(run).outcome is Outcome.INCONCLUSIVE


def test_of_a_launch_the_node_with_the_killed_rank_comes_first(make_fleet_run):  # noqa: F811
    run = make_fleet_run(how=LaunchKind.COLLECTIVE)
    ended(run)
    judged(run, "n1", Outcome.FAIL, "lost another rank")
    judged(run, "n2", Outcome.FAIL, "killed by SIGKILL")
    write_json(run.folder / "nodes" / "n2" / "ranks.main.json", {"ranks": {"2": 1, "3": -9}})
    assert judge_fleet(run).summary.startswith("node n2")


def test_a_launch_rests_on_its_first_node_and_names_no_node_by_figures(make_fleet_run):  # noqa: F811
    names = tuple(f"n{number}" for number in range(1, 10))
    run = make_fleet_run(how=LaunchKind.COLLECTIVE, nodes=names)
    ended(run)
    for name in names:
        judged(run, name, completed_qps=5.0 if name == "n9" else 10.0)
    verdict = judge_fleet(run)
    assert verdict.metrics["completed_qps"] == 10.0
    assert json.loads((run.folder / "fleet.json").read_text())["statistics"] == {}
    assert not any("slow" in one.name for one in verdict.gates)


def test_the_peers_of_a_node_that_was_lost_in_one_launch_are_not_blamed(make_fleet_run):  # noqa: F811
    run = make_fleet_run(how=LaunchKind.COLLECTIVE)
    ended(run, JobStatus("7", "7.1", ["n1", "n2"], 0, "FAILED", lost={"n2": "nothing came for 20 s"}))
    judged(run, "n1", Outcome.FAIL, "lost another rank")
    verdict = judge_fleet(run)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "n2 was lost in the same launch" in gate(verdict, "node n1").reason
    assert "n2" in verdict.summary


def outcomes(run):
    """Of each node, in the verdict's gates and in fleet.json."""
    gates = {one.name.removeprefix("node "): one.outcome.value for one in judge_fleet(run).gates}
    nodes = json.loads((run.folder / "fleet.json").read_text())["nodes"]
    return {name: (gates[name], one["outcome"]) for name, one in nodes.items() if name in gates}


def test_a_node_whose_agent_was_killed_has_not_failed_in_a_launch(make_fleet_run):  # noqa: F811
    """Its supervisor went on, and saw its ranks fail when the others were ended."""
    run = make_fleet_run(how=LaunchKind.COLLECTIVE)
    job = JobStatus("7", "7.1", ["n1", "n2"], 0, "FAILED", lost={"n2": "nothing came for 20 s"})
    ended(run, job, cancelled="the end of n2")
    judged(run, "n1", Outcome.INCONCLUSIVE, "cancelled (the end of n2)")
    judged(run, "n2", Outcome.FAIL, "rank 1: exit 1")
    assert outcomes(run) == {"n1": ("inconclusive",) * 2, "n2": ("inconclusive",) * 2}
    assert gate(judge_fleet(run), "node n2").reason == "nothing came for 20 s; rank 1: exit 1"


def test_of_a_cancelled_launch_only_a_node_that_had_failed_before_has_failed(make_fleet_run):  # noqa: F811
    run = make_fleet_run(how=LaunchKind.COLLECTIVE, nodes=("n1", "n2", "n3"))
    ended(run, JobStatus("7", "7.1", ["n1", "n2", "n3"], 0, "COMPLETED", failed=["n1"]), cancelled="me")
    judged(run, "n1", Outcome.FAIL, "rank 0: exit 1")
    judged(run, "n2", Outcome.FAIL, "rank 1: exit 1")
    judged(run, "n3", Outcome.INCONCLUSIVE, "cancelled (me)")
    assert outcomes(run) == {"n1": ("fail", "fail"), "n2": ("inconclusive",) * 2, "n3": ("inconclusive",) * 2}
    assert judge_fleet(run).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("how", "outcome"), [(LaunchKind.COLLECTIVE, Outcome.INCONCLUSIVE), (LaunchKind.EACH, Outcome.FAIL)]
)
def test_a_part_of_a_cancelled_launch_is_cancelled_even_if_it_had_not_heard_of_it(make_fleet_run, how, outcome):  # noqa: F811
    command = Command("main", ["launch", "--", "x"], "x", nproc=1)
    run = make_fleet_run(how=how, commands=(command,), outputs={})
    node = said_by("n2")
    part = write_run(run.folder / "nodes/n2", part_of(run, "n2", ["n1", "n2"], node, node))
    command_status = CommandStatus("main", started_utc="2026", ended_utc="2026", exit_code=1)
    write_json(part.folder / "status.json", Status(state=State.FINISHED, commands=[command_status]))
    write_json(run.cancel_file, {"by": "me"})
    assert judge_part(part, run).outcome is outcome
