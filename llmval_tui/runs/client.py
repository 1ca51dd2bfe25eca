"""What others do with a run: start it, see that it is cared for, cancel it, wait for it."""

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
from llmval_tui.runs.supervisor import CANCEL_FILE
from llmval_tui.runs.termination import RUN_ID_VARIABLE, leftover_processes

START_TIMEOUT_S = 60.0  # for a process to come up: imports over a busy network file system take their time


def spawn_detached(argv: list[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a process that outlives its starter: a session of its own, nothing on stdin, output appended to `log`.

    Where logind kills what a user leaves behind at logout, it goes into a scope of its own if systemd-run is there.
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
    # It is nobody's child to wait for; without this, Python warns when the handle is collected.
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
    """Start the supervisor of a run and wait until it holds the run and has said so.

    Raises:
        Refused: it did not come up; its log says why.
    """
    log = run.folder / "supervisor.log"
    pid = spawn_detached([sys.executable, "-m", "llmval_tui.runs.supervisor", str(run.folder)], log, environment)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        living = Identity.of(pid) is not None  # before the look, so that the last word is seen
        status = run.status()
        # A short run may be over before it was seen to be held.
        if status.state is State.FINISHED or (status.supervisor is not None and status.supervisor.alive()):
            return
        if not living:
            break
        time.sleep(0.02)
    tail = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise Refused(f"the supervisor of {run.id} did not start: {tail[0] if tail else 'it said nothing'}; see {log}.")


def ensure_supervised(run: Run) -> None:
    """Give a run whose supervisor died a new one, where its command lives on or left processes behind.

    A killed torchrun agent leaves its ranks on the GPUs; where the supervisor died too, the new one ends them.
    """
    if run.supervised():
        return
    if run.alive() or (run.state() is State.LOST and run.verdict() is None and leftover_processes(run.id)):
        start(run)


def request_cancel(run: Run, by: str) -> bool:
    """Ask for the run's end; asking again changes nothing. False where nothing of it runs any more."""
    if not run.alive():
        return False
    if not (run.folder / CANCEL_FILE).exists():
        request_end(run.folder / CANCEL_FILE, by, run.status().supervisor)
    ensure_supervised(run)
    return True


def request_end(file: Path, by: str, process: Identity | None) -> None:
    """Leave the wish for an end where `process` looks for it; by a signal where the disk takes no more files.

    Raises:
        Refused: neither can be done.
    """
    try:
        write_json(file, {"by": by, "utc": utc_iso()})
    except Refused:
        if process is None or not process.send(signal.SIGTERM):
            raise


def wait(run: Run, timeout_s: float | None = None) -> bool:
    """Wait until nothing of the run lives, looking after it meanwhile; False when the time is up before."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while run.alive():
        ensure_supervised(run)
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True
