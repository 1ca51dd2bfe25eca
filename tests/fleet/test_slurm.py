"""Slurm, with its programs replaced by small scripts: the words that are submitted, and what it says of a job."""

import os
import subprocess
from pathlib import Path

import pytest

from llmval_tui.fleet import slurm, srun
from llmval_tui.fleet.launch import launch_of
from llmval_tui.foundation.errors import Refused


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`programs(sbatch="shell text", …)` puts such programs first on PATH; each logs its words in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(**texts: str) -> Path:
        for name, text in texts.items():
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{text}\n')
            (folder / name).chmod(0o755)
        return folder / "calls"

    return put


@pytest.mark.parametrize(
    ("words", "nodes", "node_list", "options", "command"),
    [
        ("srun -N4 torchrun x", 4, None, (), ("torchrun", "x")),
        (
            "srun -N 2 -p gpu --gres=gpu:8 -t 30 -w n[1-2] --ntasks-per-node=1 torchrun --nnodes=2 x",
            2, "n[1-2]", ("--partition=gpu", "--gres=gpu:8", "--time=30"), ("torchrun", "--nnodes=2", "x"),
        ),
        ("srun --nodes=2 --label -o out.log --mpi=pmix torchrun", 2, None, (), ("torchrun",)),
        # Only sbatch's own options go there; it refuses the others.
        ("srun -N2 -n2 --cpu-bind=none -lu --exact torchrun", 2, None, (), ("torchrun",)),
        ("srun --cpu-bind none -N2 -K1 --mem-per-cpu 4G torchrun", 2, None, ("--mem-per-cpu=4G",), ("torchrun",)),
        ("srun -N2 --gpu-bind none --exclusive -- torchrun x", 2, None, ("--gpu-bind=none", "--exclusive"),
         ("torchrun", "x")),
        ("srun -N2 --container-mount-home --container-image a.sqsh torchrun", 2, None,
         ("--container-mount-home", "--container-image=a.sqsh"), ("torchrun",)),
    ],
)  # fmt: skip
def test_srun_is_taken_apart(words, nodes, node_list, options, command):
    found = srun.take_apart(words.split())
    assert (found.nodes, found.node_list, found.options, found.command) == (nodes, node_list, options, command)


@pytest.mark.parametrize(
    "options", ["-N2 --ntasks-per-node=8", "-N2 --tasks-per-node 8", "-N2 -n16", "-N 2 --ntasks 16", "-n 2"]
)
def test_more_than_one_task_on_a_node_is_refused(options):
    with pytest.raises(Refused, match="one torchrun on a node"):
        srun.take_apart(["srun", *options.split(), "torchrun"])


@pytest.mark.parametrize("option", ["--export=NONE", "--multi-prog", "--task-prolog=./x", "-D /tmp", "-r1"])
def test_an_option_that_changes_the_command_is_refused(option):
    with pytest.raises(Refused, match="changes what runs"):
        srun.take_apart(["srun", "-N2", *option.split(), "torchrun"])


@pytest.mark.parametrize("words", ["-N 2-4", "-N x", "--nodes=0", "-N", f"-N{'9' * 5000}"])
def test_a_number_of_nodes_is_a_number(words):
    with pytest.raises(Refused, match="is not a number of nodes"):
        srun.take_apart(["srun", *words.split()])


@pytest.mark.parametrize("option", ["--nodes=3", "--requeue", "-N3", "gpu", "--output=x", "--array=1-4"])
def test_an_option_that_llmval_decides_is_refused(option):
    with pytest.raises(Refused, match="cannot be a Slurm option"):
        slurm.checked_options((option,))


def test_the_job_is_never_requeued_and_its_script_is_valid(make_fleet_run):
    run = make_fleet_run()
    launch = launch_of(run.intent)
    words = slurm.sbatch_words(run, launch)
    assert {"--no-requeue", "--no-kill", "--nodes=2", "--nodelist=n1,n2", "--ntasks-per-node=1"} <= set(words)
    text = slurm.script(run, launch)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert text.rstrip().endswith("exit $rc"), "the state of a job is that of its script"
    assert "trap '' USR1 USR2" in text


