"""The trace item: its proposal decides every default, and its judge reads the content of the trace."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.engine.shapes import DEFAULT_MODEL
from llmval_runners.tracing import options

from llmval_tui.actions.command.argv import value_of
from llmval_tui.actions.gates.artifacts import artifact_gates, schema_problem
from llmval_tui.actions.judges.trace import DEFAULTS, MODEL, same_flag_value, variable
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.steps.command import required_command
from llmval_tui.runs.records import Outcome, worst
from llmval_tui.runs.store import Run

ITEM = "Capture Nsight Systems trace via `scripts/capture_fp8_flexattention_traces.sh`."
FOLDER = "artifacts/traces/20260102T030405Z"
INSTEAD = "a trace by PyTorch's profiler instead of Nsight Systems (nsys is not on the PATH)"


def trace_json(tool: str = "torch", **changes: Any) -> dict[str, Any]:
    """A summary of eight H200s; PyTorch's profiler recorded rank 0."""
    devices = ["0"] if tool == "torch" else [str(number) for number in range(8)]
    return {
        "schema": 1,
        "kind": "trace_summary",
        "created_utc": "2026-01-02T03:10:00Z",
        "tool": {"name": tool, "version": "2.11.0", "why": "nsys is not on the PATH" if tool == "torch" else None},
        "versions": {"torch": "2.11.0+cu130", "cuda": "13.0", "transformer_engine": None},
        "window": {
            "profiler": tool, "begin_s": 57.0, "seconds": 3.0, "steps": 250, "ended_by": "the end of the window",
            "ranks": "0",
        },
        "identity": {
            "model": "llama-3.1-8b", "attention_backend": "flex", "fp8_mode": "native", "tensor_parallel": 8,
            "device": "cuda", "device_name": "NVIDIA H200", "shape": {"layers": 32},
        },
        "workload": {"target_qps": 28.0, "duration_s": 60.0, "prompt_len": "uniform:512:1024", "output_len": "512"},
        "load": {"partial": False, "completed": 1680, "failed": 0, "output_tokens_per_s": 13000.0},
        "unit": "kernels",
        "calls": 100_000,
        "total_ms": 2800.0,
        "shares": {"communication": 0.3, "attention": 0.2, "gemm": 0.4, "other": 0.1},
        "gpu_busy_share": 0.9,
        "devices": [
            {"device": name, "kernels": 12_500, "kernel_ms": 2800.0, "busy_share": 0.9} for name in devices
        ],
        "top": [
            {
                "name": "void at::native::nvjet_tst<8>(int)", "group": "gemm", "calls": 5000, "total_ms": 1120.0,
                "mean_us": 224.0, "share": 0.4,
            }
        ],
        "ranges": [{"name": "decode step", "calls": 240, "total_ms": 100.0}],
        "commands": ["torchrun …"],
        "files": [{"name": "trace.json.gz", "bytes": 5}],
        "notes": [],
        **changes,
    }  # fmt: skip


@pytest.fixture
def trace_run(workspace) -> Callable[..., Run]:
    """Creates a finished run with a summary; the trace beside it has five bytes."""

    def make(summary: dict[str, Any], **changes: Any) -> Run:
        proposal = workspace.propose(ITEM)
        assert proposal.refusal is None, proposal.refusal
        run = workspace.run(workspace.context(ITEM), proposal, **changes)
        workspace.write(f"{FOLDER}/summary.json", json.dumps(summary))
        workspace.write(f"{FOLDER}/trace.json.gz", "trace")
        return run

    return make


def with_nsys(folder: Path) -> dict[str, str]:
    tool = folder / "bin" / "nsys"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    return {"PATH": f"{tool.parent}:/usr/bin:/bin"}


def test_the_operators_item_is_decided_before_it_runs(workspace) -> None:
    proposal = workspace.propose(ITEM)
    assert proposal.refusal is None
    assert proposal.action == "trace_capture"
    (command,) = proposal.commands
    assert command.argv[0] == "bash"
    assert command.argv[1].endswith("/capture_fp8_flexattention_traces.sh")
    assert command.argv[2] == "--python"
    line = " ".join(command.argv)
    for part in (f"--output-dir {FOLDER}", "--profiler torch", "--tensor-parallel-gpus 8"):
        assert part in line
    assert "--python" not in command.display
    assert [(one.path, one.schema) for one in proposal.artifacts] == [
        (f"{FOLDER}/summary.json", "trace_summary"), (FOLDER, None)
    ]  # fmt: skip
    assert proposal.deviations == (INSTEAD,)
    assert proposal.params["gpu_indices"] == list(range(8))


