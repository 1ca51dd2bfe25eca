"""A run's job in Slurm: submitting it once, reading its state, and ending it.

One job a run, by `sbatch --no-requeue --no-kill`: Slurm must not start a measurement twice, and a node that fails must
not take the others with it. In the job three steps start one process a node: the look at the nodes, the agents, and a
look for processes that are left. The foreground srun is never signalled: it would kill the ranks at once, without a
SIGTERM.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.fleet.launch import FleetLaunch
from llmval_tui.fleet.node_list import expand
from llmval_tui.fleet.srun import OURS
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_atomic
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.store import Run

_JOB_NUMBER = re.compile(r"^\s*(\d+)\s*(?:;|$)|Submitted batch job (\d+)", re.MULTILINE)
SCRIPT = "job.sh"
LOG = "job.log"  # of the batch script: Slurm's own words are here
AGENTS_STEP = "1"  # step 0 looks at the nodes
_COMMAND_S = 60.0
_PREFIX = re.compile(r"^(?:(?:sbatch|srun|allocation failure|error|Batch job submission failed)[:\s]+)+")
OVER = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip
_SHARING = ("--exclusive", "--oversubscribe", "--share", "--cpus-per-task")


def checked_options(options: Sequence[str]) -> tuple[str, ...]:
    """Options of a site for sbatch.

    Raises:
        Refused: one would take away what llmval decides.
    """
    for option in options:
        if not option.startswith("-") or OURS.fullmatch(option):
            raise Refused(
                f"{option} cannot be a Slurm option here: name where and how long, such as --partition=gpu, "
                "--gres=gpu:8, --time=60; llmval chooses nodes, tasks and files itself."
            )
    return tuple(options)


@dataclass(frozen=True, slots=True)
class JobView:
    """What Slurm says of a job."""

    state: str
    reason: str | None = None
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    exit_code: str | None = None


def script(run: Run, launch: FleetLaunch) -> str:
    """The batch script. It exits with the code of the agents' step: the state of a job is that of its script."""
    python, folder = shlex.quote(launch.python), shlex.quote(str(run.folder))
    # Without these, a site that binds tasks to processors would put all ranks of a node on one.
    binding = '--cpus-per-task="$CPUS" --cpu-bind=none --mpi=none'
    task = f"srun --ntasks-per-node=1 {binding} --no-kill --kill-on-bad-exit=0 --wait=0"
    checklist = f" --checklist {shlex.quote(str(run.workspace / launch.checklist))}" if launch.checklist else ""
    names = f'NODES={shlex.quote(",".join(run.intent.nodes))}' if run.intent.nodes else (
        'NODES=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -sd, -)'
    )  # fmt: skip
    return f"""#!/bin/bash
# Written by llmval for {run.id}. It starts the run once: a job that Slurm starts again ends here.
trap '' USR1 USR2
mkdir {folder}/started 2>/dev/null || {{
  [ "$(cat {folder}/started/job 2>/dev/null)" = "$SLURM_JOB_ID" ] && [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] || {{
    echo "llmval: this run was started before, and a measurement is not started twice"; exit 3; }}
}}
echo "$SLURM_JOB_ID" > {folder}/started/job
{names}
CPUS=$(sed 's/(x[0-9]*)//g' <<< "$SLURM_JOB_CPUS_PER_NODE" | tr , '\n' | sort -n | head -n 1)
{task} --job-name=look --output={folder}/logs/look.%n.log {python} -m llmval_tui.fleet.probe {folder} --write{checklist}
{python} -m llmval_tui.fleet.preflight {folder} "$NODES" || exit 2
{task} --job-name=agents --output={folder}/logs/agent.%n.log {python} -m llmval_tui.plans.node_agent {folder} \\
  --nodes "$NODES"
rc=$?
{task} --job-name=left --output={folder}/logs/left.%n.log {python} -m llmval_tui.fleet.leftovers {folder}
exit $rc
"""


def sbatch_words(run: Run, launch: FleetLaunch) -> list[str]:
    """The command line that submits the job."""
    wanted = [f"--nodes={launch.count}"]
    wanted += [f"--nodelist={','.join(run.intent.nodes)}"] if run.intent.nodes else []
    return [
        "sbatch", "--parsable", "--no-requeue", "--no-kill", f"--job-name={job_name(run)}", *wanted,
        "--ntasks-per-node=1", f"--chdir={run.workspace}", f"--output={run.folder / 'logs' / LOG}",
        # Who measures a node has it alone, unless the site says otherwise.
        *([] if any(option.startswith(_SHARING) for option in launch.options) else ["--exclusive"]), *launch.options,
    ]  # fmt: skip


def job_name(run: Run) -> str:
    """By which a job whose number nobody recorded is found again."""
    return f"llmval-{run.id}"


