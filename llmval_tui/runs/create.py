"""Making a run: its id, its folder, `run.json` and the frozen scripts."""

import secrets
import time
from dataclasses import replace
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sync_folder, write_json
from llmval_tui.foundation.text import utc_stamp
from llmval_tui.runs.command_secrets import keep_parameters, keep_secrets, write_script
from llmval_tui.runs.records import Artifact, Command, Intent
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, RUN_PLACEHOLDER, Run, RunStore
from llmval_tui.telemetry.process_ownership import is_node_folder


def new_run_id(number: str) -> str:
    """`<UTC time>-<step>-<random>`; the random part separates two runs made in one second."""
    return f"{utc_stamp()}-{number}-{secrets.token_hex(3)}"


def create_run(store: RunStore, intent: Intent) -> Run:
    """Make the run folder and write `run.json`, with all placeholders replaced, before anything starts.

    Raises:
        Refused: the folder cannot be made.
    """
    folder = store.root / intent.run_id
    newest = next(iter(store.runs()), None)
    frozen = replace(
        intent,
        # The newest run must sort last even if the clock was set back or two runs were made in one second.
        order_ns=max(time.time_ns(), newest.order[0] + 1 if newest else 0),
        commands=[_resolve_command(command, folder) for command in intent.commands],
        artifacts=[resolve_artifact(item, folder.name) for item in intent.artifacts],
    )
    return write_run(folder, frozen)


def write_run(folder: Path, intent: Intent) -> Run:
    """Make a run folder with `run.json` and the scripts; the words of secrets go into a file of their own.

    Raises:
        Refused: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=is_node_folder(folder))  # a node says first what it is
        (folder / "logs").mkdir(exist_ok=True)  # logs may hold what a program should not have printed
        for script in (command.script for command in intent.commands if command.script is not None):
            write_script(folder / script.name, script.text)
        write_json(folder / "run.json", _recorded(folder, intent))
        sync_folder(folder.parent)
    except OSError as error:
        raise Refused(
            f"{folder} cannot be made ({error.strerror}): free some space or choose another --workspace."
        ) from error
    return Run(folder)


def _recorded(folder: Path, intent: Intent) -> Intent:
    """The intent for `run.json`, without secrets."""
    commands, params = keep_secrets(folder, intent.commands), keep_parameters(folder, intent.params)
    return replace(intent, commands=commands, params=params)


def resolve_artifact(artifact: Artifact, run_id: str) -> Artifact:
    """The artifact with the run's id in its path."""
    return replace(artifact, path=artifact.path.replace(RUN_ID_PLACEHOLDER, run_id))


def _resolve_command(command: Command, folder: Path) -> Command:
    def resolve(text: str) -> str:
        return text.replace(RUN_PLACEHOLDER, str(folder))

    return replace(
        command,
        argv=[resolve(word) for word in command.argv],
        env={name: resolve(value) for name, value in command.env.items()},
    )
