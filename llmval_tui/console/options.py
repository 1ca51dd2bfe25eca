"""What the commands share: which workspace and checklist are meant, and how answers are printed."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import to_json

if TYPE_CHECKING:
    from llmval_tui.actions.api import Options
    from llmval_tui.checklist.model import Checklist
    from llmval_tui.config import Config

DEFAULT_CHECKLISTS = ("docs/llm_validation_checklist.md", "llm_validation_checklist.md")


def workspace_of(options: argparse.Namespace) -> Path:
    """The folder that artifacts and documents belong to.

    Raises:
        Refused: it is not a folder.
    """
    workspace = Path(options.workspace or ".").expanduser().resolve()
    if not workspace.is_dir():
        raise Refused(f"the workspace {workspace} is not a folder: make it, or name another with --workspace.")
    return workspace


def checklist_path(options: argparse.Namespace) -> Path:
    """The checklist that was named, or the one in its usual place.

    Raises:
        Refused: none was named and none is in a usual place.
    """
    workspace = workspace_of(options)
    if options.checklist:
        return Path(options.checklist).expanduser().absolute()
    for place in DEFAULT_CHECKLISTS:
        if (workspace / place).is_file():
            return workspace / place
    raise Refused(
        f"{workspace} has no {DEFAULT_CHECKLISTS[0]}: name a Markdown checklist (llmval FILE, or --checklist FILE), "
        "or look at the one that comes with llmval: llmval demo."
    )


def checklist_of(options: argparse.Namespace) -> "Checklist":
    from llmval_tui.checklist.model import load

    return load(checklist_path(options))


def gpu_numbers(options: argparse.Namespace) -> tuple[int, ...] | None:
    """The GPUs that `--gpus` names; None without it.

    Raises:
        Refused: it is not a list of numbers.
    """
    try:
        return tuple(int(word) for word in options.gpus.split(",")) if options.gpus else None
    except ValueError as error:
        raise Refused(f"--gpus {options.gpus} is not a list of GPU numbers: write it as 0,1,2.") from error


def plan_options(options: argparse.Namespace) -> "Options":
    """The operator's choices as the actions see them.

    Raises:
        Refused: `--gpus` is not a list of numbers.
    """
    from llmval_tui.actions.api import Options

    return Options(
        preset=getattr(options, "preset", None),
        adapt=getattr(options, "adapt", False),
        gpus=gpu_numbers(options),
        runner_python=options.runner_python,
        tick=not getattr(options, "no_tick", False),
    )


def apply_config(options: argparse.Namespace) -> "Config":
    """Take from the operator's settings what the command line left open: `runner_python`.

    The preset is left alone: whether a run counts is said where it is started, not in a file that one forgets.

    Raises:
        Refused: the file says what it cannot.
    """
    from llmval_tui.config import load_config

    config = load_config(keys=False)
    options.runner_python = runner_python(options, config)
    return config


def config_or_error(options: argparse.Namespace) -> tuple["Config", str | None]:
    """As `apply_config`, for commands that do without the settings: where the file is wrong, an empty `Config` and
    the sentence that says what is wrong."""
    try:
        return apply_config(options), None
    except Refused as refusal:
        from llmval_tui.config import Config

        config = Config()
        options.runner_python = runner_python(options, config)
        return config, str(refusal)


def runner_python(options: argparse.Namespace, config: "Config") -> str | None:
    """The runners' interpreter: the command line's, else the settings', else None for our own."""
    named = options.runner_python or config.runner_python
    return str(Path(named).expanduser()) if named else None


def refuse_readonly(options: argparse.Namespace) -> None:
    """Raises:
    Refused: `--readonly` was given to a command that changes something.
    """
    if options.readonly:
        raise Refused("--readonly was given and this command changes things: leave one of the two out.")


def print_json(value: Any) -> None:
    sys.stdout.write(to_json(value, indent=True).decode())


def print_result(options: argparse.Namespace, message: str, **more: Any) -> None:
    """Print a result: the sentence for people, one JSON object with it for scripts."""
    if options.json:
        print_json({"ok": True, "message": message, **more})
    else:
        print(message)
