"""What keeps a run from starting on its nodes: one sentence each, and nothing is started."""

import json
from dataclasses import replace

import pytest

from llmval_tui.fleet import preflight
from llmval_tui.fleet.launch import FleetLaunch, Launcher, LaunchKind
from llmval_tui.fleet.probe import checklist_sha256
from llmval_tui.foundation.files import write_json
from tests.fleet.conftest import said_by

LAUNCH = FleetLaunch(Launcher.SLURM, LaunchKind.EACH, 2, "python", checklist="list.md", checklist_sha256="1" * 64)


def found(launch=LAUNCH, clock_ns=10**18, **of_second):
    nodes = {"n1": said_by("n1"), "n2": said_by("n2", **of_second)}
    return preflight.problems(launch, ["n1", "n2"], nodes, clock_ns)


def test_good_nodes_have_no_problem():
    assert found() == []
    assert found(checklist_sha256="1" * 64, run_sha256=None) == []
    assert found(checklist_sha256="2" * 64) == [], "it sees the run, and so the same list"


def test_ticks_and_remarks_do_not_make_another_list(tmp_path):
    one, other = tmp_path / "one.md", tmp_path / "other.md"
    one.write_text("- [ ] a <!-- llmval: nodes=each -->\n- [ ] b\n")
    other.write_text("- [x] a <!-- llmval: nodes=each -->\n- [X] b <!-- smoke preset -->\n")
    assert checklist_sha256(one) == checklist_sha256(other)
    other.write_text("- [x] a\n- [X] b\n")
    assert checklist_sha256(one) != checklist_sha256(other)
    assert checklist_sha256(tmp_path / "none.md") is None


@pytest.mark.parametrize(
    ("of_second", "words"),
    [
        ({"llmval": "0.0.1"}, "n2 has llmval 0.0.1, and this is"),
        ({"wall_ns": 10**18 - 600 * 10**9}, "the clock of n2 is -600 s off"),
        ({"checklist_sha256": "2" * 64, "run_sha256": None}, "n2 has another list.md"),
        ({"machine_id": "machine-n1"}, "n1 and n2 are one machine"),
    ],
)
def test_a_node_that_does_not_fit_is_named(of_second, words):
    (reason,) = found(**of_second)
    assert words in reason


def test_names_of_one_machine_may_be_allowed():
    assert found(replace(LAUNCH, same_machine=True), machine_id="machine-n1") == []


def test_a_promised_file_system_that_is_not_there_is_named():
    (reason,) = found(replace(LAUNCH, shared=True), run_sha256=None)
    assert "n2 does not see the workspace" in reason
    assert found(run_sha256=None) == []


def test_a_launch_needs_an_address_of_the_first_node():
    launch = replace(LAUNCH, how=LaunchKind.COLLECTIVE)
    nodes = {"n1": said_by("n1", address=None), "n2": said_by("n2")}
    (reason,) = preflight.problems(launch, ["n1", "n2"], nodes, 10**18)
    assert "n1 has no address" in reason


def test_in_a_job_the_reason_is_written_for_the_head(make_fleet_run):
    run = make_fleet_run()
    assert preflight.main([str(run.folder), "n1,n2"]) == 0
    write_json(run.folder / "nodes" / "n2" / "env.json", said_by("n2", llmval="0.0.1"))
    assert preflight.main([str(run.folder), "n1,n2,n3"]) == 2
    reason = json.loads((run.folder / "refused.json").read_text())["reason"]
    assert "n2 has llmval 0.0.1" in reason and "n3 did not answer" in reason
