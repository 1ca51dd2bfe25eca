"""A drift near its bound: the load test is repeated, and the medians decide."""

import json

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.accept import accept
from llmval_tui.actions.documents.baseline_table import BEGIN, END, read_baselines
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.steps.baseline_change import Change
from llmval_tui.actions.steps.baseline_repeats import near_bound, seen_spreads
from llmval_tui.foundation.files import sha256_of
from llmval_tui.runs.records import Outcome
from tests.helpers.drift_lists import LIST, judged


def based(workspace, compare):
    """Accept a baseline."""
    workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")
    run = compare()
    judged(workspace, run)
    accept(run)


def slower(value, share, key="last_token_s"):
    """A result with a TPOT worse by a share."""
    for record in value["llmval"]["requests"]:
        record[key] += 0.020 * 7 * share
    return value


FROZEN = ["python3", "launch.py", "--logs", "{run}/logs", "--label", "main", "--exit-codes", "{run}/ranks.main.json"]
FROZEN += ["--", "--nproc_per_node=2", "x.py", "--device", "cpu", "--output-json", "artifacts/r.json"]


@pytest.fixture
def near(workspace, compare, load_run, result_json):
    """The proposal to compare a run that is 6 % worse than the accepted baseline, with a known command."""

    def make(identity=None, argv=FROZEN, gpus=8):
        based(workspace, compare)
        value = slower(result_json(), 0.06)
        source = load_run(value, LIST)
        path = source.folder / "run.json"
        record = json.loads(path.read_text())
        record["commands"][0]["argv"] = [word.replace("{run}", str(source.folder)) for word in argv]
        path.write_text(json.dumps(record))
        if identity:
            value["llmval"]["identity"] |= identity
            workspace.write("artifacts/r.json", json.dumps(value))
        workspace.write("launch.py", "")
        workspace.store._known.clear()
        workspace.judge(source, Outcome.PASS)
        return workspace.propose(LIST, "1.2", gpus)

    return make


def finish(workspace, proposal, *repeats, **changes):
    """The run of the comparison, with the results of its repeats."""
    run = workspace.run(workspace.context(LIST, "1.2"), proposal, **changes)
    for number, value in enumerate(repeats, 2):
        (run.folder / f"repeat{number}.json").write_text(json.dumps(value))
    return run, perform.main([str(run.folder)])


def test_near_the_bound_the_load_test_is_repeated_as_it_was_run(workspace, near, result_json):
    proposal = near()
    assert [command.label for command in proposal.commands] == ["repeat2", "repeat3", "main"]
    for command in proposal.commands[:2]:
        label = command.label
        assert command.argv == [
            "python3", "launch.py", "--logs", "{run}/logs", "--label", label, "--exit-codes",
            f"{{run}}/ranks.{label}.json", "--", "--nproc_per_node=2", "x.py", "--device", "cpu", "--output-json",
            f"{{run}}/{label}.json",
        ]  # fmt: skip
        assert "--output-json artifacts/r.json" not in command.display
    assert [item.path for item in proposal.artifacts if item.schema] == [
        f"artifacts/runs/{{run_id}}/repeat{number}.json" for number in (2, 3)
    ]
    assert any("compares the medians of 3 runs" in line for line in proposal.details)

    run, code = finish(workspace, proposal, slower(result_json(), 0.02), slower(result_json(), 0.03))
    assert code == 0
    gates = {gate.name: gate for gate in action_named("baseline_drift").judge(run)[0]}
    assert gates["tpot_p50_ms"].outcome is Outcome.PASS
    assert "3.0 % worse; median of 3 runs, which differ by 3.9 %" in gates["tpot_p50_ms"].measured

    run, code = finish(workspace, proposal, slower(result_json(), 0.07), slower(result_json(), 0.01))
    found, _, summary, question = action_named("baseline_drift").judge(run)
    assert {gate.name: gate.outcome for gate in found}["tpot_p50_ms"] is Outcome.FAIL
    assert "6.0 % worse (medians of 3 runs)" in summary
    assert "+| tpot_p50_ms | lower | 21.20 | ms |" in question["diff"]
    assert "`runs=3`" in question["diff"]

    # The evidence of the medians is the file with the figures of all three runs, each with its own evidence.
    workspace.judge(run, Outcome.FAIL, question)
    accept(run)
    (baseline,) = read_baselines((workspace.folder / "docs/b.md").read_text(), "b")
    path = workspace.folder / baseline.identity["artifact"]
    assert path == run.folder / "comparison.json"
    assert (baseline.identity["run"], baseline.identity["sha256"]) == (run.id, sha256_of(path))
    results = json.loads(path.read_text())["results"]
    assert [sha256_of(workspace.folder / one["identity"]["artifact"]) for one in results] == [
        one["identity"]["sha256"] for one in results
    ]
    tpot = [row["value"] for one in results for row in one["metrics"] if row["name"] == "tpot_p50_ms"]
    assert sorted(tpot)[1] == pytest.approx(21.2)


