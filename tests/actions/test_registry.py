"""Every item of the operator's list and of other lists gets the right action; an ambiguous item is refused."""

import subprocess
import sys

import pytest

from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.registry import propose, reading_of
from llmval_tui.checklist.model import load, parse
from llmval_tui.foundation.paths import bundled

OPERATOR = """\
# LLM Validation Checklist (Hardware Runs)

## 1. Multi-GPU Inference Benchmark (NVLink Mesh)
- [ ] Export NCCL env (`docs/nvlink_pcie_playbook.md`).
- [ ] Run: `torchrun --nproc_per_node=8 ch16/inference_server_load_test.py --output-json artifacts/x.json`
- [ ] Capture Nsight Systems trace via `scripts/capture_fp8_flexattention_traces.sh`.
- [ ] Update throughput/latency expectations in `docs/performance_baseline.md` if they drift >5%.

## 2. torch.compile Hang Investigation (40B+)
- [ ] Reproduce with and without `--compile-mode smart` on the 40B checkpoint.
- [ ] Use `python tools/torch_compile_repro.py --model llama40b --output-dir artifacts/repro_$(date +%Y%m%d)`.
- [ ] Collect stdout/stderr logs and attach to the repro bundle.
- [ ] File/Update PyTorch bug report, link in `docs/TODO.md`.

## 3. Power Efficiency Sweep
- [ ] Run: `python tools/precision_power_sweep.py --output-dir power_results/$(date +%Y%m%d)`.
- [ ] Summarise with `python tools/power_efficiency_analyzer.py power_results/<date>/*.json --output artifacts/s.json`.
- [ ] Update `docs/power_efficiency_baselines.md` with new tables.

## 4. Long-Context Validation (32K+, FP8)
- [ ] Run: `python tools/long_context_validation.py --sequence-lengths 32768 65536 --output-json artifacts/l.json`.
- [ ] Note peak memory, add findings to `docs/long_context_playbook.md` (create if absent).
- [ ] Update `docs/TODO.md` once 32K/64K runs pass without OOM.
"""
EXPECTED = {
    "1.1": "env_export",
    "1.2": "command",
    "1.3": "trace_capture",
    "1.4": "baseline_drift",
    "2.1": "paired_run",
    "2.2": "command",
    "2.3": "collect_logs",
    "2.4": "bug_report",
    "3.1": "command",
    "3.2": "summary",
    "3.3": "table_update",
    "4.1": "command",
    "4.2": "findings_note",
    "4.3": "gated_todo",
}


def test_operators_list(tmp_path):
    checklist = parse(OPERATOR.encode(), tmp_path / "list.md")
    assert {step.number: reading_of(step, checklist).action for step in checklist.steps} == EXPECTED


def test_own_list():
    checklist = load(bundled("docs") / "llm_validation_checklist.md")
    assert {step.number: reading_of(step, checklist).action for step in checklist.steps} == EXPECTED


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Run `nvidia-smi topo -m`", "command"),
        ("Execute: `./burn_in.sh --hours 2 | tee artifacts/burn.log`", "command"),
        ("Check that `python` is version 3.11", "manual"),
        ("Use `docs/notes.md`", "manual"),
        ("Use `--fast`", "manual"),
        ("Rack the node and label the cables", "manual"),
        ("Set the NCCL variables from [the playbook](docs/nccl.md)", "manual"),
        ("Set the NCCL variables from [the playbook](docs/nvlink_pcie_playbook.md)", "env_export"),
        ("Run `python tools/torch_compile_repro.py` with and without `--compile`", "paired_run"),
        ("Anything at all <!-- llmval: action=manual -->", "manual"),
        ("Look at `python x.py` <!-- llmval: action=collect_logs -->", "collect_logs"),
        ("Update `docs/x_tables.md`", "manual"),  # words in a file name do not count
    ],
)
def test_other_lists(workspace, text, action):
    context = workspace.context(text)
    assert reading_of(context.step, context.checklist).action == action


