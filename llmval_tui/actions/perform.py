"""`python -m llmval_tui.actions.perform RUN_FOLDER`: does an action's own work in a process of its own."""

import sys
from pathlib import Path

from llmval_tui.actions.registry import action_named
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.runs.store import Run


def main(arguments: list[str] | None = None) -> int:
    """Perform the action of a run; returns its exit code, or 2 after printing why it cannot be done."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m llmval_tui.actions.perform RUN_FOLDER", file=sys.stderr)
        return ExitCode.REFUSED
    run = Run(Path(given[0]).absolute())
    try:
        return action_named(run.intent.action).perform(run)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return ExitCode.REFUSED


if __name__ == "__main__":
    sys.exit(main())
