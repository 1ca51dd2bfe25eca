"""Where an item runs: here, on every node, or as one launch over several nodes."""

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.review.model import FleetSettings, ListSettings

LOAD = "inference_server_load_test.py --device cpu --output-json artifacts/x.json"
TOGETHER = f"Together: `torchrun --nnodes=2 --nproc-per-node=8 {{}} {LOAD}`"
ALONE = f"Load test: `torchrun --nproc-per-node=8 {LOAD}`"


@pytest.fixture(autouse=True)
def _slurm_and_ssh(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "ssh", "srun", "torchrun", "python"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def launch(proposal: Proposal):
    assert proposal.refusal is None, proposal.refusal
    return proposal.params["fleet"]


def test_without_nodes_an_item_runs_here(workspace):
    proposal = workspace.propose(ALONE)
    assert proposal.nodes == () and "fleet" not in proposal.params


@pytest.mark.parametrize("given", [{"nodes": "n[1-4]"}, {"settings": FleetSettings(nodes="n[1-4]")}])
def test_on_each_of_the_nodes(workspace, given):
    text = ALONE if "nodes" in given else f"{ALONE} <!-- llmval: nodes=each -->"
    if "settings" in given:
        given = {"settings": ListSettings(fleet=given["settings"])}
    proposal = workspace.propose(text, gpus=0, **given)
    assert (launch(proposal)["how"], launch(proposal)["launcher"], launch(proposal)["count"]) == ("each", "slurm", 4)
    assert proposal.nodes == ("n1", "n2", "n3", "n4")
    assert any("the nodes are asked before the start" in detail for detail in proposal.details)
    assert proposal.commands[0].nproc == 8, "the GPUs are those of the nodes, not of this machine"


def test_a_launch_over_nodes_behind_srun_is_torchruns_own(workspace):
    text = f"Together: `srun -N2 -p gpu --gres=gpu:8 torchrun --nnodes=2 --nproc-per-node=8 {LOAD}`"
    proposal = workspace.propose(text, gpus=0)
    assert launch(proposal)["options"] == ["--partition=gpu", "--gres=gpu:8"]
    assert (launch(proposal)["how"], launch(proposal)["count"], proposal.nodes) == ("collective", 2, ())
    argv = proposal.commands[0].argv
    assert argv[1].endswith("launch.py") and "srun" not in argv and "--nnodes=2" in argv
    assert proposal.commands[0].display.startswith("srun -N2 -p gpu --gres=gpu:8 torchrun --nnodes=2"), (
        "as it was written"
    )
    assert proposal.summary.startswith("Runs inference_server_load_test.py in 16 ranks on the CPU of 2 nodes")


def test_where_the_nodes_meet_is_decided_when_they_are_known(workspace):
    text = TOGETHER.format("--rdzv-backend=c10d --rdzv-id=1 --rdzv-endpoint=10.0.0.1:29500")
    proposal = workspace.propose(text, nodes="n1,n2", launcher="ssh", gpus=0)
    assert not any("rdzv" in word for word in proposal.commands[0].argv)
    assert proposal.nodes == ("n1", "n2") and launch(proposal)["launcher"] == "ssh"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (f"{ALONE} <!-- llmval: nodes=all -->", {}, "nodes=all is not understood"),
        (f"{ALONE} <!-- llmval: nodes=each -->", {}, "no nodes are named"),
        (ALONE, {"nodes": "n[1-"}, "bracket too many"),
        (TOGETHER.format("--rdzv-endpoint=localhost:29500"), {"nodes": "n[1-2]"}, "no other node can reach"),
        (TOGETHER.format("--rdzv-endpoint=127.0.0.1:29500"), {"nodes": "n[1-2]"}, "no other node can reach"),
        (TOGETHER.format("--rdzv-endpoint=no.such.host.invalid:1"), {"nodes": "n[1-2]"}, "does not resolve"),
        (TOGETHER.format("--standalone"), {"nodes": "n[1-2]"}, "--standalone is for one node"),
        (TOGETHER.format(""), {"nodes": "n1"}, "needs 2 nodes, and the list names 1"),
        (TOGETHER.format(""), {"launcher": "ssh"}, "none is named"),
        (TOGETHER.replace("=2", "=1:2").format(""), {}, "is not one number"),
        (f"Together: `srun -N3 torchrun --nnodes=2 {LOAD}`", {}, "srun starts 3 nodes and torchrun 2"),
        (ALONE, {"nodes": "n[1-2]", "slurm_options": ("--requeue",)}, "cannot be a Slurm option"),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence(workspace, text, options, words):
    proposal = workspace.propose(text, gpus=0, **options)
    assert proposal.refusal is not None and words in proposal.refusal, proposal.refusal


def test_nodes_that_would_overwrite_one_file_are_refused(workspace):
    workspace.write("x.py", "pass")
    text = "Load test: `python x.py` <!-- llmval: artifact=artifacts/report.json -->"
    proposal = workspace.propose(text, nodes="n[1-2]")
    assert proposal.refusal is not None and "would overwrite the file of the others" in proposal.refusal
    assert workspace.propose(text.replace("x.py`", "x.py artifacts/report.json`"), nodes="n[1-2]").refusal is None


def test_without_slurm_its_nodes_cannot_be_started(workspace, monkeypatch, tmp_path):
    (tmp_path / "bin" / "sbatch").unlink()
    assert "sbatch is not on PATH" in str(workspace.propose(ALONE, nodes="n1", launcher="slurm").refusal)
    assert launch(workspace.propose(ALONE, nodes="n1"))["launcher"] == "ssh"


@pytest.mark.parametrize(
    ("fleet", "options", "launcher"),
    [
        ({}, {}, "slurm"),
        ({"ssh": ("ssh", "-F", "x")}, {}, "ssh"),
        ({"ssh": ("ssh", "-F", "x"), "slurm_options": ("--partition=gpu",)}, {}, "slurm"),
        ({"ssh": ("ssh", "-F", "x")}, {"slurm_options": ("--partition=gpu",)}, "slurm"),
        ({"ssh": ("ssh", "-F", "x"), "launcher": "slurm"}, {}, "slurm"),
    ],
)
def test_the_words_of_ssh_mean_ssh_if_nobody_names_a_launcher(workspace, fleet, options, launcher):
    settings = ListSettings(fleet=FleetSettings(nodes="n[1-2]", **fleet))
    proposal = workspace.propose(f"{ALONE} <!-- llmval: nodes=each -->", gpus=0, settings=settings, **options)
    assert launch(proposal)["launcher"] == launcher
