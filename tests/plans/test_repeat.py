"""Suspected nodes are measured again beside nodes at the median, before the run is judged."""

from types import SimpleNamespace

import pytest

from llmval_tui.actions.nodes.verdict import judge_fleet
from llmval_tui.actions.settle import settle
from llmval_tui.fleet.compare import ask_for_repeat, nodes_to_repeat, repeated_run
from llmval_tui.fleet.launch import launch_of
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.plans import process
from llmval_tui.plans.process import PlanProcess
from llmval_tui.runs.records import Artifact, Command, Gate, JobStatus, Outcome, RestsOn, State, Status, Verdict
from llmval_tui.runs.store import RunStore, plan_lock
from tests.fleet.conftest import make_fleet_run, said_by  # noqa: F401  (a fixture)

NAMES = tuple(f"n{number}" for number in range(1, 10))
JOB = JobStatus("7", "7.1", list(NAMES), 0, "COMPLETED")


def ended(run, figures):
    """Every node of the run passed, with these requests per second."""
    write_json(run.folder / "status.json", Status(state=State.FINISHED, job=JobStatus(nodes=list(run.intent.nodes))))
    for name in run.intent.nodes:
        folder = run.folder / "nodes" / name
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "env.json", said_by(name))
        verdict = Verdict(
            1, name, Outcome.PASS, [Gate("rate", Outcome.PASS, "1", "1")], "2026", "",
            metrics={"completed_qps": figures(name)}, rests_on=RestsOn.MEASURED,
        )  # fmt: skip
        write_json(folder / "verdict.json", verdict)


def slow(name, by):
    return (10.0 if name != "n9" else 10.0 * (1 - by)) + int(name[1:]) / 1000


@pytest.fixture
def first(make_fleet_run):  # noqa: F811
    command = Command("main", ["x", "{run}/logs", "artifacts/x.json"], "x")
    run = make_fleet_run(nodes=NAMES, commands=(command,), artifacts=(Artifact("artifacts/x.json"),))
    ended(run, lambda name: slow(name, 0.08))
    return run


def measure_again(run, monkeypatch, by):
    made = []
    monkeypatch.setattr(process.client, "start", made.append)
    plan = SimpleNamespace(
        store=RunStore(run.workspace),
        _cancelled_by=lambda: None,
        _result_of=lambda number, again: (ended(again, lambda name: slow(name, by)), settle(again, plan.store)),
    )
    PlanProcess._measure_again(plan, "1.1", run)
    return made


@pytest.mark.parametrize(("by", "outcome"), [(0.08, Outcome.FAIL), (0.0, Outcome.PASS)])
def test_only_what_two_measurements_show_is_named(first, monkeypatch, by, outcome):
    nodes = ask_for_repeat(first, launch_of(first.intent), JOB)
    assert nodes[-1] == "n9" and len(nodes) == 3, "the suspect, and two nodes at the median"
    (again,) = measure_again(first, monkeypatch, by)
    assert again.intent.nodes == nodes and not again.intent.tick and again.intent.step.text.startswith("Second measure")
    assert again.intent.commands[0].argv == ["x", f"{again.folder}/logs", "artifacts/x.json"], "its own folder"
    assert repeated_run(first) == again.folder and nodes_to_repeat(first) == []
    verdict = judge_fleet(first)
    assert verdict.outcome is outcome
    assert any(one.name == "slow node n9" for one in verdict.gates) == (outcome is Outcome.FAIL)
    assert f"{again.id}/fleet.json" in verdict.evidence[-1].path


def test_a_suspect_that_nobody_measures_again_is_not_named(first):
    ask_for_repeat(first, launch_of(first.intent), JOB)
    verdict = judge_fleet(first)
    assert verdict.outcome is Outcome.PASS
    assert next(one for one in verdict.gates if one.name == "slow nodes").measured == "suspected: n9"


def test_as_long_as_its_plan_lives_nobody_else_judges_before_the_repeat(first, monkeypatch):
    ask_for_repeat(first, launch_of(first.intent), JOB)
    object.__setattr__(first.intent, "plan_id", "p")
    lock = plan_lock(first.workspace, "p")
    lock.parent.mkdir(parents=True)
    descriptor = take_lock(lock)
    assert settle(first, RunStore(first.workspace)) is None
    assert descriptor is not None
    process.os.close(descriptor)
    object.__setattr__(first.intent, "tick", False)
    assert settle(first, RunStore(first.workspace)) is not None, "without its plan, nobody will measure again"


def test_a_repeat_is_not_repeated(first, monkeypatch):
    ask_for_repeat(first, launch_of(first.intent), JOB)
    (again,) = measure_again(first, monkeypatch, 0.08)
    assert ask_for_repeat(again, launch_of(again.intent), JobStatus(nodes=list(again.intent.nodes))) == []
