"""Starting a command of a run: its environment, its logs and its lock."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from llmval_tui.foundation.files import take_lock
from llmval_tui.runs.command_secrets import with_secrets
from llmval_tui.runs.records import Command
from llmval_tui.runs.server_life import environment_of
from llmval_tui.runs.store import Run, intact
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE


def start_command(run: Run, command: Command, servers: Sequence[Run]) -> subprocess.Popen[bytes]:
    """Start a command of the run in a session of its own; it holds `command.lock` until it ends.

    Args:
        servers: the runs whose servers it may use.

    Raises:
        OSError: it cannot be started; `strerror` says why.
    """
    intent = run.intent
    for artifact in intent.artifacts:  # so that a command may write into a new folder
        (Path(intent.cwd) / artifact.path).parent.mkdir(parents=True, exist_ok=True)
    if command.script is not None and not intact(run, command.script):
        raise OSError(0, f"{command.script.name} in the run folder is not the script that was frozen")
    lock = take_lock(run.command_lock)
    if lock is None:
        raise OSError(0, "another command of this run is still running")
    command = with_secrets(run.folder, command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMVAL_")}
    environment |= command.env
    environment |= {
        RUN_ID_VARIABLE: intent.run_id,
        "LLMVAL_EVENTS": str(run.events),
        "LLMVAL_RUN_FOLDER": str(run.folder),
        "PYTHONUNBUFFERED": "1",
    }
    for server in servers:  # of several, the one that was started last
        environment |= environment_of(server)
    with log_of(run, command, "stdout").open("ab") as out, log_of(run, command, "stderr").open("ab") as err:
        try:
            return subprocess.Popen(
                command.argv,
                cwd=Path(intent.cwd) / (command.cwd or ""),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out if command.merge_stderr else err,
                start_new_session=True,
                pass_fds=(lock,),
            )
        finally:
            os.close(lock)  # the command's inherited copy keeps it


def log_of(run: Run, command: Command, stream: str) -> Path:
    """The file of a command's `stdout` or `stderr`."""
    return run.logs_folder / f"{command.label}.{stream}.log"
