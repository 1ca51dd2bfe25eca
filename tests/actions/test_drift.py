"""The baseline: compared only with its like, changed only by the operator's word, and only where the markers are."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.actions import perform
from llmval_tui.actions.accept import accept, accepted
from llmval_tui.actions.baseline_drift import threshold_percent
from llmval_tui.actions.baseline_table import (
    BEGIN,
    END,
    Baseline,
    Metric,
    decimal,
    read_baselines,
    with_baseline,
)
from llmval_tui.actions.drift import Change, changes
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.repeats import near_bound, seen_spreads
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.resources import bundled
from llmval_tui.runs.records import Outcome, worst

RUN_ITEM = (
    "Run `torchrun --nproc_per_node=2 x/inference_server_load_test.py --fp8-mode none --attention-backend flex "
    "--device cpu --model tiny --output-json artifacts/r.json`"
)
LIST = f"# L\n\n## 1. Part\n- [ ] {RUN_ITEM}\n- [ ] Update expectations in `docs/b.md` if they drift >5%.\n"


@pytest.fixture
def compare(workspace, load_run):
    """Judges a load test with this result, then runs the drift item, whose repeats measure the same; its run."""

    def make(result=None, **run_changes):
        source = load_run(result, LIST, **run_changes)
        workspace.judge(source, Outcome.PASS)
        proposal = workspace.propose(LIST, "1.2")
        assert proposal.refusal is None, proposal.refusal
        run = workspace.run(workspace.context(LIST, "1.2"), proposal)
        for command in proposal.commands[:-1]:
            (run.folder / f"{command.label}.json").write_bytes((workspace.folder / "artifacts/r.json").read_bytes())
        assert perform.main([str(run.folder)]) == 0
        return run

    return make


def judged(workspace, run):
    gates, _, _, question = action_named("baseline_drift").judge(run)
    workspace.judge(run, worst(gates), question)
    return {gate.name: gate.outcome for gate in gates}, question


def test_from_no_baseline_to_accepted_to_within_to_drifted(workspace, compare, result_json):
    document = "# B\r\n\r\nMy words.\r\n\r\n" + f"{BEGIN}\r\nNot measured yet. Run it.\r\n{END}\r\n\r\nMore.\r\n"
    path = workspace.write("docs/b.md", document)
    run = compare()
    gates, question = judged(workspace, run)
    assert gates == {"baseline": Outcome.INCONCLUSIVE}
    assert question["kind"] == "accept"
    assert "+### tiny, float32, 2xTest-CPU, 28 requests/s" in question["diff"]
    assert path.read_bytes() == document.encode(), "nothing changes before the operator says so"

    assert "was updated" in accept(run)
    new = path.read_bytes().decode()
    before, _, rest = document.partition(BEGIN)
    assert new.startswith(before)
    assert new.endswith(rest.partition(END)[2])
    assert "Not measured yet" not in new
    assert "\n" not in new.replace("\r\n", ""), "the line ends stay CRLF"
    assert accepted(run)["by"]
    assert worst(action_named("baseline_drift").judge(run)[0]) is Outcome.PASS
    with pytest.raises(Refused, match="already"):
        accept(run)

    gates, question = judged(workspace, compare())
    assert set(gates.values()) == {Outcome.PASS}
    assert question is None

    slow = result_json()
    for record in slow["llmval"]["requests"]:
        record["last_token_s"] += 0.020 * 7 * 0.10  # TPOT 10 % worse
    gates, question = judged(workspace, compare(slow))
    assert gates["tpot_p50_ms"] is Outcome.FAIL
    assert gates["ttft_sched_p50_ms"] is Outcome.PASS
    assert question["diff"].count("\n-| tpot_p50_ms") == 1

    fast = result_json()
    for record in fast["llmval"]["requests"]:
        record["last_token_s"] -= 0.020 * 7 * 0.10
    gates, _ = judged(workspace, compare(fast))
    assert gates["tpot_p50_ms"] is Outcome.INCONCLUSIVE


def test_other_configurations_are_not_compared_but_named(workspace, compare, result_json):
    workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")
    first = compare()
    judged(workspace, first)
    accept(first)
    other = result_json()
    other["llmval"]["identity"] |= {"fp8_mode": "none", "dtype": "bfloat16"}
    run = compare(other, host={"name": "node1", "gpu": {"driver_version": "590", "gpus": []}})
    gates, question = judged(workspace, run)
    assert gates == {"baseline": Outcome.INCONCLUSIVE}
    for words in ("precision bfloat16+kv-float32 instead of float32", "driver 590 instead of 580.1"):
        assert words in question["text"]
    accept(run)
    text = (workspace.folder / "docs/b.md").read_text()
    assert [baseline.identity["driver"] for baseline in read_baselines(text, "b")] == ["580.1", "590"]


def based(workspace, compare):
    """A baseline, accepted."""
    workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")
    run = compare()
    judged(workspace, run)
    accept(run)


HOST = {"name": "node1", "gpu": {"driver_version": "580.1", "gpus": [{"index": 0, "power_limit_w": 700.0}]}}


@pytest.mark.parametrize(
    ("identity", "ours", "host", "says"),
    [
        ({"model": "llama40b"}, {}, HOST, "model llama40b instead of tiny"),
        ({"dtype": "bfloat16"}, {}, HOST, "precision bfloat16+kv-float32 instead of float32"),
        ({"fp8_mode": "native"}, {}, HOST, "precision float32+fp8-native instead of float32"),
        ({"weights": "/models/x"}, {}, HOST, "precision float32+checkpoint instead of float32"),
        ({"attention_backend": "sdpa"}, {}, HOST, "attention sdpa instead of flex"),
        ({"tensor_parallel": 4}, {}, HOST, "gpus 4xTest-CPU instead of 2xTest-CPU"),
        ({"device_name": "NVIDIA H200"}, {}, HOST, "gpus 2xNVIDIA-H200 instead of 2xTest-CPU"),
        ({}, {}, {**HOST, "gpu": {**HOST["gpu"], "driver_version": "590"}}, "driver 590 instead of 580.1"),
        (
            {},
            {},
            {**HOST, "gpu": {**HOST["gpu"], "gpus": [{"index": 0, "power_limit_w": 500.0}]}},
            "power_limit_w 500 instead of 700",
        ),
        ({}, {"slo": {"ttft_ms": 200, "tpot_ms": None, "e2e_ms": None}}, HOST, "slo ttft<=200ms instead of n/a"),
        ({}, {"workload": {"target_qps": 29.0, "prompt_len": "uniform:16:64", "output_len": "8"}}, HOST,
         "target_qps 29 instead of 28"),
    ],
)  # fmt: skip
def test_each_difference_of_configuration_keeps_two_runs_apart(
    workspace, load_run, result_json, identity, ours, host, says
):
    workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")

    def compared(value, inventory):
        source = load_run(value, LIST, host=inventory)
        source.intent.params.pop("gpu_indices")
        workspace.judge(source, Outcome.PASS)
        params = json.loads((source.folder / "run.json").read_text())
        params["params"].pop("gpu_indices")
        (source.folder / "run.json").write_text(json.dumps(params))
        workspace.store._known.clear()
        run = workspace.run(workspace.context(LIST, "1.2"), workspace.propose(LIST, "1.2"))
        assert perform.main([str(run.folder)]) == 0
        return run

    first = compared(result_json(), HOST)
    judged(workspace, first)
    accept(first)
    value = result_json(**ours)
    value["llmval"]["identity"] |= identity
    gates, question = judged(workspace, compared(value, host))
    assert gates == {"baseline": Outcome.INCONCLUSIVE}
    assert f"({says})" in question["text"], "one thing differs, and it is named"


def slower(value, share, key="last_token_s"):
    """TPOT worse by a share."""
    for record in value["llmval"]["requests"]:
        record[key] += 0.020 * 7 * share
    return value


FROZEN = ["python3", "launch.py", "--logs", "{run}/logs", "--label", "main", "--exit-codes", "{run}/ranks.main.json"]
FROZEN += ["--", "--nproc_per_node=2", "x.py", "--device", "cpu", "--output-json", "artifacts/r.json"]


@pytest.fixture
def near(workspace, compare, load_run, result_json):
    """A run 6 % worse than the accepted baseline, whose frozen command is known; the proposal to compare it."""

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
    """The comparison's run, with what its repeats left."""
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

    # The medians are backed by the file that has all three runs' figures, each with the file that backs it.
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


