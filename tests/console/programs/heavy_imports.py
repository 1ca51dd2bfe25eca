"""Prints which expensive modules the command line imports at start-up."""

import sys

import llmval_tui.cli  # noqa: F401
from llmval_tui.console.parser import parser

parser()
print([name for name in ("textual", "rich", "torch", "psutil", "markdown_it") if name in sys.modules])
