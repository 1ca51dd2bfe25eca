"""The one way a run is stopped: SIGINT once, SIGTERM once, SIGKILL of all that is left, then a look that none is.

torchrun's agent ends its ranks on the first SIGINT or SIGTERM (0.6–1.0 s); several signals in short order make it
leave them behind, hence each is sent once. A killed agent leaves its ranks running in sessions of their own, so the
last rung and the final look go by the run's id in the environment, not by process group.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from llmval_tui.foundation.process import Identity, processes_with

RUN_ID_VARIABLE = "LLMVAL_RUN_ID"
GRACE_S = 12.0  # for each of SIGINT and SIGTERM; ranks that ignore SIGTERM cost the agent 5.6 s
SHELLS = frozenset({"bash", "dash", "ksh", "sh", "zsh"})
# A runner names itself so while it writes the record of what it measured, which takes seconds where that is millions of
# token times. It is waited for beyond each grace, so long at most from the rung's signal on.
SAVING, SAVING_S = "llmval-saving", 60.0


def run_processes(run_id: str, exclude: frozenset[int] = frozenset()) -> list[Identity]:
    """Every process of the run: those that carry its id, and this process' own descendants.

    The supervisor is a subreaper, so a process that cleared its environment and lost its parent is its child. `exclude`
    names pids that are not of the run (the recorder).
    """
    found = {identity.pid: identity for identity in processes_with(RUN_ID_VARIABLE, run_id)}
    for child in psutil.Process(os.getpid()).children(recursive=True):
        if identity := Identity.of(child.pid):
            found[child.pid] = identity
    return [identity for pid, identity in found.items() if pid not in exclude]


def leftover_processes(run_id: str) -> bool:
    """Whether any process carries the run's id; for others than the supervisor, whose own children count too."""
    return bool(processes_with(RUN_ID_VARIABLE, run_id))


def terminate(
    run_id: str,
    agent: Identity,
    exclude: frozenset[int] = frozenset(),
    *,
    grace_s: float = GRACE_S,
    term_s: float = 5.0,
) -> list[str]:
    """Stop a run's command and everything it left; returns what was done, a sentence each."""
    done: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        if not _send(agent, number):
            break
        done.append(f"sent {number.name} to the command (pid {agent.pid})")
        if _wait(lambda: not agent.alive(), grace_s, lambda: _saves(run_processes(run_id, exclude))):
            break
    return done + kill_leftovers(run_id, exclude, term_s=term_s)


def kill_leftovers(run_id: str, exclude: frozenset[int] = frozenset(), *, term_s: float = 5.0) -> list[str]:
    """End every process that is left of the run: SIGTERM, then SIGKILL, until none is."""
    left = run_processes(run_id, exclude)
    if not left:
        return []
    for identity in left:
        identity.send(signal.SIGTERM)
    if _wait(lambda: not run_processes(run_id, exclude), term_s, lambda: _saves(run_processes(run_id, exclude))):
        return [f"stopped {_pids(left)}, which had outlived the command"]
    done: list[str] = []
    for _ in range(20):  # a process may fork while it is being killed: look again
        left = run_processes(run_id, exclude)
        if not left:
            return done
        done.append(f"killed {_pids(left)}")
        for identity in left:
            identity.send(signal.SIGKILL)
        _wait(lambda: not run_processes(run_id, exclude), 2.0)
    return [*done, f"could not kill {_pids(left)}: look at them with ps"]


def _pids(identities: list[Identity]) -> str:
    return "pid " + ", ".join(str(identity.pid) for identity in identities)


def _send(agent: Identity, number: signal.Signals) -> bool:
    """Signal the command; a shell's children too, as Ctrl-C does: alone, it waits until the one it is at has ended."""
    if _comm(agent.pid) in SHELLS and agent.alive():
        with suppress(OSError):  # it is no leader of a group, or has ended
            os.killpg(agent.pid, number)
            return True
    return agent.send(number)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _saves(left: list[Identity]) -> bool:
    """Whether one of them writes its record."""
    return any(_comm(identity.pid) == SAVING for identity in left)


def _wait(gone: Callable[[], bool], seconds: float, saves: Callable[[], bool] = lambda: False) -> bool:
    """Whether it is gone within `seconds`, counted anew as long as it `saves`."""
    began = time.monotonic()
    deadline = began + seconds
    while not gone():
        if time.monotonic() >= deadline:
            if time.monotonic() - began >= SAVING_S or not saves():
                return False
            deadline = time.monotonic() + seconds
        time.sleep(0.1)
    return True