def test_a_repeat_that_broke_leaves_the_question_open(workspace, near, result_json):
    proposal = near()
    run, code = finish(workspace, proposal, slower(result_json(), 0.02))
    assert code == 0
    gates = {gate.name: gate for gate in action_named("baseline_drift").judge(run)[0]}
    assert gates["tpot_p50_ms"].outcome is Outcome.INCONCLUSIVE
    assert "a repeat left no result" in gates["tpot_p50_ms"].reason
    assert gates["completed_qps"].outcome is Outcome.PASS
    assert gates["repeat3: result"].outcome is Outcome.INVALID


def test_a_repeat_of_another_configuration_is_refused(workspace, near, result_json, capsys):
    proposal = near()
    moved = {"name": "node1", "driver_version": "590.2", "gpus": []}
    _, code = finish(workspace, proposal, result_json(), result_json(), host=moved)
    assert code == 2
    assert "driver 590.2 instead of 580.1" in capsys.readouterr().err


def test_a_repeat_that_measured_nothing_is_none(workspace, near, result_json):
    late = slower(result_json(), 0.5)
    for record in late["llmval"]["requests"]:
        for key in ("dispatch_s", "first_token_s", "last_token_s"):
            record[key] += 0.6
    run, _ = finish(workspace, near(), slower(result_json(), 0.5), late)
    found, _, _, question = action_named("baseline_drift").judge(run)
    gates = {gate.name: gate for gate in found}
    assert gates["repeat3: schedule delay"].outcome is Outcome.INVALID
    assert gates["tpot_p50_ms"].outcome is Outcome.INCONCLUSIVE, "its median would have been 50 % worse"
    assert "do not take for a measurement" in gates["tpot_p50_ms"].reason
    assert question is None


