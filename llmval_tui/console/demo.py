"""`demo`: the dashboard on a scratch workspace with the `smoke` preset; without a terminal, the same work headless."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from llmval_tui.console.options import refuse_readonly
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import write_atomic
from llmval_tui.foundation.paths import bundled
from llmval_tui.plans.records import active_plan
from llmval_tui.runs.store import RunStore
from llmval_tui.runs.workspace import DEMO_MARKER, is_demo

HEADLESS_STEP = "1.2"  # the load test: the list's main job


def scratch_folder() -> Path:
    """Where the demo workspace lies by default: `$XDG_STATE_HOME/llmval/demo`."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "llmval" / "demo"


def prepare(folder: Path, *, reset: bool = False) -> Path:
    """Make the scratch workspace, or complete it; ticks, records and runs made in it are kept.

    Args:
        reset: make it new, without the documents and the runs that are there.

    Raises:
        Refused: the folder holds something that is not a demo, or what is at work there would be reset.
    """
    if folder.exists() and any(folder.iterdir()) and not is_demo(folder):
        raise Refused(f"{folder} is not a demo workspace: name an empty folder with --dir.")
    if reset and (active_plan(folder) is not None or RunStore(folder).active()):
        raise Refused(f"something is at work in {folder}: end it with llmval cancel --workspace {folder}, then reset.")
    documents = folder / "docs"
    try:
        documents.mkdir(parents=True, exist_ok=True)
        (folder / DEMO_MARKER).touch()
        if reset and (folder / "artifacts").exists():
            shutil.rmtree(folder / "artifacts")
        for document in sorted(bundled("docs").glob("*.md")):
            if reset or not (documents / document.name).exists():
                write_atomic(documents / document.name, document.read_bytes())
    except OSError as error:
        raise Refused(f"{folder} cannot be written ({error.strerror}): name another folder with --dir.") from error
    return folder


def demo(options: argparse.Namespace) -> int:
    """Open the dashboard on the demo, or complete its load test and print the table where there is no terminal."""
    if options.workspace or options.checklist:
        raise Refused("demo has a workspace and a checklist of its own: name the folder for them with --dir instead.")
    screen = not options.headless and sys.stdin.isatty() and sys.stdout.isatty()
    if not screen or options.reset:
        refuse_readonly(options)
    folder = Path(options.dir).expanduser().absolute() if options.dir else scratch_folder()
    if not options.readonly:
        prepare(folder, reset=options.reset)
    elif not is_demo(folder):
        raise Refused(f"{folder} is not a demo workspace, and --readonly makes none: open it once without.")
    options.workspace, options.checklist, options.preset = str(folder), None, "smoke"
    if screen:
        from llmval_tui.console.dashboard import dashboard

        return dashboard(options)
    from llmval_tui.console.run import run

    print(f"demo workspace: {folder}", file=sys.stderr)
    options.steps, options.section, options.all = [HEADLESS_STEP], None, False
    options.detach = options.adapt = options.no_tick = options.dry_run = False
    code = run(options)
    if code == ExitCode.PASSED and not options.json:
        print(f"\nThe tick and its evidence: {folder}/docs/llm_validation_checklist.md, {folder}/docs/TODO.md")
    return code
