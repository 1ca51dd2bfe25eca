"""A cluster of two nodes on this machine: `sbatch`, `srun` and the others as small scripts on PATH."""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from llmval_tui.cli import main
from llmval_tui.runs import client
from llmval_tui.runs.store import Run, RunStore

PROGRAMS = {
    # The job's script in the background; its state and its pid are files.
    "sbatch": """
for word; do script=$word; done
echo RUNNING > $CLUSTER/state
SLURM_JOB_ID=7 SLURM_JOB_NODELIST='n[1-2]' SLURM_JOB_CPUS_PER_NODE='1(x2)' setsid bash -c '
  bash "$0"; code=$?; [ "$(cat $CLUSTER/state)" = RUNNING ] || exit
  [ $code = 0 ] && echo COMPLETED > $CLUSTER/state || echo FAILED > $CLUSTER/state' "$script" \\
  > "$(dirname "$script")/logs/job.log" 2>&1 < /dev/null &
echo $! > $CLUSTER/pid
echo 7""",
    "srun": """
while [ "${1#-}" != "$1" ]; do case $1 in --output=*) out=${1#--output=};; esac; shift; done
number=0; pids=
for node in n1 n2; do
  SLURMD_NODENAME=$node "$@" > "${out//%n/$number}" 2>&1 < /dev/null & pids="$pids $!"; number=$((number + 1))
done
code=0; for pid in $pids; do wait $pid || code=$?; done; exit $code""",
    "scontrol": """
[ "$2" = hostnames ] && { echo n1; echo n2; exit; }
echo "JobId=7 JobState=$(cat $CLUSTER/state) Reason=None Restarts=0 NodeList=n[1-2] ExitCode=0:0" """,
    "squeue": "true",
    "sinfo": "true",
    "scancel": 'echo "$*" >> $CLUSTER/scancel; kill -TERM -- -$(cat $CLUSTER/pid); echo CANCELLED > $CLUSTER/state',
    "ssh": """
for word; do node=$command; command=$word; done
echo "$node" >> $CLUSTER/ssh
[ "$node" = n9 ] && { echo 'ssh: Could not resolve hostname n9: Name or service not known' >&2; exit 255; }
exec bash -c "$command" """,
}


class Cluster:
    """A workspace with a list, and what a person types."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.store = RunStore(folder)

    def write(self, item: str, script: str) -> None:
        """A list with one item, and the script that it runs."""
        (self.folder / "list.md").write_text(f"# List\n\n## 1 Nodes\n\n- [ ] {item}\n")
        (self.folder / "item.sh").write_text(f"{script}\n")

    def llmval(self, *words: str, check: int) -> str:
        """What a command prints. It runs in this process, because a start of Python costs as much as the command.

        What it starts (plan, head, agents, supervisors) are processes as always, in the environment of the cluster.
        """
        out, errors = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
        with redirect_stdout(out), redirect_stderr(errors):
            code = main([*words, "--workspace", str(self.folder), "--checklist", "list.md"])
        said = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
        assert code == check, said + errors.getvalue()
        return said if check == 2 and "--json" in words else said + errors.getvalue()

    def run(self) -> Run:
        return self.store.runs()[0]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text.strip()}\n")
        (programs / name).chmod(0o755)
    folder = tmp_path / "workspace"
    folder.mkdir()
    path = f"{programs}:{os.environ['PATH']}"
    package = str(Path(__file__).parents[2])
    for name, value in (("PATH", path), ("CLUSTER", str(tmp_path)), ("PYTHONPATH", package)):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    made = Cluster(folder, dict(os.environ))
    yield made
    for run in made.store.active():
        client.request_cancel(run, "end of test")
        client.wait(run, 180)
