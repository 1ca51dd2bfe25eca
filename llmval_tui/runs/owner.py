"""The process that owns one run: its supervisor, or the head of a run on several nodes."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import take_lock
from llmval_tui.runs.records import State, Status
from llmval_tui.runs.store import Run

FINAL_SAVE_S = 600.0  # how long the end of a run waits for space on a full disk


class Owner(Protocol):
    """What carries out a run, or follows one that an earlier owner started."""

    status: Status

    def supervise(self) -> None:
        """Carry out the run to its end.

        Raises:
            Refused: nothing can be recorded.
        """

    def ask_to_stop(self, number: int, frame: object, /) -> None:
        """Signal handler: a signal to the owner cancels the run."""


def own_run(arguments: list[str] | None, make: Callable[[Run], Owner], called: str) -> int:
    """Take the lock of the run that the arguments name, and carry it out.

    Args:
        called: what this process is, for its messages.

    Returns 2 if another owner holds the lock, or if nothing can be recorded.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    options = parser.parse_args(arguments)
    for ignored in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    run = Run(options.run)
    if take_lock(run.supervisor_lock) is None:  # held until this process ends
        print(f"{run.id} already has a {called}", file=sys.stderr)
        return ExitCode.REFUSED
    try:
        owner = make(run)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, owner.ask_to_stop)
        if owner.status.state is State.FINISHED or run.judged():
            return ExitCode.PASSED  # finished, or judged as lost before this process started
        owner.supervise()
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return ExitCode.REFUSED
    return ExitCode.PASSED


def record_end(
    run: Run,
    write: Callable[[], None],
    stopped: Callable[[], bool],
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Write what an owner writes last; wait until the disk takes it.

    Args:
        write: raises Refused or OSError if the disk does not take it, and is then called again.
        stopped: whether a signal has ended the wait.

    Raises:
        Refused: it could not be written.
    """
    deadline = clock() + FINAL_SAVE_S
    while True:
        try:
            write()
            return
        except (Refused, OSError) as error:
            if clock() >= deadline or stopped() or _is_removed(run):
                raise Refused(f"the end of {run.id} cannot be recorded: {error}") from error
        sleep(1)


def _is_removed(run: Run) -> bool:
    """Whether somebody removed the run: its folder is gone, and our log, which lies there, has no name any more."""
    return not run.folder.exists() and os.fstat(1).st_nlink == 0
