"""Freezing a command: script, GPUs, outputs, environment."""

import re
import sys
from dataclasses import replace

import pytest
from llmval_runners.engine.shapes import SHAPES

from llmval_tui.actions.api import Options
from llmval_tui.actions.command.argv import parse_argv, value_of, with_value
from llmval_tui.actions.command.gpu_count import available_gpus
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled

ITEM = (
    "Run: `torchrun --nproc_per_node=8 ch16/inference_server_load_test.py --duration 300 --target-qps 28 "
    "--fp8-mode transformer-engine --output-json artifacts/inference/full_$(date +%Y%m%d).json`"
)


def test_torchrun_goes_through_the_launcher(workspace):
    proposal = workspace.propose(ITEM)
    assert proposal.refusal is None
    (command,) = proposal.commands
    runner = str(bundled("runners") / "inference_server_load_test.py")
    assert command.argv[:2] == [sys.executable, str(bundled("runners") / "llmval_runners" / "process" / "launch.py")]
    own, torchrun = command.argv[2 : command.argv.index("--")], command.argv[command.argv.index("--") + 1 :]
    assert own == ["--logs", "{run}/logs", "--label", "main", "--exit-codes", "{run}/ranks.main.json"]
    assert torchrun[:2] == ["--nproc_per_node=8", runner]
    assert torchrun[-1] == "artifacts/inference/full_20260102.json"
    assert command.nproc == 8
    assert command.display.startswith(f"torchrun --nproc_per_node=8 {runner} --duration 300")
    assert [artifact.path for artifact in proposal.artifacts] == ["artifacts/inference/full_20260102.json"]
    assert not (workspace.folder / "artifacts").exists(), "a proposal changes nothing"


def test_the_workspaces_own_script_wins(workspace):
    workspace.write("ch16/inference_server_load_test.py", "print()")
    proposal = workspace.propose(ITEM)
    assert "ch16/inference_server_load_test.py" in proposal.commands[0].argv
    assert proposal.params["runner"] is None
    assert proposal.artifacts[0].schema is None, "the JSON of an unknown script is not judged by our schema"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Run `python tools/mine.py`", "there is no tools/mine.py"),
        ("Run `python ../x.py`", "no ../x.py"),
        ("Run `python -c`", "needs code after it"),
        ("Run `python -u`", "no script to run"),
        ("Run `torchrun --nproc_per_node=8`", "no script to run"),
        ("Run `torchrun --nproc_per_node=none inference_server_load_test.py`", "not a number"),
        ("Run `python inference_server_load_test.py --output-json ../x.json`", "outside of the workspace"),
        ("Run `python inference_server_load_test.py --seed 1`", "no result to judge"),
        ("Run `python own.py --output-dir .`", "the workspace itself"),
        ("Run `python inference_server_load_test.py & rm -rf /`", "in the background (&)"),
        ("Run `vllm bench serve --now`", "not installed"),
    ],
)
def test_refusals_say_what_to_do(workspace, text, words):
    workspace.write("own.py", "")
    proposal = workspace.propose(text)
    assert words in (proposal.refusal or "")
    assert not proposal.commands


def test_a_runner_of_a_later_release_is_refused_by_name(workspace, no_runners):
    proposal = workspace.propose("Run `python tools/precision_power_sweep.py --skip-compile`")
    assert "does not include precision_power_sweep.py" in (proposal.refusal or "")


@pytest.mark.parametrize(("gpus", "said"), [(0, "GPU 9, but this machine has none"), (8, "this machine has 8 (0–7)")])
def test_a_gpu_that_does_not_exist_is_named(workspace, gpus: int, said: str) -> None:
    context = workspace.context("Run `python inference_server_load_test.py`", gpus=gpus)
    with pytest.raises(Refused, match=re.escape(said)):
        available_gpus(replace(context, options=Options(gpus=(9, 9))))


def test_fewer_gpus_are_refused_then_adapted_everywhere(workspace):
    text = (
        "Run `torchrun --nproc-per-node 8 inference_server_load_test.py --tensor-parallel-gpus 8 --tp=4 --seed 8 "
        "--output-json artifacts/r.json`"
    )
    assert "--adapt" in (workspace.propose(text, gpus=6).refusal or "")
    proposal = workspace.propose(text, gpus=6, adapt=True)
    assert proposal.refusal is None
    argv = proposal.commands[0].argv
    assert argv[argv.index("--nproc-per-node") + 1] == "4"
    assert argv[argv.index("--tensor-parallel-gpus") + 1] == "4"
    assert "--tp=4" in argv
    assert argv[argv.index("--seed") + 1] == "8", "only GPU counts are rewritten"
    assert proposal.deviations == ("4 GPUs instead of 8",)
    assert "--nproc-per-node 4" in proposal.commands[0].display
    assert proposal.params["gpu_indices"] == [0, 1, 2, 3]


def test_a_rank_on_every_gpu_of_a_machine_without_one(workspace):
    workspace.write("own.py", "")
    text = "Run `torchrun --nproc_per_node=gpu own.py`"
    assert "has none" in (workspace.propose(text, gpus=None).refusal or "")
    assert workspace.propose(text, gpus=4).commands[0].nproc == 4


def test_no_gpu_is_refused_with_the_way_out(workspace):
    assert "--preset smoke" in (workspace.propose(ITEM, gpus=None).refusal or "")


