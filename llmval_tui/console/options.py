"""Helpers of all commands: find the workspace and the checklist, read the settings, print results."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import to_json
from llmval_tui.foundation.paths import user_path

if TYPE_CHECKING:
    from llmval_tui.actions.api import Options
    from llmval_tui.checklist.model import Checklist
    from llmval_tui.config import ConfigFile

DEFAULT_CHECKLISTS = ("docs/llm_validation_checklist.md", "llm_validation_checklist.md")


def workspace_of(options: argparse.Namespace) -> Path:
    """The folder that contains artifacts/ and docs/.

    Raises:
        Refused: it is not a folder.
    """
    workspace = user_path(options.workspace or ".").resolve()
    if not workspace.is_dir():
        raise Refused(f"the workspace {workspace} is not a folder: create it, or name another with --workspace.")
    return workspace


def checklist_path(options: argparse.Namespace) -> Path:
    """The checklist of the command line, else the first of `DEFAULT_CHECKLISTS` in the workspace.

    A relative path is relative to the workspace, so that no list of the current folder is ticked for another workspace.

    Raises:
        Refused: no checklist is named and the workspace has none, or the named one is only in the current folder.
    """
    workspace = workspace_of(options)
    if options.checklist:
        here = user_path(options.checklist)
        if str(options.checklist).startswith(("/", "~")):
            return here
        found = user_path(workspace / options.checklist)
        if not found.exists() and here.exists():
            raise Refused(
                f"the workspace {workspace} has no {options.checklist}, and a relative checklist belongs to the "
                f"workspace: name it in full ({here}), or leave out --workspace."
            )
        return found
    for name in DEFAULT_CHECKLISTS:
        if (workspace / name).is_file():
            return workspace / name
    lists = _lists_in(workspace)
    example = f"llmval {lists[0]}, or --checklist {lists[0]}" if lists else "llmval FILE, or --checklist FILE"
    raise Refused(
        f"{workspace} has no {DEFAULT_CHECKLISTS[0]}: name a Markdown checklist ({example}), "
        "write a ready one with llmval new, or try llmval demo."
    )


def _lists_in(workspace: Path) -> list[str]:
    """The names of the Markdown files of a folder that have a box."""
    found = []
    for path in sorted(workspace.glob("*.md")):
        with suppress(OSError):
            if re.search(rb"^\s*[-*+] \[[ xX]\] ", path.read_bytes()[:65536], re.MULTILINE):
                found.append(path.name)
    return found


def checklist_of(options: argparse.Namespace) -> "Checklist":
    """The parsed checklist.

    Raises:
        Refused: there is no checklist, or it cannot be read.
    """
    from llmval_tui.checklist.model import load

    return load(checklist_path(options))


def gpu_numbers(options: argparse.Namespace) -> tuple[int, ...] | None:
    """The GPUs of `--gpus`; None without that option.

    Raises:
        Refused: the value is not a list of numbers.
    """
    try:
        return tuple(int(word) for word in options.gpus.split(",")) if options.gpus else None
    except ValueError as error:
        raise Refused(f"--gpus {options.gpus} is not a list of GPU numbers: write it as 0,1,2.") from error


def plan_options(options: argparse.Namespace) -> "Options":
    """The options that actions read, from the command line.

    Raises:
        Refused: `--gpus` is not a list of numbers, or `--set` is not understood.
    """
    from llmval_tui.actions.api import Options

    return Options(
        preset=getattr(options, "preset", None),
        adapt=getattr(options, "adapt", False),
        gpus=gpu_numbers(options),
        runner_python=options.runner_python,
        tick=not getattr(options, "no_tick", False),
        values=values_of_arguments(getattr(options, "set", [])),
        confirmed=tuple(getattr(options, "confirm", [])),
        fail_fast=getattr(options, "fail_fast", False),
        yardstick=getattr(options, "yardstick", False),
        nodes=getattr(options, "nodes", None),
        launcher=getattr(options, "launcher", None),
        slurm_options=tuple(getattr(options, "slurm_option", [])),
        same_machine=getattr(options, "same_machine", False),
    )


def values_of_arguments(words: Sequence[str]) -> dict[str, str]:
    """The values of `--set NAME=VALUE`.

    Raises:
        Refused: a word has no `=`, or the name or the value is not valid.
    """
    if not words:
        return {}
    from llmval_tui.actions.review.settings import VALUE_NAME

    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not VALUE_NAME.fullmatch(name) or name == "date":
            raise Refused(f"--set {word} is not understood: write --set NAME=VALUE with the name of a placeholder.")
        if not value.isprintable():
            raise Refused(f"--set {name}: the value contains control or invisible characters: remove them.")
        found[name] = value
    return found


def apply_config(options: argparse.Namespace) -> "ConfigFile":
    """Fill in `runner_python` from config.toml, or with one that has torch, if the command line leaves it open.

    The preset is not taken from the file: it decides if a run counts, so it must be visible on the command line.

    Raises:
        Refused: config.toml is invalid.
    """
    from llmval_tui.config import load_config

    config = load_config()
    options.runner_python = runner_python(options, config)
    return config


def config_or_error(options: argparse.Namespace) -> tuple["ConfigFile", str | None]:
    """Like `apply_config`, for commands that work without settings: an invalid file gives an empty `ConfigFile` and the
    error message."""
    try:
        return apply_config(options), None
    except Refused as refusal:
        from llmval_tui.config import ConfigFile

        config = ConfigFile()
        options.runner_python = runner_python(options, config)
        return config, str(refusal)


def runner_python(options: argparse.Namespace, config: "ConfigFile") -> str | None:
    """The Python of the runners: that of the command line or config.toml, else the first one found that has torch; None
    means the one that runs llmval."""
    python = options.runner_python or config.runner_python
    if python:
        return str(user_path(python) if python.startswith("~") else python)
    from llmval_tui.runs.interpreters import runner_python_found

    return runner_python_found()


def refuse_readonly(options: argparse.Namespace) -> None:
    """Refuse `--readonly` for a command that changes something.

    Raises:
        Refused: `--readonly` was given.
    """
    if options.readonly:
        raise Refused("--readonly was given, but this command changes things: leave out one of the two.")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(to_json(value, indent=True).decode())


def print_object(kind: str, **values: Any) -> None:
    """Print the object of a command with `--json`; its schema is docs/schemas/KIND.schema.json."""
    print_json({"kind": f"llmval_{kind}", "v": 1, **values})


def suggested(options: argparse.Namespace, command: str) -> str:
    """A command that a message suggests: with the workspace and the list of this one, so that it can be copied."""
    words = ["llmval", *command.split()]
    if options.workspace:
        words += ["--workspace", str(workspace_of(options))]
    if getattr(options, "checklist", None):
        words += ["--checklist", str(checklist_path(options))]
    return shlex.join(words)


def print_result(options: argparse.Namespace, message: str, **more: Any) -> None:
    """Print the message, or with `--json` an object of the message and `more`."""
    if options.json:
        print_object("message", ok=True, message=message, **more)
    else:
        print(message)


def config_folder() -> Path:
    """The operator's own settings and themes: `$XDG_CONFIG_HOME/llmval`, by default `~/.config/llmval`."""
    return user_path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "llmval"
