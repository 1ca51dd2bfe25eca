"""The dashboard as the command line opens it, but without a terminal.

When the first picture is drawn, it prints whether the list is on it, then the names of all imported modules.
"""

import sys
from argparse import Namespace
from typing import Any

from llmval_tui import cli

write = sys.stdout.write
terminal: Any = Namespace(isatty=lambda: True, flush=lambda: None)
sys.stdin = sys.stdout = terminal
cli_module: Any = cli
import_module = cli_module.import_module


def import_command(name: str) -> Any:
    command = import_module(name)
    open_dashboard = command._run

    def run_headless(*given: Any) -> Any:
        from llmval_tui.tui.app import Dashboard

        dashboard: Any = Dashboard
        run, display = dashboard.run, dashboard._display

        def display_first(self: Any, screen: Any, renderable: Any) -> None:
            if renderable is None:
                return display(self, screen, renderable)
            shown = self.main.query_one("#steps").plain_text()
            write(f"{'1.2' in shown}\n" + "\n".join(sys.modules) + "\n")
            self.exit(0)
            dashboard._display = display  # only the first picture counts
            return None

        def run_without_terminal(self: Any, **options: Any) -> Any:
            return run(self, headless=True, size=(120, 40), **options)

        dashboard.run = run_without_terminal
        dashboard._display = display_first
        return open_dashboard(*given)

    command._run = run_headless
    return command


cli_module.import_module = import_command
sys.exit(cli.main(["--workspace", sys.argv[1], "--checklist", sys.argv[2]]))
