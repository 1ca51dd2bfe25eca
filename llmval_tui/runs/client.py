"""Starting, cancelling and waiting for a run, from any other process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.records import State
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE, RunProcesses

START_TIMEOUT_S = 60.0  # imports over a busy network file system are slow


def spawn_detached(argv: list[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a process that outlives its parent: in its own session, without stdin, its output appended to `log`.

    If logind kills a user's processes at logout and systemd-run exists, the process gets its own scope.
    Returns the pid.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            _scope() + argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={name: value for name, value in (environment or os.environ).items() if name != RUN_ID_VARIABLE},
        )
    # Nobody waits for this child; without this line Python warns when the handle is collected.
    child.returncode = 0
    return child.pid


def killed_at_logout() -> bool:
    """Whether logind ends this user's processes at logout (`KillUserProcesses=yes` and no linger)."""
    if not shutil.which("loginctl") or "XDG_SESSION_ID" not in os.environ:
        return False
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    kills = _output(["busctl", "get-property", *manager, "KillUserProcesses"])
    return kills == "b true" and not lingers()


def lingers() -> bool:
    """Whether this user's services and scopes survive logout."""
    return _output(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]) == "yes"


def _scope() -> list[str]:
    if not killed_at_logout() or not shutil.which("systemd-run"):
        return []
    return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=5, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip()


def start(run: Run, environment: Mapping[str, str] | None = None) -> None:
    """Start the supervisor of a run and wait until its status says that it holds the run.

    Raises:
        Refused: it did not start; its log says why.
    """
    log = run.folder / "supervisor.log"
    # A run on several nodes has a head here, and a supervisor on each node.
    module = "llmval_tui.runs.supervisor" if run.intent.launcher is None else "llmval_tui.fleet.head"
    pid = spawn_detached([sys.executable, "-m", module, str(run.folder)], log, environment)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        alive = Identity.of(pid) is not None  # before the status is read, so that the final status is seen
        status = run.status()
        # A short run may finish before anybody sees its supervisor alive.
        if status.state is State.FINISHED or (status.supervisor is not None and status.supervisor.alive()):
            return
        if not alive:
            break
        time.sleep(0.02)
    tail = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise Refused(f"the supervisor of {run.id} did not start: {tail[0] if tail else 'its log is empty'}; see {log}.")


def ensure_supervised(run: Run) -> None:
    """Start a new supervisor for a run whose supervisor died, if its command is alive or left processes behind.

    A killed torchrun agent leaves its ranks on the GPUs. If its supervisor died too, the new supervisor ends them.
    A run on several nodes gets a new head: its nodes may go on, and must not be judged before they have ended.
    A copy of a run's folder gets none: it would end the processes of the original.
    """
    if run.supervised() or run.copied_from():
        return
    if run.intent.launcher is not None:
        if run.alive():
            start(run)
        return
    if run.alive() or (run.state() is State.LOST and run.verdict() is None and RunProcesses(run.folder).own()):
        start(run)


def request_cancel(run: Run, by: str) -> bool:
    """Request the end of the run; repeated requests change nothing. Returns False if the run has already ended."""
    if not run.alive():
        return False
    if not run.cancel_file.exists():
        request_end(run.cancel_file, by, run.status().supervisor)
    ensure_supervised(run)
    return True


def cancel_judging(run: Run, by: str) -> bool:
    """Keep a run that has ended from ticking its item; returns False if it is judged already, or does not run."""
    if run.alive() or run.verdict() is not None:
        return False
    if not run.cancel_file.exists():
        write_json(run.cancel_file, {"by": by, "utc": utc_iso()})
    return run.verdict() is None


def request_end(file: Path, by: str, process: Identity | None) -> None:
    """Write the cancel file that `process` polls; if the disk is full, send SIGTERM instead.

    Raises:
        Refused: both failed.
    """
    try:
        write_json(file, {"by": by, "utc": utc_iso()})
    except Refused:
        if process is None or not process.send(signal.SIGTERM):
            raise


def wait(run: Run, timeout_s: float | None = None) -> bool:
    """Wait until the run has ended, and replace its supervisor if that dies; returns False on a timeout."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while run.alive():
        ensure_supervised(run)
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True
