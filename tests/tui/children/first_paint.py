"""The dashboard as the command line opens it, but without a terminal.

When the first picture is drawn, it prints whether the list is on it, then the names of all imported modules.
"""

import sys
from argparse import Namespace
from types import ModuleType
from typing import Any

from llmval_tui import cli

write = sys.stdout.write
terminal: Any = Namespace(isatty=lambda: True, flush=lambda: None)
sys.stdin = sys.stdout = terminal
import_module = cli.import_module


def import_command(name: str) -> ModuleType:
    command: Any = import_module(name)
    open_dashboard = command._run

    def run_headless(*given: Any) -> Any:
        from textual.app import App

        from llmval_tui.tui import app

        run, display = app.Dashboard.run, App._display

        def display_first(self: Any, screen: Any, renderable: Any) -> None:
            if renderable is None:
                return display(self, screen, renderable)
            shown = self.main.query_one("#steps").plain_text()
            write(f"{'1.2' in shown}\n" + "\n".join(sys.modules) + "\n")
            self.exit(0)
            App._display = display  # type: ignore[method-assign]  (only the first picture counts)
            return None

        def run_without_terminal(self: Any, **options: Any) -> Any:
            return run(self, headless=True, size=(120, 40), **options)

        app.Dashboard.run = run_without_terminal  # type: ignore[method-assign]
        App._display = display_first  # type: ignore[method-assign]
        return open_dashboard(*given)

    command._run = run_headless
    return command  # type: ignore[no-any-return]


cli.import_module = import_command  # type: ignore[attr-defined]
sys.exit(cli.main(["--workspace", sys.argv[1], "--checklist", sys.argv[2]]))
