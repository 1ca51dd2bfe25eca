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
from llmval_tui.actions.drift import changes
from llmval_tui.actions.registry import action_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.resources import bundled
from llmval_tui.runs.records import Outcome, worst

RUN_ITEM = (
    "Run `torchrun --nproc_per_node=2 x/inference_server_load_test.py --fp8-mode none --attention-backend flex "
    "--device cpu --model tiny --output-json artifacts/r.json`"
)
LIST = f"# L\n\n## 1. Part\n- [ ] {RUN_ITEM}\n- [ ] Update expectations in `docs/b.md` if they drift >5%.\n"


@pytest.fixture
def compare(workspace, load_run):
    """Judges a load test with this result, then runs the drift item; its run, judged."""

    def make(result=None, **run_changes):
        source = load_run(result, LIST, **run_changes)
        workspace.judge(source, Outcome.PASS)
        proposal = workspace.propose(LIST, "1.2")
        assert proposal.refusal is None, proposal.refusal
        run = workspace.run(workspace.context(LIST, "1.2"), proposal)
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
        record["last_token_s"] += 0.020 * 7 * 0.06  # TPOT 6 % worse
    gates, question = judged(workspace, compare(slow))
    assert gates["tpot_p50_ms"] is Outcome.FAIL
    assert gates["ttft_sched_p50_ms"] is Outcome.PASS
    assert question["diff"].count("\n-| tpot_p50_ms") == 1

    fast = result_json()
    for record in fast["llmval"]["requests"]:
        record["last_token_s"] -= 0.020 * 7 * 0.06
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