def test_chosen_gpus(workspace):
    proposal = workspace.propose(ITEM, adapt=True, gpus=8, environment={"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert proposal.deviations == ("2 GPUs instead of 8",)
    context = workspace.context(ITEM, adapt=True)
    from dataclasses import replace

    from llmval_tui.actions.registry import propose

    chosen = propose(replace(context, options=replace(context.options, gpus=(4, 5))))
    assert chosen.commands[0].env == {"CUDA_VISIBLE_DEVICES": "4,5"}
    assert chosen.params["gpu_indices"] == [4, 5]
    missing = propose(replace(context, options=replace(context.options, gpus=(9,))))
    assert "GPU 9" in (missing.refusal or "")


def test_smoke_on_a_cpu(workspace):
    proposal = workspace.propose(ITEM, gpus=None, preset="smoke")
    assert proposal.refusal is None
    argv = tuple(proposal.commands[0].argv)
    wanted = {"--nproc-per-node": "2", "--model": "tiny", "--device": "cpu", "--fp8-mode": "none", "--target-qps": "14"}
    assert {flag: value_of(argv, flag) for flag in wanted} == wanted
    (deviation,) = proposal.deviations
    assert deviation.startswith("smoke preset: ")
    assert "nproc-per-node 2 instead of 8" in deviation
    assert "duration 8 instead of 300" in deviation
    assert "--" not in deviation
    assert proposal.artifacts[0].path == "artifacts/inference/full_20260102.smoke.json", "the result of the day stays"
    demo = workspace.propose(ITEM, gpus=None, preset="smoke", demo=True)
    assert demo.artifacts[0].path == "artifacts/inference/full_20260102.json"


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_smoke_takes_as_many_ranks_as_the_tiny_model_can_be_split_into(workspace, gpus):
    """The bundled list, and rank counts that are not numbers."""
    text = (bundled("docs") / "llm_validation_checklist.md").read_text(encoding="utf-8")
    proposals = [workspace.propose(text, number, gpus, preset="smoke") for number in ("1.2", "1.3", "2.2", "4.1")]
    proposals += [
        workspace.propose(item, gpus=gpus, preset="smoke")
        for item in (
            "Run `python torch_compile_repro.py --output-dir artifacts/c`",
            "Run `torchrun --nproc-per-node=gpu inference_server_load_test.py --output-json artifacts/r.json`",
            "Run `torchrun --nproc-per-node=3 inference_server_load_test.py --output-json artifacts/r.json`",
        )
    ]
    for proposal in proposals:
        assert proposal.refusal is None
        words = tuple(proposal.commands[0].argv)
        assert value_of(words, "--model") == "tiny"
        asked = value_of(words, "--tensor-parallel-gpus") or value_of(words, "--nproc-per-node") or ""
        ranks = gpus if asked == "gpu" else int(asked)
        assert ranks <= gpus
        SHAPES["tiny"].check_tensor_parallel(ranks)
    assert [value_of(tuple(p.commands[0].argv), "--tensor-parallel-gpus") for p in proposals[1:4]] == [
        str(min(gpus, 4))
    ] * 3


def test_smoke_leaves_out_the_unknown(workspace):
    workspace.write("bench.py", "")
    assert "no short form of bench.py" in (workspace.propose("Run `python bench.py`", preset="smoke").refusal or "")


def test_replaced_outputs_are_announced(workspace):
    assert any("writes artifacts/inference/full" in line for line in workspace.propose(ITEM).details)
    workspace.write("artifacts/inference/full_20260102.json", "{}")
    assert any("replaces artifacts/inference/full" in line for line in workspace.propose(ITEM).details)


def test_outputs_and_tee(workspace):
    workspace.write("sweep.sh", "")
    proposal = workspace.propose("Run `FOO=1 bash sweep.sh --output-dir out/$(date +%Y) | tee logs/x.log`")
    assert [artifact.path for artifact in proposal.artifacts] == ["out/2026", "logs/x.log"]
    (command,) = proposal.commands
    assert command.tee == "logs/x.log"
    assert command.env == {"FOO": "1"}
    assert command.display == "FOO=1 bash sweep.sh --output-dir out/2026 | tee logs/x.log"
    assert proposal.params["output_folders"] == ["out/2026"]


def test_multicast_is_never_turned_on(workspace):
    workspace.write("x.py", "")
    text = "Run `NCCL_NVLS_ENABLE=1 NCCL_DEBUG=INFO python x.py`"
    proposal = workspace.propose(text, environment={"NCCL_NVLS_ENABLE": "0"})
    assert proposal.commands[0].env == {"NCCL_DEBUG": "INFO"}
    assert any("NCCL_NVLS_ENABLE: stays 0" in line for line in proposal.details)


@pytest.mark.parametrize(
    ("words", "launcher", "script"),
    [
        (["torchrun", "--standalone", "--nproc_per_node", "8", "a.py", "--x"], "torchrun", "a.py"),
        (["python", "-u", "-X", "dev", "a.py"], "python", "a.py"),
        (["python3", "-m", "torch.distributed.run", "--nproc-per-node=2", "a.py"], "torchrun", "a.py"),
        (["python", "-m", "pkg.mod", "--x"], "python", None),
        (["bash", "-e", "a.sh"], "bash", "a.sh"),
        (["a.py", "--x"], "python", "a.py"),
        (["nvidia-smi", "topo"], "exec", None),
    ],
)
def test_shapes(words, launcher, script):
    argv = parse_argv(words)
    assert (argv.launcher, argv.script) == (launcher, script)


def test_flags_are_replaced_in_place():
    assert with_value(("--a=1", "--a_b", "2", "x"), "--a-b", "9") == ("--a=1", "--a_b", "9", "x")
    assert with_value(("--a=1",), "--a", "9") == ("--a=9",)
    assert with_value((), "--a", "9", add=False) == ()
