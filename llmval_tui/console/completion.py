"""`completion`: prints the completion script of a shell, made from the parser."""

import argparse

from llmval_tui.console.new import ready_lists
from llmval_tui.console.parser import parser
from llmval_tui.console.topics import TOPICS
from llmval_tui.foundation.errors import ExitCode

# Options whose value is a path; the scripts complete file names there.
_FILES = {"--checklist", "--output", "--replay", "--runner-python", "checklist_file"}
_FOLDERS = {"--workspace", "--dir", "--checkpoint"}


def completion(options: argparse.Namespace) -> int:
    """Print the script; it needs no llmval while the shell completes."""
    print(script(parser(), options.shell), end="")
    return ExitCode.PASSED


def script(complete: argparse.ArgumentParser, shell: str) -> str:
    """The completion script for bash, zsh or fish, of the parser with all commands."""
    import shtab

    (commands,) = (action for action in complete._actions if isinstance(action, argparse._SubParsersAction))
    words = {("new", "name"): list(ready_lists()), ("help", "topic"): [*TOPICS, *commands.choices]}
    for name, command in commands.choices.items():
        for action in command._actions:
            # The commands themselves refuse other words, in a sentence of their own.
            action.choices = words.get((name, action.dest), action.choices)
            names = {*action.option_strings, action.dest}
            if names & _FILES:
                action.complete = shtab.FILE
            elif names & _FOLDERS:
                action.complete = shtab.DIRECTORY
    return str(shtab.complete(complete, shell=shell))
