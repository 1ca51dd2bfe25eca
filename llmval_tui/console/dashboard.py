"""`open`: opens the dashboard. Only this command imports the dashboard."""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmval_tui.console.options import checklist_path, gpu_numbers, runner_python, workspace_of
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import user_path
from llmval_tui.runs.store import is_demo

if TYPE_CHECKING:
    from llmval_tui.config import ConfigFile
    from llmval_tui.tui.data.workspace_view import InitialSnapshot
    from llmval_tui.tui.settings import LaunchSettings

T = TypeVar("T")
SNAPSHOT_S = 0.2  # after this time the screens are imported while the disk is read
LINE_TERMINALS = ("dumb", "unknown")  # terminfo names of terminals that only print lines; no TERM at all is allowed


def dashboard(options: argparse.Namespace) -> int:
    """Open the dashboard on the checklist and return its exit code.

    Raises:
        Refused: there is no terminal, no usable checklist, or config.toml is invalid. The screen is not yet changed.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused("the dashboard needs a terminal: in scripts use llmval run, llmval status or llmval attach.")
    if (term := os.environ.get("TERM")) in LINE_TERMINALS:
        raise Refused(
            f"TERM={term} is a terminal without a cursor: set its real name (such as TERM=xterm-256color), or use "
            "llmval run, llmval status or llmval watch."
        )
    from llmval_tui.tui import gc_control

    gc_control.pause_gc()  # before the import of the screens, which takes most of the start
    workspace = workspace_of(options)
    from llmval_tui.config import load_config

    config = load_config()
    keys = {}
    if config.keys is not None:
        from llmval_tui.tui.keys import read_keys

        keys = read_keys(config.keys)
    with ExitStack() as stack:  # an archive stays unpacked as long as it is played
        name = getattr(options, "replay", None)  # `demo` has no such option
        replay = recording(name, workspace, stack) if name else None
        return _opened(options, workspace, config, keys, replay)


def _opened(
    options: argparse.Namespace, workspace: Path, config: "ConfigFile", keys: dict[str, Any], replay: Path | None
) -> int:
    from llmval_tui.tui.settings import LaunchSettings

    checklist = None
    if replay is None or replay.is_file():  # a run folder names its own step
        checklist = checklist_path(options)
    preset = options.preset or config.preset
    settings = LaunchSettings(
        workspace=workspace,
        checklist=checklist or workspace / "replay",
        preset=None if preset == "none" else preset,
        adapt=getattr(options, "adapt", False),  # `demo` has no such option
        gpus=gpu_numbers(options),
        runner_python=runner_python(options, config),
        readonly=options.readonly or checklist is None,
        theme=options.theme or config.theme,
        interval=_first(options.interval, config.interval, 1.0),
        ascii=_first(options.ascii, config.ascii, False),
        mouse=_first(options.mouse, config.mouse, True),
        charts=_first(options.charts, config.charts, "braille"),
        bell=_first(config.bell, False),
        notify=_first(config.notify, False),
        keys=keys,
        demo=is_demo(workspace),
        replay=replay,
    )
    if checklist is None:
        return _run(settings)
    return _run(settings, _initial_snapshot(settings))


def _run(settings: "LaunchSettings", initial: "InitialSnapshot | None" = None) -> int:
    from llmval_tui.tui.app import run

    return run(settings, initial)


def _initial_snapshot(settings: "LaunchSettings") -> "InitialSnapshot":
    """Read the checklist, then the rest of the workspace; a disk that hangs does not delay the imports for long.

    Raises:
        Refused: the file cannot be read or is not a checklist.
    """
    from llmval_tui.checklist.parse_cache import ParseCache
    from llmval_tui.tui.data.workspace_view import InitialSnapshot, Workspace, propose

    cache = ParseCache(settings.checklist, settings.environment)
    workspace = Workspace(settings, propose, parse_cache=cache)
    workspace.read()
    initial = InitialSnapshot(workspace)
    initial.start()
    initial.join(SNAPSHOT_S)  # at the same time as the imports, both would take longer
    return initial


def recording(name: str, workspace: Path, stack: ExitStack) -> Path:
    """The path that `--replay` names: a telemetry.jsonl, or the folder of a run from anywhere.

    Args:
        stack: removes what an archive is unpacked to.

    Raises:
        Refused: there is none.
    """
    import zipfile

    path = user_path(name)
    alone = path.is_file() and path.suffix != ".zip" and not zipfile.is_zipfile(path)
    if alone or ((path / "telemetry.jsonl").is_file() and not (path / "run.json").exists()):
        return path if alone else path / "telemetry.jsonl"
    from llmval_tui.export.sources import Sources

    return stack.enter_context(Sources(workspace)).run(name)[1].folder


def _first(*values: T | None) -> T:
    """The first value that is set: from the command line, then config.toml, then the default."""
    return next(value for value in values if value is not None)