def test_the_load_test_under_a_profiler_is_not_a_baseline(workspace) -> None:
    """Other code recognises load tests by this schema."""
    assert all(one.schema != "load_test" for one in workspace.propose(ITEM).artifacts)


def test_with_nsys_there_is_no_deviation_and_the_items_flags_stay(workspace) -> None:
    environment = with_nsys(workspace.folder)
    proposal = workspace.propose(ITEM, environment=environment)
    assert "--profiler nsys" in " ".join(proposal.commands[0].argv)
    assert not proposal.deviations
    given = ITEM.replace(".sh`", ".sh --profiler torch --output-dir artifacts/t --tensor-parallel-gpus 2`")
    proposal = workspace.propose(given, environment=environment)
    line = " ".join(proposal.commands[0].argv)
    assert line.count("--profiler") == line.count("--output-dir") == line.count("--tensor-parallel-gpus") == 1
    assert proposal.artifacts[0].path == "artifacts/t/summary.json"
    assert proposal.deviations == (INSTEAD.replace("nsys is not on the PATH", "as the command asks"),)
    plain = workspace.propose(given.replace("Nsight Systems ", "a "), environment=environment)
    assert not plain.deviations, "the item does not ask for Nsight Systems"


def test_variables_of_the_shell_are_frozen_and_shown(workspace) -> None:
    """The script reads these variables; otherwise one second of the smallest model could tick the item."""
    shell = {"PATH": "/usr/bin:/bin", "TRACE_MODEL": "tiny", "TRACE_DURATION": "1", "TRACE_TARGET_QPS": "1"}
    shell |= {"TRACE_TENSOR_PARALLEL_GPUS": "2", "TRACE_FP8_MODE": "auto", "TRACE_PROFILER": "auto"}
    proposal = workspace.propose(ITEM, environment=shell)
    words = tuple(proposal.commands[0].argv)
    for flag, value in (("--model", "tiny"), ("--duration", "1"), ("--target-qps", "1"), ("--profiler", "torch")):
        assert value_of(words, flag) == value
    assert proposal.deviations == (
        INSTEAD,
        "duration 1 instead of 60 (TRACE_DURATION is set)",
        "target-qps 1 instead of 28 (TRACE_TARGET_QPS is set)",
        "model tiny instead of llama-3.1-8b (TRACE_MODEL is set)",
        "tensor-parallel-gpus 2 instead of 8 (TRACE_TENSOR_PARALLEL_GPUS is set)",
    )
    said = ITEM.replace(".sh`", ".sh --model llama40b`").replace("`scripts", "`TRACE_DURATION=30 scripts")
    proposal = workspace.propose(said, environment=shell)
    words = tuple(proposal.commands[0].argv)
    assert (value_of(words, "--model"), value_of(words, "--duration")) == ("llama40b", "30"), (
        "the item's own flags count"
    )
    assert not any(word in line for line in proposal.deviations for word in ("model", "duration"))
    smoke = workspace.propose(ITEM, environment=shell, preset="smoke")
    assert value_of(tuple(smoke.commands[0].argv), "--duration") == "6"
    assert not any("TRACE_DURATION" in line for line in smoke.deviations), "the preset set it, not the variable"


def test_every_flag_that_a_variable_sets_is_known_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    root = options.parser()
    theirs = {name: value for name, value in vars(root.parse_args([])).items() if not isinstance(value, bool)}
    assert {flag.removeprefix("--").replace("-", "_") for flag in DEFAULTS} == set(theirs)
    for flag, default in DEFAULTS.items():
        theirs_of_flag = theirs[flag.removeprefix("--").replace("-", "_")]
        if flag == "--output-dir":
            assert default is None
        else:
            assert default is None if theirs_of_flag is None else same_flag_value(default or "", str(theirs_of_flag))
        value = "auto" if flag in ("--fp8-mode", "--device", "--profiler") else "3"
        monkeypatch.setenv(variable(flag), value)
    chosen = options.parse([])
    assert str(chosen.trace_seconds) == "3.0" and chosen.model == "3", "the variables of the script itself"
    assert DEFAULT_MODEL == MODEL


