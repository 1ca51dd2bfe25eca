"""Freeze all that an item runs: its commands in their order, or its script."""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from llmval_tui.actions.api import Context, Skip
from llmval_tui.actions.command.argv import ParsedArgv
from llmval_tui.actions.command.environment import withheld_export
from llmval_tui.actions.command.freeze import Built, build, default_folder, environment_of, tool_details
from llmval_tui.actions.command.needs import smoke_runs_as_written
from llmval_tui.actions.command.outputs import promised_outputs
from llmval_tui.actions.reading.model import Reading, WrittenCommand, WrittenScript
from llmval_tui.actions.tools.in_script import promises_in, tools_in
from llmval_tui.checklist.lexer import quote
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import inside
from llmval_tui.runs.records import Artifact, Command, FrozenScript
from llmval_tui.runs.store import RUN_PLACEHOLDER

SHELL = ("bash", "-euo", "pipefail")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")  # no shell gives these characters a meaning of its own


def build_item(context: Context, reading: Reading) -> list[Built]:
    """Freeze the commands of an item, or its script. Each command after the first starts only if all before it passed.

    Raises:
        Refused: one of them cannot run here, or two of them write the same file; nothing was changed.
    """
    if reading.script is not None:
        return [_build_script(context, reading.script)]
    if not reading.commands:
        raise Refused("the item contains no command: write it as a code span, such as `torchrun … script.py …`.")
    built = [_build_command(context, written, number) for number, written in enumerate(reading.commands, 1)]
    replaced = Counter(one.command.tee for one in built if one.command.tee and not one.command.append)
    if twice := [path for path, count in replaced.items() if count > 1]:
        raise Refused(
            f"two commands of the item write {twice[0]}, so the output of the first would be lost: give each its own "
            "file, or append the second with tee -a."
        )
    return built


def _build_command(context: Context, written: WrittenCommand, number: int) -> Built:
    label = "main" if number == 1 else f"main{number}"
    folder = _folder(context, written, first=number == 1)
    built = build(context, written.text, label=label, folder=folder)
    return replace(built, command=replace(built.command, line=written.line, needs_success=number > 1))


def _folder(context: Context, written: WrittenCommand, *, first: bool) -> str | None:
    """The working folder, relative to the workspace. A later command may use a folder that an earlier one makes."""
    if written.folder is None:
        return None
    path = inside(context.workspace, written.folder)
    if first and not path.is_dir():
        raise Refused(f"there is no folder {written.folder} in {context.workspace}: correct the item's path.")
    return str(path.relative_to(context.workspace.resolve()))


def _build_script(context: Context, written: WrittenScript) -> Built:
    if context.options.preset is not None and not smoke_runs_as_written(context.step.directives):
        raise Skip(f"the {context.options.preset} preset has no short form of scripts: run the item without --preset.")
    if shutil.which(SHELL[0]) is None:
        raise Refused("bash is not installed or not on PATH, and the item's script needs it: install it.")
    filled = fill_script(written, context.values)
    file = frozen_script("main", filled.text)
    environment, notes = environment_of(context, filled.environment)
    argv = ParsedArgv("bash", SHELL[0], SHELL[1:], None, ())
    words = [*SHELL, file.name]
    command = Command(
        label="main",
        argv=[*SHELL, f"{RUN_PLACEHOLDER}/{file.name}"],
        display=" ".join([*(f"{name}={quote(value)}" for name, value in environment.items()), *words]),
        env=environment,
        cwd=default_folder(context),
        script=file,
        line=written.line,
    )
    withheld = withheld_export(context.store, context.checklist, context.step.section)
    details = [f"writes the script of line {written.line} to the run folder as {file.name}, SHA-256 {file.sha256}"]
    details += [line for tool in tools_in(filled.text) for line in tool_details(tool)]
    outputs = promised_outputs(promises_in(filled.text), context.workspace, command.cwd)
    return Built(command, None, argv, outputs, [withheld] if withheld else [], details + notes)


def frozen_script(label: str, text: str) -> FrozenScript:
    """The script as a file of the run folder; it ends with a line break."""
    text = text if text.endswith("\n") else text + "\n"
    return FrozenScript(f"{label}.sh", text, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class FilledScript:
    """A script with its values."""

    text: str
    environment: Mapping[str, str]


def fill_script(written: WrittenScript, values: Mapping[str, str]) -> FilledScript:
    """The script with the values of its placeholders.

    The value of `$NAME` goes into the environment, where the shell never reads it as code. The value of `<name>`
    replaces it in the text, and so must consist of plain characters: which quotes stand around it is not known.

    Raises:
        Refused: a value is missing, or a value for the text has characters that a shell could read as code.
    """
    text, environment = written.text, {}
    for name in written.placeholders:
        if name not in values:
            raise Refused(f"the script needs a value for {name}: give it with --set {name}=VALUE.")
        if f"<{name}>" not in text:
            environment[name] = values[name]
        elif _PLAIN_VALUE.fullmatch(values[name]):
            text = text.replace(f"<{name}>", values[name])
        else:
            raise Refused(
                f"the value of <{name}> has characters that the shell of a script could read as code: use letters, "
                f"digits and _ . / : @ % + = , - only, or write ${name.upper()} in the script instead of <{name}>."
            )
    return FilledScript(text, environment)


def promised(context: Context, reading: Reading, built: list[Built]) -> list[Artifact]:
    """The files and folders that the item's words promise besides those of its commands."""
    known = {artifact.path for one in built for artifact in one.outputs.artifacts}
    known |= {one.command.tee for one in built if one.command.tee is not None}  # also if it is appended to
    if preset := context.options.preset:  # the command writes x.smoke.json where the item says x.json
        known |= {path.replace(f".{preset}.", ".") for path in known}
    root = context.workspace.resolve()
    paths = [str(inside(context.workspace, path).relative_to(root)) for path in reading.evidence]
    return [Artifact(path) for path in dict.fromkeys(paths) if path not in known]
