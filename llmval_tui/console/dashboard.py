"""Opening the dashboard; the only place of the command line that imports it."""

import argparse
import sys
from pathlib import Path

from llmval_tui.actions.settle import is_demo
from llmval_tui.console import common
from llmval_tui.foundation.errors import Refused


def dashboard(options: argparse.Namespace) -> int:
    """Open the dashboard on the checklist and return its exit code.

    Raises:
        Refused: there is no terminal, or no usable checklist; said before the screen is taken over.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused("the dashboard needs a terminal: use llmval run, llmval status or llmval attach in scripts.")
    workspace = common.workspace_of(options)
    checklist = common.checklist_of(options)
    plan = common.plan_options(options)
    from llmval_tui.tui.app import run
    from llmval_tui.tui.settings import Settings

    return run(
        Settings(
            workspace=workspace,
            checklist=checklist.path,
            preset=plan.preset,
            adapt=plan.adapt,
            gpus=plan.gpus,
            runner_python=plan.runner_python,
            readonly=options.readonly,
            theme=options.theme,
            interval=options.interval,
            ascii=options.ascii,
            mouse=not options.no_mouse,
            demo=is_demo(workspace),
            replay=Path(options.replay).expanduser() if getattr(options, "replay", None) else None,
        )
    )