def test_a_job_that_slurm_starts_again_starts_nothing(make_fleet_run, programs):
    run = make_fleet_run(launch={"python": "python-of-nodes"})
    programs(**{"srun": "exit 0", "python-of-nodes": "exit 0"})
    script = run.folder / "job.sh"
    script.write_text(slurm.script(run, launch_of(run.intent)))

    def start(restarts: str, job: str = "7") -> int:
        environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": job, "SLURM_RESTART_COUNT": restarts}
        return subprocess.run(["bash", script], env=environment, check=False, capture_output=True).returncode

    assert start("0") == 0
    assert start("1") == 3, "the same job, started again"
    assert start("0", job="8") == 3, "a second job of the same run"


def test_a_job_that_was_submitted_and_not_recorded_is_found(make_fleet_run, programs):
    calls = programs(squeue="echo 41", sbatch="echo 42")
    run = make_fleet_run()
    assert slurm.submit(run, launch_of(run.intent)) == "41"
    assert f"--name=llmval-{run.id}" in calls.read_text() and "sbatch" not in calls.read_text()
    programs(squeue="true")
    assert slurm.submit(run, launch_of(run.intent)) == "42"


@pytest.mark.parametrize("said", ["42;cluster-a", "Welcome, job 7 was yours\n42\nThank you", "Submitted batch job 42"])
def test_the_number_of_the_job_is_found_in_what_sbatch_prints(make_fleet_run, programs, said):
    programs(squeue="true", sbatch=f"cat <<'END'\n{said}\nEND")
    run = make_fleet_run()
    assert slurm.submit(run, launch_of(run.intent)) == "42"


@pytest.mark.parametrize("said", ["", "hello"])
def test_a_job_without_a_number_is_refused_and_named(make_fleet_run, programs, said):
    programs(squeue="true", sbatch=f"echo {said}")
    run = make_fleet_run()
    with pytest.raises(Refused, match=f"printed no job's number.*llmval-{run.id}"):
        slurm.submit(run, launch_of(run.intent))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Batch job submission failed: Invalid partition name specified", "partition name specified: name another"),
        ("Batch job submission failed: Requested node configuration is not available", "correct the node list"),
        ("Unable to contact slurm controller (connect failure)", "see whether sinfo answers"),
        ("fatal: Could not establish a configuration source", 'or use --launcher ssh (launcher = "ssh" below [fleet])'),
        ("lua: say --account\nsbatch: error: Batch job submission failed: Unspecified error", "lua: say --account"),
    ],
)  # fmt: skip
def test_a_refusal_of_slurm_says_what_to_do(make_fleet_run, programs, said, sentence):
    programs(squeue="true", sbatch=f'echo "sbatch: error: {said}" >&2; exit 1')
    run = make_fleet_run()
    with pytest.raises(Refused) as refusal:
        slurm.submit(run, launch_of(run.intent))
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_slurm_says_of_a_job(programs):
    programs(scontrol='echo "JobId=7 JobName=x JobState=PENDING Reason=Resources Restarts=0 NodeList=(null)"')
    assert slurm.look("7") == slurm.JobView("PENDING", "Resources", (), 0, None)
    programs(scontrol='echo "JobId=7 JobState=RUNNING Reason=None Restarts=2 NodeList=n[1-2] ExitCode=0:0"')
    assert slurm.look("7") == slurm.JobView("RUNNING", None, ("n1", "n2"), 2, "0:0")
    programs(scontrol="exit 1")
    assert slurm.look("7") is None


def test_nodes_that_are_down_are_known_by_slurms_word(programs):
    programs(sinfo='printf "n1 allocated\\nn2 allocated*\\nn3 down*\\n"')
    assert slurm.down_nodes(["n1", "n2", "n3"]) == {"n2": "allocated*", "n3": "down*"}


def test_a_machine_without_slurm_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"sbatch is not on PATH.*--launcher ssh"):
        slurm.check_programs()
