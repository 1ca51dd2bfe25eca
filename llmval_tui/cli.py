"""The `llmval` command: parses the command line and calls the command's function.

Each command's module is imported only when that command runs, so that `llmval status` starts fast.
"""

import argparse
import os
import sys
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path

from llmval_tui.console import stdio
from llmval_tui.console.commands.all_commands import COMMANDS
from llmval_tui.console.parser import parser, value_options
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line


def find_command(
    arguments: list[str], commands: Collection[str], value_options: Callable[[], Collection[str]]
) -> list[str]:
    """Move the command to the front of the arguments, or put `open` there if none is given (`llmval`, `llmval FILE`).

    A command may follow common options (`llmval --workspace DIR status`). The word after one of `value_options()` is
    its value, so a folder called `status` is not taken for the command.

    Raises:
        Refused: the first word is neither a command nor a file, but looks like a command.
    """
    skip = False
    for position, word in enumerate(arguments):
        if skip:
            skip = False
        elif word in ("-h", "--help", "--version") and position == 0:
            return arguments
        elif word.startswith("-"):
            skip = word in value_options()
        elif word in commands:
            return [word, *arguments[:position], *arguments[position + 1 :]]
        else:
            _refuse_misspelling(word, commands)
            break
    return ["open", *arguments]


def _refuse_misspelling(word: str, commands: Collection[str]) -> None:
    if os.sep in word or Path(word).exists():
        return
    from difflib import get_close_matches

    if similar := get_close_matches(word.casefold(), commands, 1):
        raise Refused(f"there is no command and no file {word!r}: did you mean llmval {similar[0]}?")
    if word.isalpha():
        raise Refused(f"there is no command and no file {word!r}: llmval help lists the commands.")


def main(arguments: list[str] | None = None, before_command: Callable[[], None] = lambda: None) -> int:
    """Run one command and return its exit code. A refusal is one sentence on stderr (JSON on stdout) and code 2.

    Args:
        before_command: called after the imports, when the command begins.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments  # before parsing: a usage error must be JSON as well
    with stdio.clean_output(as_json=as_json):
        return _run_and_flush(arguments, as_json, before_command)


def _run_and_flush(arguments: list[str], as_json: bool, before_command: Callable[[], None]) -> int:
    stdio.tolerate_encoding(as_json=as_json)
    try:
        code = _run_command(arguments, as_json, before_command)
        stdio.flush()  # here, because Python reports a failure at exit with a traceback
    except BrokenPipeError:
        # The reader closed the pipe, perhaps too early, so this is not a pass. Detached, Python is quiet at exit.
        stdio.detach(sys.stdout, sys.stderr)
        return ExitCode.INTERRUPTED
    except OSError as error:
        target = stdio.describe_write_error(error)
        if target is None:
            raise  # a defect of llmval
        stdio.detach(sys.stdout)
        return _refuse(f"cannot write to {target} ({error.strerror}): check where the output goes.", as_json=False)
    return code


def _run_command(arguments: list[str], as_json: bool, before_command: Callable[[], None]) -> int:
    try:
        words = find_command(arguments, COMMANDS, value_options)
        options = parser(words[0] if words[0] in COMMANDS else None).parse_args(words)
        opens_dashboard = options.command == "open" or (options.command == "demo" and sys.stdout.isatty())
        if options.ascii and not opens_dashboard:  # the dashboard has its own ASCII glyphs
            stdio.ascii_only(as_json=options.json)
        if getattr(options, "checklist_file", None):
            options.checklist = options.checklist_file
        module, _, name = options.function.partition(":")
        function: Callable[[argparse.Namespace], int] = getattr(import_module(f"llmval_tui.console.{module}"), name)
        before_command()
        return int(function(options))
    except SystemExit as done:  # from argparse, after --help or --version
        return int(done.code or 0)
    except Refused as refusal:
        return _refuse(str(refusal), as_json)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.filename is None:
            raise
        reason = f"{error.filename} cannot be used ({error.strerror}): check the path, its permissions and the disk."
        return _refuse(reason, as_json)


def _refuse(reason: str, as_json: bool) -> int:
    if as_json:
        import json

        print(json.dumps({"kind": "llmval_message", "v": 1, "ok": False, "message": reason}))
    else:
        print(f"llmval: {clean_line(reason)}", file=sys.stderr)
    return ExitCode.REFUSED
