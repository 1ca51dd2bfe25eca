"""One command of `llmval`: what it is called, what it takes, and what its help shows."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

# Common options that a command's help shows; every command takes all of them.
PLACE = "workspace checklist"
RUNNERS = "gpus runner-python"
SCREEN = "theme interval charts mouse ascii"


class Command(NamedTuple):
    """One command. `parser.py` adds the common options."""

    name: str
    function: str  # "module:function" in `llmval_tui.console`; imported only if the command runs
    text: str  # for --help
    common: str  # names of the common options that it heeds, separated by blanks
    examples: tuple[tuple[str, str], tuple[str, str]]  # a command line and what it does
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None

    @property
    def epilog(self) -> str:
        """The examples, which stand below the options, for 80 columns."""
        width = max(len(line) for line, _ in self.examples)
        beside = all(width + len(about) <= 74 for _, about in self.examples)
        lines = [
            f"  {line:<{width}}  {about}" if beside else f"  {line}\n      {about}" for line, about in self.examples
        ]
        return "\n".join(["examples:", *lines])

    def shows(self, option: str) -> bool:
        """Whether its help shows this common option (`--gpus`)."""
        return option.lstrip("-") in self.common.split()


def count(text: str) -> int:
    """A whole number from 1, as the type of an argument."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def seconds(text: str) -> float:
    """A number of seconds from 0.1 to 60, as the type of an argument."""
    value = float(text)
    if not 0.1 <= value <= 60:
        raise ValueError(text)
    return value
