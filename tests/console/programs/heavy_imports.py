"""Prints which expensive modules the command line imports at start-up."""

import sys

from llmval_tui import cli

cli.parser()
print([name for name in ("textual", "rich", "torch", "psutil", "markdown_it") if name in sys.modules])