def test_a_document_with_llmvals_markers_is_llmvals(workspace):
    text = "Set the NCCL variables from [the playbook](docs/nccl.md)"
    context = workspace.context(text)
    workspace.write("docs/nccl.md", "# Nothing\n")
    assert reading_of(context.step, context.checklist, workspace.folder).action == "manual"
    workspace.write("docs/nccl.md", "<!-- llmval:env nvlink -->\n```\nexport A=1\n```\n")
    assert reading_of(context.step, context.checklist, workspace.folder).action == "env_export"


def test_two_that_fit_are_asked_about_and_not_guessed(workspace):
    proposal = workspace.propose("Run `python x.py` and collect its logs")
    assert proposal.reading.kind is Kind.ASK
    assert "action=collect_logs" in proposal.reading.question
    assert "action=command" in proposal.reading.question


def test_a_criterion_is_shown_with_its_source(workspace):
    proposal = workspace.propose('Run `python3 --version` <!-- llmval: expect="stdout /(\\d+)/ >= 3" -->')
    assert r"requires stdout /(\d+)/ >= 3 (expect=)" in proposal.details
    assert "python3 is python3" not in proposal.details
    assert proposal.summary == "Runs python3 and judges its exit code and what the item demands."


SILENT = "; without any output, the verdict is inconclusive."


@pytest.mark.parametrize(
    ("item", "summary"),
    [
        ("Run `python3 --version`", f"Runs python3 and judges its exit code{SILENT}"),
        ("Run `test -d /` and `test -e /`", f"Runs 2 commands in order (test, test); all must pass{SILENT}"),
        (
            'Run `test -d /` <!-- llmval: expect="exit == 0" -->',
            f"Runs test and judges its exit code and what the item demands{SILENT}",
        ),
        ("Run `python3 --version > out.txt`", "Runs python3 and judges out.txt."),
        # Whether another program counts in seconds or minutes is not known.
        ("Run `test --duration 5m`", f"Runs test and judges its exit code{SILENT}"),
    ],
)
def test_a_command_without_files_says_what_becomes_of_it_without_output(workspace, item, summary):
    assert workspace.propose(item).summary == summary


@pytest.mark.parametrize("item", ["`test -d /tmp` prints nothing", "`true`: no errors"])
def test_a_command_that_may_be_silent_says_no_such_thing(workspace, item):
    assert "inconclusive" not in workspace.propose(item).summary


def test_the_proposal_names_the_reason(workspace):
    assert "has the command" in workspace.propose("Run `nvidia-smi topo -m`").details[0]


def test_unknown_stated_action_is_a_refusal(workspace):
    proposal = workspace.propose("Do it <!-- llmval: action=fly -->")
    assert "no action 'fly'" in (proposal.refusal or "")


@pytest.mark.parametrize(
    ("comment", "key"), [("acton=command", "acton="), ("action=command bundle=artifacts/x", "bundle=")]
)
def test_an_unknown_key_is_refused(workspace, comment, key):
    refusal = workspace.propose(f"Run `./go.sh` <!-- llmval: {comment} -->").refusal
    assert f"contains {key}, but to run a command llmval reads only action=" in refusal


def test_manual_can_only_be_ticked_with_a_note(workspace):
    proposal = workspace.propose("Rack the node")
    assert not proposal.commands
    assert "tick 1.1 --note" in (proposal.refusal or "")


def test_propose_answers_for_every_item_without_raising(tmp_path, workspace, no_runners):
    for step in parse(OPERATOR.encode(), tmp_path / "list.md").steps:
        proposal = propose(workspace.context(OPERATOR, step.number, gpus=None))
        assert proposal.action == EXPECTED[step.number]
        # Only the environment item can run here: llmval brings its playbook.
        assert (proposal.refusal is None) is (step.number == "1.1"), (step.number, proposal.refusal)


def test_the_steps_leave_the_patterns_of_redaction_until_a_step_needs_them() -> None:
    """They take longer to compile than all steps to import."""
    code = (
        "import sys; from llmval_tui.actions import registry; "
        "from llmval_tui.actions.steps import bug_report, collect_logs; "
        "sys.exit('llmval_tui.foundation.redaction' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300, check=False).returncode == 0
