"""Freeze a command of a checklist into an argument list, an environment and the artifacts it must write."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llmval_tui.actions.api import Context
from llmval_tui.actions.command import presets
from llmval_tui.actions.command.argv import ParsedArgv, parse_argv, value_of
from llmval_tui.actions.command.environment import (
    applied,
    changes,
    newest_export,
    section_environment,
    withheld_export,
)
from llmval_tui.actions.command.gpu_count import NPROC, adapt_to_gpus, available_gpus, implied_gpus
from llmval_tui.actions.command.needs import smoke_runs_as_written
from llmval_tui.actions.command.outputs import Outputs, redirected, take_outputs
from llmval_tui.actions.command.resolve import Script, resolve_script
from llmval_tui.actions.command.runner_catalog import (
    COMPILE_REPRO,
    OPENAI_LOAD_TEST,
    TRACE,
    runner_details,
    runner_deviations,
    runner_of,
)
from llmval_tui.actions.command.several_nodes import nnodes_of, without_meeting, without_srun
from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.model import Tool
from llmval_tui.checklist.command import Word, parse_command
from llmval_tui.checklist.lexer import quote
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled, inside
from llmval_tui.runs.interpreters import how_to_install, missing_client_packages, own_has_torch
from llmval_tui.runs.records import Command

_PLAIN_PYTHON = ("python", "python3")


@dataclass(frozen=True, slots=True)
class Built:
    """A frozen command, its outputs, and its deviations from the text of the checklist."""

    command: Command
    script: Script | None
    argv: ParsedArgv
    outputs: Outputs
    deviations: list[str]
    details: list[str]


def build(
    context: Context,
    text: str,
    *,
    label: str = "main",
    extra: tuple[str, ...] = (),
    variant: str = "",
    folder: str | None = None,
) -> Built:
    """Freeze a command as written in a checklist.

    `extra` flags are appended; `variant` goes into the output names; `folder` is the working folder, relative to the
    workspace; without it, that of the settings beside the list.

    Raises:
        Refused: the command cannot run here; nothing was changed.
    """
    folder = folder or default_folder(context)
    parsed = parse_command(text, now=context.now, environment=context.environment, values=context.values)
    if parsed.has_date:
        parsed = parsed.fill(context.now.strftime("%Y%m%d"))
    words = [*parsed.argv, *extra]
    inner = without_srun(words) if context.elsewhere else words
    launched_by = words[: len(words) - len(inner)]  # shown as it was written; llmval's own job takes its place
    argv = parse_argv(inner)
    script = resolve_script(argv.script, context.workspace, folder) if argv.script is not None else None
    details = [script.note] if script else []
    deviations: list[str] = []
    runner = script.runner if script else None
    if runner == COMPILE_REPRO and argv.launcher == "torchrun":
        raise Refused(
            f"{COMPILE_REPRO} starts its own ranks, and packs the bundle after they end: write python instead "
            "of torchrun and its flags."
        )
    if script:
        argv = argv.with_script(script.path_in_command)
    if context.options.preset is not None and runner is None and smoke_runs_as_written(context.step.directives):
        deviations.append(f"{context.options.preset} preset: the command is as written")
    elif context.options.preset is not None:
        argv, found = presets.apply(context.options.preset, runner, argv, available_gpus(context))
        deviations += found
    else:
        argv, found = adapt_to_gpus(argv, context, needs_gpu=runner is not None, implied=implied_gpus(runner, argv))
        deviations += found
    details += runner_details(runner, argv)
    deviations += runner_deviations(runner, argv, context.step)
    suffix = "".join(f".{part}" for part in (variant, _preset_suffix(context)) if part)
    argv, output = redirected(argv, parsed.output, suffix)
    tool = tool_of(shell_words(argv))
    details += tool_details(tool)
    outputs = take_outputs(argv, output, runner, context.workspace, folder=folder, label=label, tool=tool)
    environment, notes = environment_of(context, parsed.environment)
    if withheld := withheld_export(context.store, context.checklist, context.step.section):
        deviations.append(withheld)
    written = replace(parsed, words=tuple(Word(word) for word in [*launched_by, *shell_words(argv)]), output=output)
    shown = replace(written, assignments=tuple((k, Word(v)) for k, v in environment.items())).shell_text()
    frozen = _frozen(argv, context, label, runner, folder)
    if argv.program in _PLAIN_PYTHON and runner is None and frozen[0] != argv.program:
        details.append(f"{argv.program} is {frozen[0]}")
    command = Command(
        label=label,
        argv=frozen,
        display=f"(cd {quote(folder)} && {shown})" if folder else shown,
        env=environment,
        tee=outputs.tee,
        nproc=_nproc(argv, context),
        cwd=folder,
        merge_stderr=parsed.merge_stderr,
        append=output is not None and output.append,
        findings=list(runner_of(runner).findings),
    )
    return Built(command, script, argv, outputs, deviations, details + notes)


def tool_details(tool: Tool | None) -> list[str]:
    """What is read of a known tool's result, and the flag without which something of it is not judged."""
    if tool is None:
        return []
    missing = tool.missing_flag()
    return [f"judges the result of {tool.name}", *([missing] if missing else [])]


