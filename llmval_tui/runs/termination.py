"""Terminating a run: SIGINT once, SIGTERM once, SIGKILL for every leftover process, then a check that none is left.

torchrun's agent ends its ranks on the first SIGINT or SIGTERM (0.6–1.0 s). Several signals in short order make it leave
its ranks behind, so each is sent once. A killed agent leaves its ranks running in their own sessions, so leftover
processes are found as telemetry/process_ownership.py says, not by process group.
"""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmval_tui.foundation.process import Identity
from llmval_tui.telemetry.process_ownership import RunProcesses

GRACE_S = 12.0  # for each of SIGINT and SIGTERM; ranks that ignore SIGTERM cost the agent 5.6 s
SHELLS = frozenset({"bash", "dash", "ksh", "sh", "zsh"})
# A runner has this process name while it writes its record (llmval_runners/process/shutdown.py has the same name). That
# takes seconds for millions of token times, so it gets more time than the grace: at most this long after the signal.
SAVING, SAVING_S = "llmval-saving", 60.0


def terminate(
    processes: RunProcesses,
    agent: Identity,
    exclude: frozenset[int] = frozenset(),
    *,
    grace_s: float = GRACE_S,
    term_s: float = 5.0,
) -> list[str]:
    """Terminate a run's command and all its leftover processes; returns one sentence for each step taken."""
    done: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        if not _send(agent, number):
            break
        done.append(f"sent {number.name} to the command (pid {agent.pid})")
        if _wait(lambda: not agent.alive(), grace_s, lambda: _is_saving(processes.own(exclude))):
            break
    return done + kill_leftovers(processes, exclude, term_s=term_s)


def kill_and_watch(
    processes: RunProcesses, agent: Identity, exclude: frozenset[int] = frozenset(), *, grace_s: float = GRACE_S
) -> list[str]:
    """Kill the command, as a crash would end it, and give its other processes `grace_s` to notice and end.

    Returns one sentence for each step taken.
    """
    if not agent.send(signal.SIGKILL):
        return kill_leftovers(processes, exclude)
    began = time.monotonic()
    _wait(lambda: not agent.alive(), 5.0)
    _wait(lambda: not processes.own(exclude), grace_s)
    left = kill_leftovers(processes, exclude)
    if not left:
        left = [f"its other processes had ended within {time.monotonic() - began:.1f} s"]
    return [f"sent SIGKILL to the command (pid {agent.pid})", *left]


def had_to_kill(steps: list[str], *, on_purpose: bool = False) -> bool:
    """Whether one of these sentences says that SIGKILL was needed, or `on_purpose`, that not even that sufficed."""
    return any(step.startswith("could not kill" if on_purpose else ("killed pid", "could not kill")) for step in steps)


def outlived(steps: list[str]) -> int:
    """How many processes, by these sentences, outlived the command."""
    lines = [step for step in steps if step.startswith(("stopped pid", "killed pid", "could not kill"))]
    return len({pid for line in lines for pid in re.findall(r"\d+", line)})


def kill_leftovers(processes: RunProcesses, exclude: frozenset[int] = frozenset(), *, term_s: float = 5.0) -> list[str]:
    """End all leftover processes of the run, by SIGTERM, then by SIGKILL; returns one sentence for each step taken.

    `exclude` lists pids that do not belong to the run (the recorder).
    """
    left = processes.own(exclude)
    if not left:
        return []
    for identity in left:
        identity.send(signal.SIGTERM)
    stopped = f"stopped {_pids(left)}, which had outlived the command"
    if _wait(lambda: not processes.own(exclude), term_s, lambda: _is_saving(processes.own(exclude))):
        return [stopped]
    done: list[str] = []
    for _ in range(20):  # a process may fork while it is being killed: look again
        left = processes.own(exclude)
        if not left:
            return done or [stopped]  # the last one ended between the end of the wait and this look
        done.append(f"killed {_pids(left)}")
        for identity in left:
            identity.send(signal.SIGKILL)
        _wait(lambda: not processes.own(exclude), 2.0)
    return [*done, f"could not kill {_pids(left)}: look at them with ps"]


def _pids(identities: list[Identity]) -> str:
    return "pid " + ", ".join(str(identity.pid) for identity in identities)


def _send(agent: Identity, number: signal.Signals) -> bool:
    """Signal the command. A shell's children get it too, as with Ctrl-C: a shell acts only after its child ended."""
    if _comm(agent.pid) in SHELLS and agent.alive():
        with suppress(OSError):  # it leads no process group, or has ended
            os.killpg(agent.pid, number)
            return True
    return agent.send(number)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _is_saving(left: list[Identity]) -> bool:
    """Whether one of the processes is writing its record."""
    return any(_comm(identity.pid) == SAVING for identity in left)


def _wait(gone: Callable[[], bool], seconds: float, is_saving: Callable[[], bool] = lambda: False) -> bool:
    """Wait until `gone`, for `seconds` or, while a record is being written, up to `SAVING_S`; returns whether it is."""
    began = time.monotonic()
    deadline = began + seconds
    while not gone():
        if time.monotonic() >= deadline:
            if time.monotonic() - began >= SAVING_S or not is_saving():
                return False
            deadline = time.monotonic() + seconds
        time.sleep(0.1)
    return True
