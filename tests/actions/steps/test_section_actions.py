"""Actions that rest on a section's other runs: logs, bug report, summary, pair, gated record; and plugins."""

import json
from importlib.metadata import EntryPoint

import pytest

from llmval_tui.actions import perform, registry
from llmval_tui.actions.accept import accept
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.steps.gated_todo import covered
from llmval_tui.console import doctor
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.evidence import archive
from llmval_tui.runs.records import Artifact, Outcome, worst

LIST = """# L

## 2. Hang
- [ ] Reproduce with and without `--fp8-mode none`.
- [ ] Use `python inference_server_load_test.py --seed 1 --output-json artifacts/r.json --output-dir artifacts/repro`.
- [ ] Collect stdout/stderr logs and attach to the repro bundle.
- [ ] File/Update PyTorch bug report, link in `docs/TODO.md`.

## 4. Long
- [ ] Run: `python long.py --sequence-lengths 32768 65536`
- [ ] Update `docs/TODO.md` once 32K/64K runs pass without OOM.
"""


def performed(workspace, number):
    proposal = workspace.propose(LIST, number)
    assert proposal.refusal is None, proposal.refusal
    run = workspace.run(workspace.context(LIST, number), proposal)
    code = perform.main([str(run.folder)])
    return run, code


def command_run(workspace, number, **changes):
    return workspace.run(workspace.context(LIST, number), workspace.propose(LIST, number), **changes)


def test_a_pair_differs_by_the_flag_and_keeps_both_results(workspace):
    proposal = workspace.propose(LIST, "2.1")
    assert proposal.refusal is None
    one, other = proposal.commands
    assert (one.label, other.label) == ("with", "without")
    assert one.argv[-2:] == ["--fp8-mode", "none"]
    assert "--fp8-mode" not in other.argv
    paths = [artifact.path for artifact in proposal.artifacts]
    assert paths == [
        "artifacts/r.with.json",
        "artifacts/repro.with",
        "artifacts/r.without.json",
        "artifacts/repro.without",
    ]


def test_each_half_of_a_pair_is_judged_by_its_own_result(workspace, result_json):
    text = (
        "Run `python inference_server_load_test.py --model tiny --output-json r.json` with and without `--device cpu`"
    )
    proposal = workspace.propose(text)
    good, bad = result_json(), result_json()
    bad["total_output_tokens"] = 1
    workspace.write("r.with.json", json.dumps(good))
    workspace.write("r.without.json", json.dumps(bad))
    gates, metrics, _, _ = action_named("paired_run").judge(workspace.run(workspace.context(text), proposal))
    assert [gate.name for gate in gates if gate.outcome is not Outcome.PASS] == ["without: totals"]
    assert metrics["with_offered_qps"] == metrics["without_offered_qps"]


def test_a_pair_needs_one_command(workspace):
    text = "# L\n\n## 1. A\n- [ ] Try with and without `--x`. <!-- llmval: action=paired_run -->\n"
    assert "write the command" in (workspace.propose(text).refusal or "")
    workspace.write("own.py", "")
    own = workspace.propose(
        "Run `python own.py --seed 3 --x 5` with and without `--x 4` <!-- llmval: action=paired_run -->"
    )
    assert own.commands[0].argv[-2:] == ["--x", "4"]
    assert "--x" not in own.commands[1].argv
    assert "--seed" in own.commands[1].argv


def test_logs_are_copied_with_their_hashes(workspace):
    assert "run its command first" in (workspace.propose(LIST, "2.3").refusal or "")
    source = command_run(workspace, "2.2")
    (source.logs_folder / "main.stdout.log").write_bytes(b"out \xff\n")
    (source.logs_folder / "main.rank0.stderr.log").write_text("err\n")
    run, code = performed(workspace, "2.3")
    assert code == 0
    folder = workspace.folder / "artifacts/repro/logs"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["path"].rpartition("/")[2] for entry in manifest["files"]} == {
        "main.stdout.log",
        "main.rank0.stderr.log",
    }
    assert (folder / source.id / "main.stdout.log").read_bytes() == b"out \xff\n"
    judge = action_named("collect_logs").judge
    assert worst(judge(run)[0]) is Outcome.PASS
    (folder / source.id / "main.stdout.log").write_bytes(b"other\n")
    assert worst(judge(run)[0]) is Outcome.FAIL