@pytest.mark.parametrize("where", ["shell", "item"])
@pytest.mark.parametrize(("backend", "outcome"), [("sdpa", Outcome.PASS), ("flex", Outcome.FAIL)])
def test_a_backend_set_by_a_variable_is_judged(workspace, where: str, backend: str, outcome) -> None:
    item = ITEM if where == "shell" else ITEM.replace("`scripts", "`TRACE_ATTENTION_BACKEND=sdpa scripts")
    shell = {"TRACE_ATTENTION_BACKEND": "sdpa"} if where == "shell" else {}
    context = workspace.context(item, environment={"PATH": "/usr/bin:/bin", **shell})
    proposal = action_named("trace_capture").propose(context)
    run = workspace.run(context, proposal)
    workspace.write(f"{FOLDER}/summary.json", json.dumps(changed(identity={"attention_backend": backend})))
    workspace.write(f"{FOLDER}/trace.json.gz", "trace")
    assert worst(action_named("trace_capture").judge(run)[0]) is outcome
    told = ["attention-backend sdpa instead of flex (TRACE_ATTENTION_BACKEND is set)"] if where == "shell" else []
    assert list(proposal.deviations) == [INSTEAD, *told]


@pytest.mark.parametrize(
    ("flags", "asked", "outcome"),
    [
        ("--output-len 128 --prompt-len uniform:8:9", {"output_len": "fixed:128", "prompt_len": "uniform:8:9"}, "pass"),
        ("--output-len 128", {"output_len": "fixed:512"}, "fail"),
        ("--duration 10", {"duration_s": 10.0}, "pass"),
        ("--duration 10", {}, "fail"),
    ],
)
def test_the_load_is_judged_by_the_command(workspace, flags: str, asked: dict[str, Any], outcome: str) -> None:
    context = workspace.context(ITEM.replace(".sh`", f".sh {flags}`"))
    run = workspace.run(context, action_named("trace_capture").propose(context))
    workspace.write(f"{FOLDER}/summary.json", json.dumps(changed(workload=asked)))
    workspace.write(f"{FOLDER}/trace.json.gz", "trace")
    assert worst(action_named("trace_capture").judge(run)[0]).value == outcome


def test_smoke_runs_on_a_cpu_and_a_node_without_gpus_is_refused(workspace) -> None:
    proposal = workspace.propose(ITEM, gpus=0, preset="smoke", demo=True)
    assert proposal.refusal is None
    line = " ".join(proposal.commands[0].argv)
    for part in ("--device cpu", "--model tiny", "--tensor-parallel-gpus 2", "--fp8-mode none", "--profiler torch"):
        assert part in line
    assert proposal.params["gpu_indices"] == []
    assert len(proposal.deviations) == 2
    assert "this machine has none" in (workspace.propose(ITEM, gpus=0).refusal or "")


def test_a_script_of_the_workspace_stays_as_it_is(workspace) -> None:
    workspace.write("scripts/capture_fp8_flexattention_traces.sh", "echo\n")
    proposal = workspace.propose(ITEM)
    assert proposal.commands[0].argv == ["bash", "scripts/capture_fp8_flexattention_traces.sh"]
    assert not proposal.artifacts


def test_a_good_trace_passes_and_shows_its_shares(workspace, trace_run) -> None:
    run = trace_run(trace_json())
    path = workspace.folder / FOLDER / "summary.json"
    assert schema_problem(path, "trace_summary") is None
    gates, metrics, sentence, question = action_named("trace_capture").judge(run)
    assert worst(gates) is Outcome.PASS, [gate for gate in gates if gate.outcome is not Outcome.PASS]
    assert question is None
    assert metrics["communication_percent"] == pytest.approx(30)
    assert metrics["gpu_busy_percent"] == pytest.approx(90)
    assert metrics["kernels"] == 100_000
    assert "communication 30.0%" in sentence
    assert "at::native::nvjet_tst 40.0%" in sentence
    _, evidence = artifact_gates(run)
    assert {one.path for one in evidence} == {f"{FOLDER}/summary.json", f"{FOLDER}/trace.json.gz"}


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    summary = trace_json()
    return summary | {name: summary[name] | value for name, value in parts.items()}


