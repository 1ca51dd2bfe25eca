"""The secrets of a run: masked in `run.json` and in its scripts, and kept in files of their own as long as needed.

These files have mode 0600, in a run folder of mode 0700. `FILE` has the real words of the commands. It stays until the
run is finished, because a new supervisor may have to start a later command after the first one was killed.
`PARAMETERS` has what the judge needs, such as the texts that an item demands. It stays until the run is judged.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, to_json, write_owners_json
from llmval_tui.foundation.masked_text import MASK, masked_values, without_secrets
from llmval_tui.runs.records import Command, FrozenScript

FILE = "commands.secret.json"
PARAMETERS = "params.secret.json"


def masked(command: Command) -> Command:
    """The command as records show it."""
    from llmval_tui.foundation.redaction import masked_argv  # slow to import
    from llmval_tui.foundation.secret_names import secret_name

    script = command.script
    return replace(
        command,
        argv=masked_argv(command.argv),
        display=without_secrets(command.display),
        env={
            name: MASK if value and secret_name(name) else without_secrets(value) for name, value in command.env.items()
        },
        script=replace(script, text=without_secrets(script.text)) if script is not None else None,
    )


def keep_secrets(folder: Path, commands: list[Command]) -> list[Command]:
    """The commands for `run.json`. If they hold secrets, the real words go into `FILE` in the run folder.

    Raises:
        OSError: the file cannot be written.
    """
    shown = [masked(command) for command in commands]
    hidden = {
        real.label: {"argv": real.argv, "env": real.env, "script": real.script, "shown_script": seen.script}
        for real, seen in zip(commands, shown, strict=True)
        if (real.argv, real.env, real.script) != (seen.argv, seen.env, seen.script)
    }
    if hidden:
        write_owners_json(folder / FILE, hidden)
    return shown


def keep_parameters(folder: Path, params: dict[str, Any]) -> dict[str, Any]:
    """The params for `run.json`. If they hold secrets, the real ones go into `PARAMETERS` in the run folder.

    Raises:
        OSError: the file cannot be written.
    """
    real = orjson.loads(to_json(params))
    shown: dict[str, Any] = masked_values(real)
    if shown == real:
        return params
    write_owners_json(folder / PARAMETERS, real)
    return shown


def with_secrets(folder: Path, command: Command) -> Command:
    """The command with its real words.

    Raises:
        Refused: they are masked, and the file is gone.
    """
    kept = read_json(folder / FILE)
    own = kept.get(command.label) if isinstance(kept, dict) else None
    if isinstance(own, dict):
        script = FrozenScript(**own["script"]) if own.get("script") else command.script
        return replace(command, argv=list(own["argv"]), env=dict(own["env"]), script=script)
    hidden = any(MASK in word for word in (*command.argv, *command.env.values()))
    if hidden or (command.script is not None and not is_whole(command.script)):
        raise Refused(f"the secret words of {command.label} are no longer in the run folder: run the item again.")
    return command


def real_parameters(folder: Path, recorded: dict[str, Any]) -> dict[str, Any]:
    """The params of a run with their secrets, as long as these are kept; else as `run.json` has them."""
    kept = read_json(folder / PARAMETERS)
    return kept if isinstance(kept, dict) else recorded


def is_whole(script: FrozenScript) -> bool:
    """Whether a script's recorded text is all that runs: nothing in it is masked."""
    return hashlib.sha256(script.text.encode()).hexdigest() == script.sha256


def forget_secrets(folder: Path) -> None:
    """Delete the words of the commands, and mask the scripts, after the run.

    Raises:
        OSError: a file cannot be written; the words are still there, and another call tries again.
    """
    kept = read_json(folder / FILE)
    for own in kept.values() if isinstance(kept, dict) else ():
        script = own.get("shown_script") if isinstance(own, dict) else None
        if script and script != own.get("script"):
            new = folder / f".{script['name']}"
            new.unlink(missing_ok=True)  # of a process that was killed here
            write_script(new, script["text"])
            new.replace(folder / script["name"])
    (folder / FILE).unlink(missing_ok=True)


def write_script(path: Path, text: str) -> None:
    """Write a script that its owner may run and nobody may change, whatever the umask.

    Raises:
        OSError: it exists, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o500)
        file.write(text.encode())
        file.flush()
        os.fsync(descriptor)


def forget_parameters(folder: Path) -> None:
    """Delete the params with secrets, after the verdict."""
    (folder / PARAMETERS).unlink(missing_ok=True)