def test_empty_logs_are_not_evidence(workspace):
    source = command_run(workspace, "2.2")
    (source.logs_folder / "main.stdout.log").touch()
    run, _ = performed(workspace, "2.3")
    assert worst(action_named("collect_logs").judge(run)[0]) is Outcome.FAIL


def test_the_bug_report_waits_for_its_link(workspace):
    assert "nothing to report" in (workspace.propose(LIST, "2.4").refusal or "")
    source = command_run(workspace, "2.2", outcome=Outcome.FAIL, versions={"torch": "2.13.0"})
    (source.logs_folder / "main.stderr.log").write_text("```\nTraceback\x1b[2J\n")
    run, code = performed(workspace, "2.4")
    assert code == 0
    text = (run.folder / "bug_report.md").read_text()
    assert "### 🐛 Describe the bug" in text
    assert "- torch: 2.13.0" in text
    assert "\x1b" not in text
    assert "````text" in text, "a fence in the log must not close the fence of the report"
    judge = action_named("bug_report").judge
    gates, _, _, question = judge(run)
    assert worst(gates) is Outcome.INCONCLUSIVE, "a report must be filed"
    workspace.judge(run, Outcome.INCONCLUSIVE, question)
    for bad in (None, "javascript:alert(1)", "https://x y", "see the tracker"):
        with pytest.raises(Refused, match="https://"):
            accept(run, bad)
    accept(run, "https://github.com/pytorch/pytorch/issues/1")
    gates, _, summary, question = judge(run)
    assert worst(gates) is Outcome.PASS
    assert question is None
    assert summary.endswith("/issues/1")


def test_a_run_without_a_question_accepts_nothing(workspace):
    run = command_run(workspace, "2.2", outcome=Outcome.PASS)
    with pytest.raises(Refused, match="has no question"):
        accept(run)


def test_gated_record(workspace):
    workspace.write("long.py", "")
    assert "item 4.1 has not run yet" in (workspace.propose(LIST, "4.2").refusal or "")
    run = command_run(workspace, "4.1")
    assert "not judged yet" in (workspace.propose(LIST, "4.2").refusal or "")
    workspace.judge(run, Outcome.INCONCLUSIVE)
    assert "inconclusive" in (workspace.propose(LIST, "4.2").refusal or "")
    workspace.judge(run, Outcome.PASS)
    done, code = performed(workspace, "4.2")
    assert code == 0
    assert worst(action_named("gated_todo").judge(done)[0]) is Outcome.PASS
    assert json.loads((done.folder / "rests_on.json").read_text())["rests_on"][0]["run_id"] == run.id
    workspace.judge(run, Outcome.FAIL)
    assert worst(action_named("gated_todo").judge(done)[0]) is Outcome.FAIL


def test_a_record_rests_on_the_files_and_not_on_the_verdict_alone(workspace):
    workspace.write("long.py", "")
    result = workspace.write("artifacts/long.json", '{"of": 1}')
    source = command_run(workspace, "4.1", artifacts=(Artifact("artifacts/long.json"),), outcome=Outcome.PASS)

    def judged():
        done, code = performed(workspace, "4.2")
        assert code == 0
        gates = action_named("gated_todo").judge(done)[0]
        return next(gate for gate in gates if gate.name == "evidence of the runs")

    assert judged().outcome is Outcome.PASS
    archive(source.folder, source.verdict().evidence, workspace.folder)
    result.write_text('{"of": 2}')
    assert judged().outcome is Outcome.PASS, "the run's own copy is the judged one"
    next(source.folder.glob("evidence/*")).unlink()
    gate = judged()
    assert gate.outcome is Outcome.INVALID
    assert gate.reason == f"artifacts/long.json of run {source.id}: changed; run its item again"
    result.unlink()
    assert "missing" in judged().reason


def test_a_record_deviates_as_the_runs_it_rests_on(workspace):
    workspace.write("long.py", "")
    command_run(workspace, "4.1", outcome=Outcome.PASS, deviations=["4 GPUs instead of 8"])
    assert workspace.propose(LIST, "4.2").deviations == ("rests on item 4.1: 4 GPUs instead of 8",)


