"""The compile section: the verdict on a study, the pair, the logs in the bundle, and the report."""

import json
import tarfile

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.actions.gates.exit import exit_gates
from llmval_tui.actions.judges.compile_study import side_by_side
from llmval_tui.actions.registry import action_named
from llmval_tui.runs.records import Outcome, worst
from tests.helpers.study_results import hang, study, write_bundle

FLAGS = "--model tiny --sequence-length 64 --batch-size 1 --tensor-parallel-gpus 2 --device cpu"
LIST = f"""# L

## 2. Hang
- [ ] Reproduce with and without `--compile-mode smart` on the 40B checkpoint.
- [ ] Use `python tools/torch_compile_repro.py {FLAGS} --output-dir artifacts/repro`.
- [ ] Collect stdout/stderr logs and attach to the repro bundle.
- [ ] File/Update PyTorch bug report, link in `docs/TODO.md`.
"""


def studied(workspace, result, *, exit_code=0, outcome=None, stacks=True, **changes):
    """A finished run of item 2.2 with this result in its bundle."""
    context = workspace.context(LIST, "2.2", **changes)
    proposal = workspace.propose(LIST, "2.2", **changes)
    assert proposal.refusal is None, proposal.refusal
    write_bundle(workspace.folder / proposal.params["output_folders"][0], result, stacks=stacks)
    run = workspace.run(context, proposal, exit_code=exit_code, telemetry=False, outcome=outcome)
    (run.logs_folder / "main.stderr.log").write_text("said\n")
    return run


def judged(run):
    gates, metrics, summary, _ = action_named(run.intent.action).judge(run)
    return {gate.name: gate for gate in gates}, worst(gates + exit_gates(run)), metrics, summary


def test_the_examples_are_as_the_runner_writes_them(tmp_path):
    for result in (study(), hang()):
        path = tmp_path / "result.json"
        path.write_text(json.dumps(result))
        assert schema_problem(path, "compile_repro") is None


def test_both_answers_pass_and_name_the_finding(workspace):
    _, outcome, metrics, summary = judged(studied(workspace, study()))
    assert outcome is Outcome.PASS
    assert summary.startswith("did not reproduce here: compiled in 60.0 s")
    assert (metrics["compile_s"], metrics["compiled_step_ms"], metrics["compiled_peak_memory_gib"]) == (60.0, 50.0, 2.0)
    _, outcome, _, summary = judged(studied(workspace, hang(), exit_code=3))
    assert outcome is Outcome.PASS
    assert summary == "reproduced: collective_desync, rank 1, all_reduce"


@pytest.mark.parametrize(
    ("result", "code", "gate", "outcome"),
    [
        (hang(injected="skipped_collective"), 3, "not injected", Outcome.INVALID),
        (study(injected="dynamo_sleep"), 0, "not injected", Outcome.INVALID),
        (hang(outcome="timeout"), 3, "answer", Outcome.INCONCLUSIVE),
        (hang(verdict=None), 3, "answer", Outcome.INCONCLUSIVE),
        (hang(last_phase={"0": "eager", "1": "load"}), 3, "answer", Outcome.INCONCLUSIVE),
        (hang(), 0, "exit and result agree", Outcome.INVALID),
        (study(), 3, "exit and result agree", Outcome.INVALID),
        (study(outcome="failed"), 1, "answer", Outcome.FAIL),
        (study(compiled=None), 0, "compiled", Outcome.INCONCLUSIVE),
        (study(compiled={**study()["compiled"], "compiled": "nothing: eager", "fallback": "x"}), 0, "compiled",
         Outcome.INCONCLUSIVE),
        (study(workload={**study()["workload"], "tensor_parallel_gpus": 1}), 0, "ran as asked", Outcome.FAIL),
    ],
)  # fmt: skip
def test_other_outcomes_do_not_pass(workspace, result, code, gate, outcome):
    gates, verdict, _, _ = judged(studied(workspace, result, exit_code=code))
    assert gates[gate].outcome is outcome
    assert verdict is not Outcome.PASS


def test_a_hang_needs_a_complete_bundle_with_stacks(workspace):
    assert judged(studied(workspace, hang(), exit_code=3, stacks=False))[0]["bundle"].outcome is Outcome.FAIL
    run = studied(workspace, hang(), exit_code=3)
    manifest = workspace.folder / "artifacts/repro/manifest.json"
    manifest.write_text(manifest.read_text().replace("stacks/rank0.txt", "stacks/rank1.txt"))
    assert "differ" in judged(run)[0]["bundle"].reason


def test_a_damaged_result_is_invalid_and_not_an_error(workspace):
    run = studied(workspace, study())
    workspace.write("artifacts/repro/result.json", '{"kind": "compile_repro"}')
    assert judged(run)[1] is Outcome.INVALID


def test_exit_3_is_a_finding_of_this_runner_only(workspace):
    workspace.write("own.py", "")
    context = workspace.context("Run `python own.py`")
    run = workspace.run(context, workspace.propose("Run `python own.py`"), exit_code=3)
    assert exit_gates(run)[0].outcome is Outcome.FAIL
    assert exit_gates(studied(workspace, hang(), exit_code=3))[0].outcome is Outcome.PASS
    assert exit_gates(studied(workspace, hang(), exit_code=1))[0].outcome is Outcome.FAIL


