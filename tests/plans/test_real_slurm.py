"""The same on a real Slurm, if one is here: `SLURM_CONF=… pytest tests/plans/test_real_slurm.py`."""

import json
import shutil
import subprocess

import pytest

from llmval_tui.runs.records import Outcome


def _nodes() -> list[str]:
    """Two idle nodes of the default partition; [] without a Slurm that answers."""
    if shutil.which("sinfo") is None:
        return []
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"], capture_output=True, text=True, check=False
    )
    return sorted(set(done.stdout.split()))[:2]


pytestmark = pytest.mark.skipif(len(_nodes()) < 2, reason="no Slurm with two idle nodes answers here (sinfo)")


def test_an_item_on_two_nodes_of_a_real_slurm(cluster):
    """The scripts that stand in for Slurm are taken off PATH."""
    for name in ("sbatch", "srun", "scontrol", "squeue", "sinfo", "scancel"):
        (cluster.folder.parent / "bin" / name).unlink()
    cluster.write("Run `bash item.sh > artifacts/name.txt`", "echo on $SLURMD_NODENAME")
    names = _nodes()
    arguments = ("--nodes", ",".join(names), "--same-machine", "--launcher", "slurm")
    said = cluster.llmval("run", "1.1", "--dry-run", "--json", *arguments, check=2)
    code = json.loads(said)["steps"][0]["open_question"]["code"]
    cluster.llmval("run", "1.1", *arguments, "--confirm", code, check=0)
    run = cluster.run()
    verdict = run.verdict()
    assert verdict is not None and verdict.outcome is Outcome.PASS
    for name in names:
        assert (run.folder / f"nodes/{name}/results/artifacts/name.txt").read_text() == f"on {name}\n"
    job = run.status().job
    assert job is not None and (job.state, job.restarts) == ("COMPLETED", 0)
