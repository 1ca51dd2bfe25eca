"""Making a run folder: the intent is frozen and on disk before anything starts."""

import secrets
import time
from dataclasses import replace
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sync_folder, write_json
from llmval_tui.foundation.text import utc_stamp
from llmval_tui.runs.records import Artifact, Command, Intent
from llmval_tui.runs.store import Run, RunStore

RUN_PLACEHOLDER = "{run}"  # in a proposed command: the run folder, which is not known before it is made
RUN_ID_PLACEHOLDER = "{run_id}"  # in a promised artifact's path


def new_run_id(number: str) -> str:
    """`<UTC time>-<step>-<short id>`: says when and what it is, and two made in one second differ."""
    return f"{utc_stamp()}-{number}-{secrets.token_hex(3)}"


def create_run(store: RunStore, intent: Intent) -> Run:
    """Write `run.json` into a new folder named by the intent's run id, with its placeholders replaced.

    Raises:
        Refused: the folder cannot be made.
    """
    folder = store.root / intent.run_id
    newest = next(iter(store.runs()), None)
    frozen = replace(
        intent,
        # The newest run must stay the newest one where the clock was set back, or another was made in its second.
        order_ns=max(time.time_ns(), newest.order[0] + 1 if newest else 0),
        commands=[_placed(command, folder) for command in intent.commands],
        artifacts=[placed(item, folder.name) for item in intent.artifacts],
    )
    try:
        (folder / "logs").mkdir(parents=True)
        write_json(folder / "run.json", frozen)
        sync_folder(store.root)
    except OSError as error:
        raise Refused(
            f"{folder} cannot be made ({error.strerror}): free some space or choose another --workspace."
        ) from error
    return Run(folder)


def placed(artifact: Artifact, run_id: str) -> Artifact:
    """The artifact with its path as it is for this run."""
    return replace(artifact, path=artifact.path.replace(RUN_ID_PLACEHOLDER, run_id))


def _placed(command: Command, folder: Path) -> Command:
    def place(text: str) -> str:
        return text.replace(RUN_PLACEHOLDER, str(folder))

    return replace(
        command,
        argv=[place(word) for word in command.argv],
        env={name: place(value) for name, value in command.env.items()},
    )
