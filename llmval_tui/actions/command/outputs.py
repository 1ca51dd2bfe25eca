"""The outputs of a command: the files and folders in its flags and its redirection."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from llmval_tui.actions.command.argv import ParsedArgv, value_of, with_value
from llmval_tui.actions.command.gpu_count import NPROC
from llmval_tui.actions.command.runner_catalog import artifacts_beside, artifacts_in, runner_of
from llmval_tui.actions.tools.model import Promise, Tool
from llmval_tui.checklist.command import Output, Word
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import inside
from llmval_tui.runs.records import Artifact, appended_name
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, RUNS_FOLDER

_FILE_FLAGS = ("--output-json", "--output", "--output-file")
_FOLDER_FLAGS = ("--output-dir",)
_FORMATS = "az aws df findmnt gcloud helm journalctl kubectl losetup lsblk lslogins lsmem oc zramctl"


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of a command; paths are relative to the workspace."""

    artifacts: list[Artifact]
    folders: list[str]
    tee: str | None


def _flags_of(argv: ParsedArgv) -> tuple[str, ...]:
    """The flags that name an output of this program; the `--output` of some others chooses columns or a format."""
    no_files = PurePosixPath(argv.program).name in _FORMATS.split()
    return tuple(flag for flag in (*_FILE_FLAGS, *_FOLDER_FLAGS) if not (no_files and flag == "--output"))


def redirected(argv: ParsedArgv, output: Output | None, suffix: str) -> tuple[ParsedArgv, Output | None]:
    """The command with `suffix` in the name of every output: `x.json` becomes `x.smoke.json`."""
    if not suffix:
        return argv, output
    arguments = argv.arguments
    for flag in _flags_of(argv):
        if value := value_of(arguments, flag):
            arguments = with_value(arguments, flag, _suffixed(value, suffix, folder=flag in _FOLDER_FLAGS))
    if output is not None:
        output = replace(output, path=Word(_suffixed(output.path.value, suffix, folder=False)))
    return replace(argv, arguments=arguments), output


def _suffixed(path: str, suffix: str, *, folder: bool) -> str:
    pure = PurePosixPath(path)
    return str(pure.with_name(pure.name + suffix if folder else pure.stem + suffix + pure.suffix))


def take_outputs(
    argv: ParsedArgv,
    output: Output | None,
    runner: str | None,
    workspace: Path,
    *,
    folder: str | None = None,
    label: str = "main",
    tool: Tool | None = None,
) -> Outputs:
    """The artifacts that a command must write; its paths are relative to `folder`, and `folder` to the workspace.

    A known tool says itself which files its flags promise.

    Raises:
        Refused: one lies outside the workspace, there would be no result, or the tool would not replace a file.
    """
    known = runner_of(runner)
    artifacts: list[Artifact] = []
    folders: list[str] = []
    if tool is not None and not tool.elsewhere:
        found = promised_outputs(tool.outputs(), workspace, folder)
        artifacts, folders = found.artifacts, found.folders
    for flag in () if tool is not None else _flags_of(argv):
        value = value_of(argv.arguments, flag)
        if value is None:
            continue
        path = _relative(value, workspace, folder)
        if path == ".":
            raise Refused(f"{flag} {value} is the workspace itself: name a folder in it, such as artifacts/NAME.")
        if flag in _FOLDER_FLAGS:
            folders.append(path)
            artifacts += artifacts_in(path, runner)
        else:
            artifacts.append(Artifact(path, known.schema))
            if value_of(argv.options, NPROC) != "1":  # one rank has no bandwidth to lay out as nccl-tests does
                artifacts += artifacts_beside(path, runner)
    if not folders and known.in_folder:
        raise Refused(f"{runner} would leave no result to judge: add --output-dir artifacts/NAME to the command.")
    if not artifacts and known.schema is not None:
        raise Refused(f"{runner} would leave no result to judge: add --output-json artifacts/NAME.json to the command.")
    tee = None
    if output is not None:
        tee = _relative(output.path.value, workspace, folder)
        artifacts.append(Artifact(appended_path(label) if output.append else tee))
    return Outputs(artifacts, folders, tee)


def promised_outputs(promises: Sequence[Promise], workspace: Path, folder: str | None) -> Outputs:
    """The files that the flags of known tools promise; see `take_outputs`.

    Raises:
        Refused: one lies outside the workspace, or the tool would not replace a file.
    """
    artifacts: dict[str, Artifact] = {}
    folders: list[str] = []
    for promise in promises:
        path = _relative(promise.path, workspace, folder)
        if path == ".":
            raise Refused(f"{promise.path} is the workspace itself: name a folder in it, such as artifacts/NAME.")
        if not promise.replaces and (workspace / path).exists():
            raise Refused(f"{path} exists, and the tool never replaces a file: remove it, or name a new file.")
        folders += [path] if promise.folder else []
        artifacts[path] = Artifact(path)
    return Outputs(list(artifacts.values()), folders, None)


def appended_path(label: str) -> str:
    """The evidence of an appended output: the run's own copy of the bytes that it appended."""
    return f"{RUNS_FOLDER}/{RUN_ID_PLACEHOLDER}/{appended_name(label)}"


def _relative(value: str, workspace: Path, folder: str | None) -> str:
    return str(inside(workspace, Path(folder or "") / value).relative_to(workspace.resolve()))