def _preset_suffix(context: Context) -> str:
    # Outside a demo workspace a smoke result must not replace the real one of the day, which may back a tick.
    return "" if context.options.preset is None or context.demo else context.options.preset


def environment_of(context: Context, assigned: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables of a command, and notes: those of the settings beside the list, the section's, its own assignments,
    then `--gpus`; a later one wins."""
    of_list = context.settings.env if context.settings is not None else {}
    section = section_environment(context.store, context.checklist, context.step)
    source = newest_export(context.store, context.checklist, context.step.section)
    found = changes({**of_list, **section, **assigned}, context.environment)
    notes = []
    if of_list and context.settings is not None:
        notes.append(f"the command gets {', '.join(of_list)} from {context.settings.path.name}")
    if section and source is not None:
        notes.append(f"the command gets the {len(section)} variables that run {source.id} exported")
    notes += [change.line for change in found if change.note]
    environment = applied(found)
    if context.options.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in dict.fromkeys(context.options.gpus))
        notes.append(f"uses only GPU {environment['CUDA_VISIBLE_DEVICES']} (--gpus)")
    return environment, notes


def shell_words(argv: ParsedArgv) -> list[str]:
    """The words that an operator would type in a shell."""
    script = [argv.script] if argv.script is not None else []
    return [argv.program, *argv.options, *script, *argv.arguments]


def _frozen(argv: ParsedArgv, context: Context, label: str, runner: str | None, folder: str | None) -> list[str]:
    """The words to execute. llmval's launcher replaces torchrun and records the exit code of every rank."""
    script = [argv.script] if argv.script is not None else []
    rest = [*argv.options, *script, *argv.arguments]
    if argv.launcher == "torchrun":
        if nnodes_of(argv) > 1:
            rest = [*without_meeting(argv.options), *script, *argv.arguments]
        launcher = bundled("runners") / "llmval_runners" / "process" / "launch.py"
        logs = ["--logs", "{run}/logs", "--label", label, "--exit-codes", f"{{run}}/ranks.{label}.json"]
        python = _python_of(runner, context) if runner is not None else _torchrun_python(context)
        return [python, str(launcher), *logs, "--", *rest]
    if argv.launcher == "python" and argv.program in _PLAIN_PYTHON:
        return [_python_of(runner, context) if runner is not None else site_python(context, argv.program), *rest]
    program = _program(argv.program, context.workspace / (folder or ""))
    # The trace script starts the engine itself; it takes the interpreter before its other flags.
    if argv.launcher == "bash" and runner == TRACE and argv.arguments[:1] != ("--python",):
        rest = [*argv.options, *script, "--python", _python_of(runner, context), *argv.arguments]
    return [program, *rest]


def _python_of(runner: str, context: Context) -> str:
    """The interpreter of this runner.

    Raises:
        Refused: `--runner-python` is not a program, or nobody named one and none was found that has torch, or it lacks
            what the runner needs instead.
    """
    if runner == OPENAI_LOAD_TEST and context.options.nodes is None:  # of other nodes nothing is known here
        python = runner_python(context)
        if missing := missing_client_packages(python):
            raise Refused(
                f"{python} has no {' and no '.join(missing)}, which {runner} needs: "
                f"{how_to_install(missing, python)}, or name the Python of a vLLM installation with --runner-python."
            )
        return python
    if context.options.runner_python is None and runner != OPENAI_LOAD_TEST and not own_has_torch():
        raise Refused(
            "No Python was found here that has torch, and this runner needs it: install torch, or name a Python that "
            "has it with --runner-python."
        )
    return runner_python(context)


def runner_python(context: Context) -> str:
    """The interpreter of the runners.

    Raises:
        Refused: `--runner-python` is not a program.
    """
    wanted = context.options.runner_python
    if wanted is None:
        return sys.executable
    found = shutil.which(wanted)
    if found is None:
        raise Refused(f"--runner-python {wanted} is not a program: give the path of a Python interpreter.")
    return found


def site_python(context: Context, name: str = "python") -> str:
    """The path of the interpreter of the workspace's own scripts: that of the settings, else `name` of PATH.

    Raises:
        Refused: there is none.
    """
    file = context.settings.path.name if context.settings is not None else "the file beside the list"
    wanted = context.settings.python if context.settings is not None else None
    if wanted is not None:
        found = shutil.which(str(context.workspace / Path(wanted).expanduser()) if "/" in wanted else wanted)
        if found is None:
            raise Refused(f"{wanted} is not a program: correct path below [python] in {file}.")
        return found
    found = shutil.which(name)
    if found is None:
        raise Refused(f"{name} is not on PATH: install it, or name an interpreter as path below [python] in {file}.")
    return found


def _torchrun_python(context: Context) -> str:
    """The interpreter for torchrun with a script of the workspace: that of the settings, else the one beside the
    `torchrun` of PATH, else that of llmval's runners."""
    if context.settings is not None and context.settings.python is not None:
        return site_python(context)
    torchrun = shutil.which("torchrun")
    beside = [Path(torchrun).parent / name for name in _PLAIN_PYTHON] if torchrun is not None else []
    return next((str(path) for path in beside if shutil.which(str(path))), None) or runner_python(context)


def default_folder(context: Context) -> str | None:
    """The working folder of the settings beside the list; None: the workspace.

    Raises:
        Refused: it is not a folder of the workspace.
    """
    folder = context.settings.folder if context.settings is not None else None
    if folder in (None, "."):
        return None
    path = inside(context.workspace, folder)
    if not path.is_dir():
        raise Refused(
            f"there is no folder {folder} in {context.workspace}: correct folder in the file beside the list."
        )
    return str(path.relative_to(context.workspace.resolve()))


def _program(name: str, folder: Path) -> str:
    """The name of a program that can be executed, by its path from the working folder or from PATH."""
    if "/" in name:
        path = folder / Path(name).expanduser()
        if not path.is_file():
            where = "" if Path(name).is_absolute() else f" in {folder}"
            raise Refused(f"there is no {name}{where}: correct the path.")
        if shutil.which(str(path)) is None:
            raise Refused(f"{name} is not executable: make it so with chmod +x {name}.")
        return name
    if shutil.which(name) is None:
        raise Refused(f"{name} is not installed or not on PATH: install it, or give its path.")
    return name


def _nproc(argv: ParsedArgv, context: Context) -> int | None:
    """The number of ranks that torchrun starts; None for other launchers. Its default is 1."""
    if argv.launcher != "torchrun":
        return None
    value = value_of(argv.options, NPROC)
    if value is None:
        return 1
    if value.isdecimal():
        return int(value)
    return available_gpus(context) or None
