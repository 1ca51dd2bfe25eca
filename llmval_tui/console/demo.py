"""`demo`: the dashboard on a scratch workspace with the `smoke` preset; without a terminal, the same work headless."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.resources import bundled
from llmval_tui.runs.plans import active_plan
from llmval_tui.runs.store import RunStore
from llmval_tui.runs.workspace import DEMO_MARKER

HEADLESS_STEP = "1.2"  # the load test: the list's main job


def scratch_folder() -> Path:
    """Where the demo workspace lies by default: `$XDG_STATE_HOME/llmval/demo`."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "llmval" / "demo"


def prepare(folder: Path) -> Path:
    """Make the scratch workspace, or set its documents back to their beginning; runs made in it are kept.

    A workspace in which something is at work is left as it is, so that a demo that was left is found again.

    Raises:
        Refused: the folder holds something that is not a demo.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / DEMO_MARKER).is_file():
        raise Refused(f"{folder} is not a demo workspace: name an empty folder with --dir.")
    if active_plan(folder) is not None or RunStore(folder).active():
        return folder
    try:
        (folder / "docs").mkdir(parents=True, exist_ok=True)
        (folder / DEMO_MARKER).touch()
        for document in sorted(bundled("docs").glob("*.md")):
            shutil.copyfile(document, folder / "docs" / document.name)
    except OSError as error:
        raise Refused(f"{folder} cannot be written ({error.strerror}): name another folder with --dir.") from error
    return folder


def demo(options: argparse.Namespace) -> int:
    """Open the dashboard on the demo, or complete its load test and print the table where there is no terminal."""
    folder = prepare(Path(options.dir).expanduser().absolute() if options.dir else scratch_folder())
    options.workspace, options.checklist, options.preset = str(folder), None, "smoke"
    if not options.headless and sys.stdin.isatty() and sys.stdout.isatty():
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