def test_a_study_is_proposed_as_it_will_end(workspace):
    proposal = workspace.propose(LIST, "2.2")
    assert proposal.artifacts[0].path == "artifacts/repro/result.json"
    assert proposal.artifacts[0].schema == "compile_repro"
    # Packing again must not invalidate a tick.
    assert not any("bundle.tar.gz" in artifact.path for artifact in proposal.artifacts)
    refusal = workspace.propose(LIST.replace("python tools", "torchrun --nproc_per_node=2 tools"), "2.2").refusal
    assert "instead of torchrun" in (refusal or "")


def test_smoke_makes_a_study_small_on_a_cpu(workspace):
    text = (
        "Use `python torch_compile_repro.py --model llama40b --checkpoint /m --tensor-parallel-gpus 8 --output-dir a/b`"
    )
    proposal = workspace.propose(text, gpus=0, preset="smoke")
    argv = " ".join(proposal.commands[0].argv)
    for part in ("--model tiny", "--tensor-parallel-gpus 2", "--device cpu", "--steps 3", "--output-dir a/b.smoke"):
        assert part in argv
    assert "--checkpoint" not in argv
    assert "tensor-parallel-gpus 2 instead of 8" in proposal.deviations[0]


def test_a_pair_is_set_side_by_side(workspace):
    proposal = workspace.propose(LIST, "2.1")
    assert proposal.deviations == ("random weights in the shape of tiny instead of a checkpoint",)
    smart = study(compile={**study()["compile"], "compile_mode": "smart"})
    smart["compiled"] = {**smart["compiled"], "compile_s": 12.0}
    write_bundle(workspace.folder / "artifacts/repro.with", smart)
    write_bundle(workspace.folder / "artifacts/repro.without", study())
    run = workspace.run(workspace.context(LIST, "2.1"), proposal, telemetry=False)
    gates, outcome, metrics, summary = judged(run)
    assert outcome is Outcome.PASS
    assert metrics["compile_s_ratio"] == pytest.approx(0.2)
    assert "compile 12 s against 60 s" in gates["side by side"].measured
    assert "with --compile-mode smart against without" in summary
    other = study(workload={**study()["workload"], "sequence_length": 128})
    assert side_by_side("--x", smart, other)[0][0].outcome is Outcome.INVALID


def test_logs_go_into_the_bundle_which_is_packed_again(workspace):
    source = studied(workspace, study())
    proposal = workspace.propose(LIST, "2.3")
    assert proposal.refusal is None
    run = workspace.run(workspace.context(LIST, "2.3"), proposal)
    assert perform.main([str(run.folder)]) == 0
    gates, outcome, _, _ = judged(run)
    assert outcome is Outcome.PASS, gates
    with tarfile.open(workspace.folder / "artifacts/repro/bundle.tar.gz") as archive:
        names = archive.getnames()
    assert f"repro/logs/{source.id}/main.stderr.log" in names
    assert "repro/logs/manifest.json" in names
    assert judged(source)[1] is Outcome.PASS, "packing again does not change the study's verdict"
    (workspace.folder / "artifacts/repro/bundle.tar.gz").write_bytes(b"")
    assert judged(run)[0]["bundle: repro"].outcome is Outcome.FAIL


def test_a_secret_in_a_log_is_overwritten_before_it_is_hashed(workspace, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_seededsecretvalue123")
    source = studied(workspace, study())
    (source.logs_folder / "main.stderr.log").write_text("token hf_seededsecretvalue123\n")
    run = workspace.run(workspace.context(LIST, "2.3"), workspace.propose(LIST, "2.3"))
    assert perform.main([str(run.folder)]) == 0
    assert judged(run)[1] is Outcome.PASS
    copy = workspace.folder / f"artifacts/repro/logs/{source.id}/main.stderr.log"
    assert "seededsecret" not in copy.read_text()


def test_the_report_is_that_of_the_bundle(workspace):
    studied(workspace, hang(), exit_code=3)
    proposal = workspace.propose(LIST, "2.4")
    assert "artifacts/repro: reproduced: collective_desync, rank 1" in " ".join(proposal.details)
    run = workspace.run(workspace.context(LIST, "2.4"), proposal)
    assert perform.main([str(run.folder)]) == 0
    report = workspace.folder / "artifacts/repro/bug_report.md"
    assert (run.folder / "bug_report.md").read_text() == report.read_text()
    question = action_named("bug_report").judge(run)[3]
    assert "attach artifacts/repro/bundle.tar.gz" in question["text"]
    report.write_text("edited")
    assert perform.main([str(run.folder)]) == 2


def test_an_injected_hang_is_neither_reported_nor_evidence(workspace):
    studied(workspace, hang(injected="dynamo_sleep"), exit_code=3)
    assert "injected hang" in (workspace.propose(LIST, "2.4").refusal or "")
    run = workspace.run(workspace.context(LIST, "2.3"), workspace.propose(LIST, "2.3"))
    assert perform.main([str(run.folder)]) == 0
    assert judged(run)[1] is Outcome.INVALID


def test_nothing_rests_on_a_trial(workspace):
    studied(workspace, study(), preset="smoke")
    assert "no run of this section has ended" in (workspace.propose(LIST, "2.3").refusal or "")
    assert "nothing to report" in (workspace.propose(LIST, "2.4").refusal or "")
    assert workspace.propose(LIST, "2.3", preset="smoke").refusal is None
    assert workspace.propose(LIST, "2.3", demo=True).refusal is None
