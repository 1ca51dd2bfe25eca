"""The secrets in a run's commands: masked in `run.json`, and kept for the supervisor until the run ends.

The file with the real words has mode 0600, in a run folder of mode 0700. It stays until the run is finished, because a
new supervisor may have to start a later command after the first one was killed.
"""

import os
from dataclasses import replace
from pathlib import Path

import orjson

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json
from llmval_tui.runs.records import Command

FILE = "commands.secret.json"
MASK = "******"  # that of foundation/redaction.py, which takes a supervisor 60 ms to import


def masked(command: Command) -> Command:
    """The command as records show it."""
    from llmval_tui.foundation.redaction import masked_argv, redact_text
    from llmval_tui.foundation.secret_names import secret_name

    script = command.script
    return replace(
        command,
        argv=masked_argv(command.argv),
        display=redact_text(command.display),
        env={name: MASK if value and secret_name(name) else redact_text(value) for name, value in command.env.items()},
        script=replace(script, text=redact_text(script.text)) if script is not None else None,
    )


def keep_secrets(folder: Path, commands: list[Command]) -> list[Command]:
    """The commands for `run.json`. If they hold secrets, the real words go into `FILE` in the run folder.

    Raises:
        OSError: the file cannot be written.
    """
    shown = [masked(command) for command in commands]
    hidden = {
        real.label: {"argv": real.argv, "env": real.env}
        for real, seen in zip(commands, shown, strict=True)
        if (real.argv, real.env) != (seen.argv, seen.env)
    }
    if hidden:
        descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(hidden))
            file.flush()
            os.fsync(descriptor)
    return shown


def with_secrets(folder: Path, command: Command) -> Command:
    """The command with its real words.

    Raises:
        Refused: they are masked, and the file is gone.
    """
    kept = read_json(folder / FILE)
    own = kept.get(command.label) if isinstance(kept, dict) else None
    if isinstance(own, dict):
        return replace(command, argv=list(own["argv"]), env=dict(own["env"]))
    if any(MASK in word for word in (*command.argv, *command.env.values())):
        raise Refused(f"the secret words of {command.label} are no longer in the run folder: run the item again.")
    return command


def forget_secrets(folder: Path) -> None:
    """Delete the file, after the run."""
    (folder / FILE).unlink(missing_ok=True)