@pytest.mark.parametrize(
    ("summary", "gate", "outcome"),
    [
        (trace_json(files=[{"name": "trace.json.gz", "bytes": 6}]), "trace", Outcome.FAIL),
        (trace_json(files=[{"name": "gone.json.gz", "bytes": 5}]), "trace", Outcome.FAIL),
        (changed(tool={"name": "nsys"}), "profiler", Outcome.FAIL),
        (changed(identity={"attention_backend": "sdpa"}), "ran as asked", Outcome.FAIL),
        (changed(identity={"tensor_parallel": 4}), "ran as asked", Outcome.FAIL),
        (changed(identity={"model": "tiny"}), "ran as asked", Outcome.FAIL),
        (changed(identity={"fp8_mode": "none"}), "ran as asked", Outcome.FAIL),
        (changed(workload={"duration_s": 1.0}), "ran as asked", Outcome.FAIL),
        (changed(workload={"target_qps": 1.0}), "ran as asked", Outcome.FAIL),
        (changed(workload={"prompt_len": "uniform:16:64"}), "ran as asked", Outcome.FAIL),
        (changed(load={"partial": True}), "load", Outcome.INVALID),
        (changed(load={"completed": 0}), "load", Outcome.INVALID),
        (changed(window={"steps": 0}), "load", Outcome.INVALID),
        (trace_json(calls=0), "captured", Outcome.FAIL),
        (trace_json(unit="operators"), "captured", Outcome.FAIL),
        (changed(window={"steps": 391}), "captured", Outcome.INCONCLUSIVE),  # 391 · 32 is over 12,500
        (trace_json(devices=[]), "GPUs in the trace", Outcome.FAIL),
        (trace_json(ranges=[]), "ranges", Outcome.INCONCLUSIVE),
        (changed(shares={"communication": 0.0, "other": 0.4}), "communication", Outcome.FAIL),
        (changed(shares={"other": 0.5}), "totals", Outcome.INVALID),
        (trace_json(total_ms=1000.0), "totals", Outcome.INVALID),
    ],
)
def test_each_defect_of_a_trace_has_its_gate(trace_run, summary: dict[str, Any], gate: str, outcome: Outcome) -> None:
    gates, _, _, _ = action_named("trace_capture").judge(trace_run(summary))
    bad = {one.name: one.outcome for one in gates if one.outcome is not Outcome.PASS}
    assert bad[gate] is outcome
    assert set(bad) <= {gate, "GPUs in the trace"}, "each gate has a cause of its own"


def test_a_report_of_nsys_must_hold_every_gpu(workspace) -> None:
    context = workspace.context(ITEM, environment=with_nsys(workspace.folder))
    proposal = action_named("trace_capture").propose(context)
    run = workspace.run(context, proposal)
    workspace.write(f"{FOLDER}/trace.json.gz", "trace")
    summary = trace_json("nsys")
    for devices, outcome in ((summary["devices"], Outcome.PASS), (summary["devices"][:7], Outcome.FAIL)):
        workspace.write(f"{FOLDER}/summary.json", json.dumps(summary | {"devices": devices}))
        assert worst(action_named("trace_capture").judge(run)[0]) is outcome


def test_a_summary_out_of_its_format_is_not_a_trace(trace_run) -> None:
    broken = trace_json()
    del broken["shares"]
    gates, metrics, sentence, _ = action_named("trace_capture").judge(trace_run(broken))
    assert worst(gates) is Outcome.INVALID
    assert not metrics
    assert sentence == "no trace to judge"


def test_the_bundled_list_has_the_item_too(workspace) -> None:
    text = (Path(__file__).parents[3] / "docs" / "llm_validation_checklist.md").read_text()
    context = workspace.context(text, "1.3")
    assert required_command(context).endswith("capture_fp8_flexattention_traces.sh")
    assert action_named("trace_capture").propose(context).deviations == (INSTEAD,)
