"""The baseline: compared only with an equal configuration; changed only between the markers and after acceptance."""

import json
from dataclasses import replace
from typing import Any

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.accept import accept, accepted
from llmval_tui.actions.documents.baseline_table import BEGIN, END, read_baselines
from llmval_tui.actions.registry import action_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Outcome, worst
from tests.helpers.drift_lists import LIST, judged


def test_from_no_baseline_to_accepted_to_within_to_drifted(workspace, compare, result_json):
    document = "# B\r\n\r\nMy words.\r\n\r\n" + f"{BEGIN}\r\nNot measured yet. Run it.\r\n{END}\r\n\r\nMore.\r\n"
    path = workspace.write("docs/b.md", document)
    run = compare()
    gates, question = judged(workspace, run)
    assert gates == {"baseline": Outcome.INCONCLUSIVE}
    assert question["kind"] == "accept"
    assert "+### tiny, float32, 2xTest-CPU, 28 requests/s" in question["diff"]
    assert path.read_bytes() == document.encode(), "nothing changes before the operator accepts"

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


HOST: dict[str, Any] = {
    "name": "node1",
    "gpu": {"driver_version": "580.1", "gpus": [{"index": 0, "power_limit_w": 700.0}]},
}


@pytest.mark.parametrize(
    ("identity", "ours", "host", "says"),
    [
        ({"model": "llama40b"}, {}, HOST, "model llama40b instead of tiny"),
        ({"model": "tiny-custom", "shape": {"layers": 3, "hidden": 64}}, {}, HOST,
         "model tiny-custom,layers:3,hidden:64 instead of tiny"),
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
        ({"compile_mode": "smart"}, {}, HOST, "compile_mode smart instead of off"),
        ({}, {"workload": {"target_qps": 29.0}}, HOST, "target_qps 29 instead of 28"),
        ({}, {"workload": {"duration_s": 300.0}}, HOST, "duration_s 300 instead of 8"),
        ({}, {"workload": {"burstiness": 0.5}}, HOST, "burstiness 0.5 instead of 1"),
        ({}, {"workload": {"max_in_flight": 4}}, HOST, "max_in_flight 4 instead of none"),
        ({}, {"workload": {"prompt_len": "fixed:64"}}, HOST, "prompt_len fixed:64 instead of uniform:16:64"),
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
    value = result_json(**{name: part for name, part in ours.items() if name != "workload"})
    value["llmval"]["identity"] |= identity
    value["llmval"]["workload"] |= ours.get("workload", {})
    gates, question = judged(workspace, compared(value, host))
    assert gates == {"baseline": Outcome.INCONCLUSIVE}
    assert f"({says})" in question["text"], "one thing differs, and it is named"


def test_an_edited_document_is_not_overwritten(workspace, compare):
    path = workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")
    run = compare()
    judged(workspace, run)
    path.write_text(path.read_text() + "edited in vim\n")
    with pytest.raises(Refused, match="was edited after"):
        accept(run)
    assert path.read_text().endswith("edited in vim\n")
    assert accepted(run) is None


def test_a_missing_document_is_made_on_acceptance(workspace, compare):
    run = compare()
    judged(workspace, run)
    assert not (workspace.folder / "docs").exists()
    accept(run)
    assert len(read_baselines((workspace.folder / "docs/b.md").read_text(), "b")) == 1


def test_a_result_that_changed_after_its_verdict_is_refused(workspace, load_run, capsys):
    workspace.judge(load_run(None, LIST), Outcome.PASS)
    run = workspace.run(workspace.context(LIST, "1.2"), workspace.propose(LIST, "1.2"))
    workspace.write("artifacts/r.json", json.dumps({}))
    assert perform.main([str(run.folder)]) == 2
    assert "changed after run" in capsys.readouterr().err


def test_without_evidence_there_is_no_baseline(workspace, load_run):
    assert "has passed yet" in (workspace.propose(LIST, "1.2").refusal or "")
    workspace.judge(load_run(None, LIST), Outcome.FAIL)
    assert "has passed yet" in (workspace.propose(LIST, "1.2").refusal or "")
    context = workspace.context(LIST, preset="smoke")
    proposal = workspace.propose(LIST)
    smoke = workspace.run(context, replace(proposal, artifacts=load_run(None, LIST).intent.artifacts))
    workspace.judge(smoke, Outcome.PASS)
    assert "only as a smoke run" in (workspace.propose(LIST, "1.2").refusal or "")
    assert workspace.propose(LIST, "1.2", demo=True).refusal is None


def test_broken_markers_are_refused(workspace, load_run):
    workspace.judge(load_run(None, LIST), Outcome.PASS)
    workspace.write("docs/b.md", f"{END}\n{BEGIN}\n")
    assert "repair its markers" in (workspace.propose(LIST, "1.2").refusal or "")
    workspace.write("docs/b.md", f"{BEGIN}\n### x\n\n- `model=a`\n\n| tpot | lower | fast | ms |\n{END}\n")
    assert "“x”" in (workspace.propose(LIST, "1.2").refusal or "")