def test_no_baseline_is_made_of_a_repeat_that_failed(workspace, near, result_json):
    """Its figures count, for they are the node's; what failed is accepted by nobody."""
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
        ({"argv": ["python3", "launch.py", "--output", "artifacts/r.json"]}, "does not say by --output-json"),
        ({"argv": ["python3", "gone/launch.py", *FROZEN[2:]]}, "gone/launch.py is not there any more"),
    ],
)
def test_what_cannot_be_repeated_says_which_command_to_run(workspace, near, changes, says):
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


def test_near_the_bound_is_also_within_what_runs_were_seen_to_differ_by():
    def near(worse, spread=None):
        return near_bound(Change("m", "ms", 100, 100 + worse, worse), 5, spread)

    assert [near(worse) for worse in (2.9, 3.1, 6.9, 7.1, -2.9, -4, -7.1)] == [
        False, True, True, False, False, True, False,
    ]  # fmt: skip
    assert near(1, spread=4.1)
    assert not near(0.8, spread=4.1)
    assert near(3, spread=0.1), "a small spread does not narrow it"


def test_the_spread_that_was_seen_decides_later(workspace, near, result_json):
    run, _ = finish(workspace, near(), slower(result_json(), 0.01), slower(result_json(), 0.09))
    workspace.judge(run, Outcome.PASS)
    compared = json.loads((run.folder / "comparison.json").read_text())["compared"]
    assert seen_spreads(workspace.store, compared)["tpot_p50_ms"] == pytest.approx(100 * 0.08 / 1.06)
    assert seen_spreads(workspace.store, {**compared, "driver": "590"}) == {}


def test_an_edited_document_is_not_overwritten(workspace, compare):
    path = workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")
    run = compare()
    judged(workspace, run)
    path.write_text(path.read_text() + "edited in vim\n")
    with pytest.raises(Refused, match="was edited since"):
        accept(run)
    assert path.read_text().endswith("edited in vim\n")
    assert accepted(run) is None


def test_a_missing_document_is_made_on_acceptance(workspace, compare):
    run = compare()
    judged(workspace, run)
    assert not (workspace.folder / "docs").exists()
    accept(run)
    assert len(read_baselines((workspace.folder / "docs/b.md").read_text(), "b")) == 1