def test_a_failed_repeat_leaves_the_decision_open(workspace, near, result_json):
    proposal = near()
    run, code = finish(workspace, proposal, slower(result_json(), 0.02))
    assert code == 0
    gates = {gate.name: gate for gate in action_named("baseline_drift").judge(run)[0]}
    assert gates["tpot_p50_ms"].outcome is Outcome.INCONCLUSIVE
    assert "a repeat left no valid result" in gates["tpot_p50_ms"].reason
    assert gates["completed_qps"].outcome is Outcome.PASS
    assert gates["repeat3: result"].outcome is Outcome.INVALID


def test_a_repeat_of_another_configuration_is_refused(workspace, near, result_json, capsys):
    proposal = near()
    moved = {"name": "node1", "driver_version": "590.2", "gpus": []}
    _, code = finish(workspace, proposal, result_json(), result_json(), host=moved)
    assert code == 2
    assert "driver 590.2 instead of 580.1" in capsys.readouterr().err


def test_an_invalid_repeat_is_not_used(workspace, near, result_json):
    late = slower(result_json(), 0.5)
    for record in late["llmval"]["requests"]:
        for key in ("dispatch_s", "first_token_s", "last_token_s"):
            record[key] += 0.6
    run, _ = finish(workspace, near(), slower(result_json(), 0.5), late)
    found, _, _, question = action_named("baseline_drift").judge(run)
    gates = {gate.name: gate for gate in found}
    assert gates["repeat3: schedule delay"].outcome is Outcome.INVALID
    assert gates["tpot_p50_ms"].outcome is Outcome.INCONCLUSIVE, "its median would have been 50 % worse"
    assert "a repeat left no valid result" in gates["tpot_p50_ms"].reason
    assert question is None


def test_no_baseline_is_made_of_a_repeat_that_failed(workspace, near, result_json):
    """Its figures describe the node, so they count; but nobody can accept a failed gate."""
    broken = slower(result_json(), 0.5)
    broken["llmval"]["requests"][7]["error"] = "the engine lost it"
    broken.update(completed=59, failed=1, total_output_tokens=8 * 59)
    run, _ = finish(workspace, near(), slower(result_json(), 0.5), broken)
    found, _, summary, question = action_named("baseline_drift").judge(run)
    assert {gate.name: gate.outcome for gate in found}["repeat3: failed requests"] is Outcome.FAIL
    assert "medians of 3 runs" in summary
    assert question is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"identity": {"device": "cuda"}, "gpus": None}, "it needs 2 GPUs and this machine has 0"),
        (
            {"argv": ["python3", "launch.py", "--output", "artifacts/r.json"]},
            "its command does not write artifacts/r.json by --output-json",
        ),
        ({"argv": ["python3", "gone/launch.py", *FROZEN[2:]]}, "gone/launch.py no longer exists"),
    ],
)
def test_without_repeats_the_command_to_run_is_named(workspace, near, changes, says):
    proposal = near(**changes)
    assert [command.label for command in proposal.commands] == ["main"]
    assert any(says in line for line in proposal.details)
    run, code = finish(workspace, proposal)
    assert code == 0
    gates = {gate.name: gate for gate in action_named("baseline_drift").judge(run)[0]}
    assert gates["tpot_p50_ms"].outcome is Outcome.INCONCLUSIVE
    reason = gates["tpot_p50_ms"].reason
    assert says in reason
    assert "run `llmval run 1.1`, which is `torchrun --nproc_per_node=2" in reason
    assert reason.endswith("then `llmval run 1.2`")


def test_the_known_spread_of_runs_widens_the_margin():
    def near(worse, spread=None):
        return near_bound(Change("m", "ms", 100, 100 + worse, worse), 5, spread)

    assert [near(worse) for worse in (2.9, 3.1, 6.9, 7.1, -2.9, -4, -7.1)] == [
        False, True, True, False, False, True, False,
    ]  # fmt: skip
    assert near(1, spread=4.1)
    assert not near(0.8, spread=4.1)
    assert near(3, spread=0.1), "a small spread does not narrow the margin"


def test_the_spread_that_was_seen_decides_later(workspace, near, result_json):
    run, _ = finish(workspace, near(), slower(result_json(), 0.01), slower(result_json(), 0.09))
    workspace.judge(run, Outcome.PASS)
    compared = json.loads((run.folder / "comparison.json").read_text())["compared"]
    assert seen_spreads(workspace.store, compared)["tpot_p50_ms"] == pytest.approx(100 * 0.08 / 1.06)
    assert seen_spreads(workspace.store, {**compared, "driver": "590"}) == {}