def submit(run: Run, launch: FleetLaunch) -> str:
    """Submit the job; returns its number. One that was submitted and not recorded is found by its name.

    Raises:
        Refused: Slurm refused it; the message has Slurm's own reason.
    """
    if (found := find(run)) is not None:
        return found
    write_atomic(run.folder / SCRIPT, script(run, launch).encode())
    done = _call([*sbatch_words(run, launch), str(run.folder / SCRIPT)])
    if done.returncode != 0:
        raise Refused(f"Slurm refused the job: {_last_error(done)}: {_remedy(_last_error(done))}.")
    # A site's own sbatch may print more than the number, or forget --parsable.
    number = _JOB_NUMBER.search(done.stdout)
    job_id = number[1] or number[2] if number is not None else find(run)
    if job_id is None:
        raise Refused(
            f"sbatch ended well and printed no job's number (“{_shown(done.stdout)}”): see with squeue whether a job "
            f"named {job_name(run)} is there, and end it with scancel."
        )
    return job_id


def check_programs() -> None:
    """Whether this machine can submit jobs.

    Raises:
        Refused: it cannot.
    """
    for program in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"):
        if shutil.which(program) is None:
            raise Refused(
                f"{program} is not on PATH, and the nodes are to be started by Slurm: run llmval on a login node, or "
                'use --launcher ssh (launcher = "ssh" below [fleet]).'
            )


def answers() -> bool:
    """Whether the controller answers at all."""
    return _call(["sinfo", "--noheader", "--format=%P"]).returncode == 0


def find(run: Run) -> str | None:
    """The number of the job with the run's name, pending or running; None if there is none."""
    done = _call(["squeue", "--noheader", f"--name={job_name(run)}", "--format=%A"])
    lines = done.stdout.split() if done.returncode == 0 else []
    return lines[0] if lines else None


def look(job_id: str) -> JobView | None:
    """The state of a job; None if Slurm does not answer or no longer knows it."""
    done = _call(["scontrol", "--oneliner", "show", "job", job_id])
    if done.returncode != 0:
        return None
    fields = dict(re.findall(r"(\w+)=(\S*)", done.stdout))
    state = fields.get("JobState")
    if state is None:
        return None
    reason = fields.get("Reason")
    listed = fields.get("NodeList", "(null)")
    try:
        nodes = tuple(expand(listed)) if listed not in ("(null)", "") else ()
    except Refused:
        nodes = ()
    restarts = fields.get("Restarts", "0")
    return JobView(
        state,
        reason if reason not in (None, "None", "") else None,
        nodes,
        int(restarts) if restarts.isdecimal() else 0,
        fields.get("ExitCode"),
    )


def down_nodes(names: Sequence[str]) -> dict[str, str]:
    """The nodes that Slurm says are down, with its word."""
    if not names:
        return {}
    done = _call(["sinfo", "--noheader", "--Node", f"--nodes={','.join(names)}", "--format=%N %T"])
    found = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) >= 2)
    return {name: state for name, state in found.items() if state.startswith(("down", "fail")) or state.endswith("*")}


def interrupt(job_id: str) -> None:
    """SIGINT to every process of the agents' step."""
    _call(["scancel", "--signal=INT", f"{job_id}.{AGENTS_STEP}"])


def cancel(job_id: str) -> None:
    """End the job: Slurm sends SIGTERM to all its processes, and SIGKILL after its KillWait."""
    _call(["scancel", job_id])


def look_for_leftovers(run: Run, launch: FleetLaunch, nodes: Sequence[str]) -> str | None:
    """Look on nodes whose job has ended for processes of the run, and end them; a sentence if that was not possible."""
    words = ["srun", "--immediate=20", "--ntasks-per-node=1", f"--nodelist={','.join(nodes)}", f"--nodes={len(nodes)}"]
    words += [f"--job-name=left-{job_name(run)}", *launch.options, launch.python]
    done = _call([*words, "-m", "llmval_tui.fleet.leftovers", str(run.folder)], timeout_s=90)
    return None if done.returncode == 0 else f"nobody could look on {','.join(nodes)}: {_last_error(done)}"


def _call(words: Sequence[str], timeout_s: float = _COMMAND_S) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(words), capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(list(words), 127, "", f"{words[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(words), 124, "", f"{words[0]} did not answer within {timeout_s:g} s")


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    """Slurm's own reason, without the name of its program; also what a plugin of the site says before it."""
    lines = [clean_line(_PREFIX.sub("", line.strip())).strip(" .:") for line in done.stderr.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return f"{done.args[0]} ended with {done.returncode}"
    plugin = [line for line in lines[:-1] if line.startswith(("lua:", "cli_filter", "job_submit"))]
    return _shown(": ".join([*plugin, lines[-1]]))


def _shown(text: str, longest: int = 200) -> str:
    text = clean_line(" ".join(text.split()))
    return text if len(text) <= longest else f"{text[:longest]}…"


def _remedy(reason: str) -> str:
    words = reason.casefold()
    if "partition" in words or "account" in words or "qos" in words:
        return 'name another below [fleet], slurm_options = ["--partition=…", "--account=…"]'
    if "node" in words:
        return "correct the node list (sinfo shows the nodes), or ask for what they have"
    if any(word in words for word in ("connect", "controller", "answer", "configuration source")):
        return 'see whether sinfo answers on this machine, or use --launcher ssh (launcher = "ssh" below [fleet])'
    return "correct slurm_options below [fleet], or the options of srun in the item"
