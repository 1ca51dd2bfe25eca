"""`demo`: the dashboard on a demo workspace with the `smoke` preset; without a terminal, the load test alone."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from llmval_tui.console.options import refuse_readonly
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.files import write_atomic
from llmval_tui.foundation.paths import bundled, user_path
from llmval_tui.plans.records import active_plan
from llmval_tui.runs.store import DEMO_MARKER, RunStore, is_demo

HEADLESS_STEP = "1.2"  # the load test


def default_folder() -> Path:
    """The default demo workspace: `$XDG_STATE_HOME/llmval/demo`."""
    return user_path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "llmval" / "demo"


def prepare(folder: Path, *, reset: bool = False) -> Path:
    """Create the demo workspace, or add the documents that it lacks; its ticks, records and runs are kept.

    Args:
        reset: replace the documents and delete the runs.

    Raises:
        Refused: the folder is neither empty nor a demo workspace, or a reset would hit something that is running.
    """
    if folder.exists() and any(folder.iterdir()) and not is_demo(folder):
        raise Refused(f"{folder} is not a demo workspace: name an empty folder with --dir.")
    if reset and (active_plan(folder) is not None or RunStore(folder).active()):
        raise Refused(f"something is running in {folder}: stop it with llmval cancel --workspace {folder}, then reset.")
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
    """Open the dashboard on the demo workspace; without a terminal, run its load test and print the table."""
    if options.workspace or options.checklist:
        raise Refused("demo has its own workspace and checklist: choose their folder with --dir instead.")
    interactive = not options.headless and sys.stdin.isatty() and sys.stdout.isatty()
    if not interactive or options.reset:
        refuse_readonly(options)
    folder = user_path(options.dir) if options.dir else default_folder()
    if not options.readonly:
        prepare(folder, reset=options.reset)
    elif not is_demo(folder):
        raise Refused(
            f"{folder} is not a demo workspace, and --readonly creates none: open it once without --readonly."
        )
    options.workspace, options.checklist, options.preset = str(folder), None, "smoke"
    if interactive:
        from llmval_tui.console.dashboard import dashboard

        return dashboard(options)
    from llmval_tui.console.run import run

    print(f"demo workspace: {folder}", file=sys.stderr)
    options.steps, options.section, options.all = [HEADLESS_STEP], None, False
    options.detach = options.adapt = options.no_tick = options.dry_run = False
    options.skip_unreviewed, options.confirm, options.set = False, [], []
    code = run(options)
    if code == ExitCode.PASSED and not options.json:
        print(f"\nThe tick and its record: {folder}/docs/llm_validation_checklist.md, {folder}/docs/TODO.md")
    return code