def test_a_result_that_changed_since_it_was_judged_is_refused(workspace, load_run, capsys):
    workspace.judge(load_run(None, LIST), Outcome.PASS)
    run = workspace.run(workspace.context(LIST, "1.2"), workspace.propose(LIST, "1.2"))
    workspace.write("artifacts/r.json", json.dumps({}))
    assert perform.main([str(run.folder)]) == 2
    assert "run the load test again" in capsys.readouterr().err


def test_what_is_no_evidence_makes_no_baseline(workspace, load_run):
    assert "has passed yet" in (workspace.propose(LIST, "1.2").refusal or "")
    workspace.judge(load_run(None, LIST), Outcome.FAIL)
    assert "has passed yet" in (workspace.propose(LIST, "1.2").refusal or "")
    context = workspace.context(LIST, preset="smoke")
    proposal = workspace.propose(LIST)
    smoke = workspace.run(context, replace(proposal, artifacts=load_run(None, LIST).intent.artifacts))
    workspace.judge(smoke, Outcome.PASS)
    assert "only as a smoke run" in (workspace.propose(LIST, "1.2").refusal or "")
    assert workspace.propose(LIST, "1.2", demo=True).runnable


def test_broken_markers_are_refused(workspace, load_run):
    workspace.judge(load_run(None, LIST), Outcome.PASS)
    workspace.write("docs/b.md", f"{END}\n{BEGIN}\n")
    assert "repair its markers" in (workspace.propose(LIST, "1.2").refusal or "")
    workspace.write("docs/b.md", f"{BEGIN}\n### x\n\n- `model=a`\n\n| tpot | lower | fast | ms |\n{END}\n")
    assert "“x”" in (workspace.propose(LIST, "1.2").refusal or "")


def test_the_bundled_document_is_understood():
    text = (bundled("docs") / "performance_baseline.md").read_text(encoding="utf-8")
    read_baselines(text, "performance_baseline.md")
    new = Baseline("n", {"model": "m"}, (Metric("tpot_p50_ms", "lower", 1.0, "ms"),))
    changed = with_baseline(text, new, "b")
    assert new in read_baselines(changed, "b")
    assert changed.startswith(text.partition(f"\n{BEGIN}\n")[0])
    assert changed.endswith(text.rpartition(f"\n{END}\n")[2])


@given(
    st.lists(
        st.tuples(st.text("abc-.", min_size=1), st.floats(1e-6, 1e9)), min_size=1, max_size=4, unique_by=lambda x: x[0]
    )
)
def test_what_is_written_is_read_back(values):
    text = "# T\n"
    for model, value in values:
        text = with_baseline(text, Baseline(model, {"model": model}, (Metric("m", "higher", value, "x"),)), "t")
    again = read_baselines(text, "t")
    assert [baseline.identity["model"] for baseline in again] == [model for model, _ in values]
    for baseline, (_, value) in zip(again, values, strict=True):
        assert abs(baseline.metrics[0].value - value) <= 1e-3 * value
    # Writing the same configuration again replaces it.
    once_more = with_baseline(text, again[0], "t")
    assert len(read_baselines(once_more, "t")) == len(values)


def test_figures():
    assert [decimal(value) for value in (0, 12345.6, 0.012341, 101.04)] == ["0", "12346", "0.01234", "101.0"]
    assert threshold_percent("if they drift >5%") == 5
    assert threshold_percent("by more than 2.5 %") == 2.5
    assert threshold_percent("if they drift") == 5


def test_each_metric_has_its_own_direction():
    then = Baseline("n", {}, (Metric("tpot_p50_ms", "lower", 10, "ms"), Metric("completed_qps", "higher", 10, "r/s")))
    now = replace(then, metrics=tuple(replace(metric, value=11) for metric in then.metrics))
    assert [(change.name, change.worse_percent) for change in changes(now, then)] == [
        ("tpot_p50_ms", pytest.approx(10)),
        ("completed_qps", pytest.approx(-10)),
    ]
    assert [change.gate(5).outcome for change in changes(now, then)] == [Outcome.FAIL, Outcome.INCONCLUSIVE]
    assert [change.gate(10.5).outcome for change in changes(now, then)] == [Outcome.PASS, Outcome.PASS]