def test_a_smoke_run_does_not_open_the_gate(workspace):
    workspace.write("long.py", "")
    proposal = workspace.propose(LIST, "4.1")
    workspace.run(workspace.context(LIST, "4.1", preset="smoke"), proposal, outcome=Outcome.PASS)
    assert "was a smoke run" in (workspace.propose(LIST, "4.2").refusal or "")
    assert workspace.propose(LIST, "4.2", demo=True).refusal is None


def test_a_gated_record_covers_the_lengths_that_it_names(workspace):
    workspace.write("long.py", "")
    other = LIST.replace("32K/64K", "32K/128K")
    run = workspace.run(workspace.context(other, "4.1"), workspace.propose(other, "4.1"))
    workspace.judge(run, Outcome.PASS)
    assert "131072" in (workspace.propose(other, "4.2").refusal or "")
    assert "131072" in (workspace.propose(other.replace("128K", "128k"), "4.2").refusal or "")
    assert workspace.propose(other.replace("32K/128K", "32k"), "4.2").refusal is None


def test_a_divided_length_covers_its_result_except_in_a_demo(workspace):
    workspace.write("long.py", "")
    divided = LIST.replace("65536`", "65536 --length-divisor 64`")
    run = workspace.run(workspace.context(divided, "4.1"), workspace.propose(divided, "4.1"), outcome=Outcome.PASS)
    assert "do not cover 32768, 65536 tokens" in (workspace.propose(divided, "4.2").refusal or "")
    assert covered(run, demo=False) == {512, 1024}
    assert workspace.propose(divided, "4.2", demo=True).refusal is None


SUMMARY = "Summarise with `python sum.py power/<date>/*.json --output artifacts/s_<date>.json`"


def test_summary_takes_the_newest_date_that_has_files(workspace):
    workspace.write("sum.py", "")
    assert "for any date" in (workspace.propose(SUMMARY).refusal or "")
    for name in ("power/20260101/b.json", "power/20260101/a.json", "power/20251231/c.json", "power/20260103/x.txt"):
        workspace.write(name, "{}")
    proposal = workspace.propose(SUMMARY)
    assert proposal.refusal is None
    assert proposal.params["files"] == ["power/20260101/a.json", "power/20260101/b.json"]
    assert proposal.commands[0].argv[-4:] == [
        "power/20260101/a.json",
        "power/20260101/b.json",
        "--output",
        "artifacts/s_20260101.json",
    ]
    assert "20260101" in proposal.summary


@pytest.mark.usefixtures("no_runners")
def test_a_runner_of_a_later_release_cannot_run(workspace):
    for text in (
        "Summarise with `python power_efficiency_analyzer.py power/<date>/*.json`",
        "Capture a trace via `capture_fp8_flexattention_traces.sh`",
    ):
        proposal = workspace.propose(text)
        assert "this version of llmval" in (proposal.refusal or "")
        assert not proposal.commands


class Plugin:
    name = "fan_check"
    title = "check the fans"

    def matches(self, step):
        return "says fans" if "fans" in step.text else None

    def propose(self, context):
        raise Refused("the fans cannot be asked here: look.")

    def perform(self, run):
        return 0

    def judge(self, run):
        return [], {}, "", None


@pytest.fixture
def plugins(monkeypatch):
    entries = [
        EntryPoint("fan_check", f"{__name__}:Plugin", registry.PLUGIN_GROUP),
        EntryPoint("broken", "no_such_module:X", registry.PLUGIN_GROUP),
    ]
    monkeypatch.setattr(EntryPoint, "load", lambda self: Plugin if self.name == "fan_check" else __import__("no_such"))
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry.actions.cache_clear()
    registry._plugins.cache_clear()
    yield
    registry.actions.cache_clear()
    registry._plugins.cache_clear()


@pytest.mark.usefixtures("plugins")
def test_a_plugin_joins_and_a_broken_one_is_named(workspace):
    proposal = workspace.propose("Look at the fans")
    assert proposal.action == "fan_check"
    assert proposal.refusal == "the fans cannot be asked here: look."
    (check,) = doctor._plugins()
    assert (check.name, check.state) == ("plugin broken", "missing") and "no_such" in check.found
    stated = workspace.propose("Do it <!-- llmval: action=broken -->")
    assert "could not be loaded" in (stated.refusal or "")


def test_perform_refuses_in_one_sentence(tmp_path, capsys):
    assert perform.main([str(tmp_path)]) == 2
    assert "has no run.json" in capsys.readouterr().err
    assert perform.main([]) == 2
