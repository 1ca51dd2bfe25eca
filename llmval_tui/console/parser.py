"""The parser of the command line: of one command, or of all."""

import argparse
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

from llmval_tui import __version__
from llmval_tui.console.commands.all_commands import COMMANDS
from llmval_tui.console.commands.command import Command, seconds
from llmval_tui.foundation.errors import Refused

EXIT_CODES = (
    "exit codes: 0 all passed · 1 something failed · 2 usage or refused · 3 inconclusive or invalid · 130 interrupted"
)
# argparse names the converter function in its message ("invalid _seconds value"); say what the value must be instead.
_BAD_VALUE = re.compile(
    r"argument (?P<option>\S+): invalid (?P<converter>\w+) value: (?P<quote>['\"])(?P<value>.*)(?P=quote)"
)
_EXPECTED = {
    "seconds": "a number of seconds from 0.1 to 60",
    "int": "a whole number",
    "count": "a whole number from 1",
}


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are `Refused`: one sentence on stderr, or JSON with `--json`.

    Options are not abbreviated: what `--out` means would change with the next option that begins so.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})
        self.command = ""  # with a blank before it; argparse tells an unknown option to the main parser

    def error(self, message: str) -> NoReturn:
        if bad := _BAD_VALUE.fullmatch(message):
            expected = _EXPECTED.get(bad["converter"], bad["converter"])
            message = f"{bad['option']} {bad['value']} is not {expected}"
        raise Refused(f"{message}; {self.prog}{self.command} --help lists the options.")


class CommandParser(Parser):
    """The parser of one command. Options may also stand between its words: `run 2.3 --preset smoke 4.2`."""

    _intermixed = False

    # argparse declares overloads on the type of the namespace, which nothing here uses.
    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        # argparse calls this method for the chosen command. Plain parsing would give STEP … only the words before the
        # first option, so the intermixed variant is used. That variant calls this method again, for options and words
        # in turn; those inner calls must parse plainly.
        if self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command, or of all commands if None: building a parser costs more than parsing.

    `llmval [CHECKLIST]` is the command `open`, see `find_command`.
    """
    main = Parser(
        prog="llmval",
        description="Validate that a multi-GPU node can serve LLMs. llmval [CHECKLIST] opens the dashboard.",
        epilog=f"llmval COMMAND --help has its options and examples; llmval help lists topics. {EXIT_CODES}",
    )
    main.command = f" {command}" if command else ""
    main.add_argument("--version", action="version", version=f"llmval {__version__}")
    subparsers = main.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=CommandParser)
    for one in COMMANDS.values():
        if command in (None, one.name):
            subparser = subparsers.add_parser(
                one.name,
                help=one.text,
                description=f"{one.text[0].upper()}{one.text[1:]}.",
                epilog=one.epilog,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            subparser.set_defaults(function=one.function)
            one.add_arguments(subparser)
            _add_common(subparser, one)
            subparser.usage = " ".join(["%(prog)s", "[options]", *_words_of(subparser)])
    return main


def _words_of(subparser: argparse.ArgumentParser) -> list[str]:
    """The words of a command besides its options, as its usage shows them; the options are listed below it."""
    shown = {"*": "[{} …]", "?": "[{}]", "+": "{} …"}
    words = [action for action in subparser._actions if not action.option_strings]
    names = [str(one.metavar or "|".join(one.choices or [one.dest])) for one in words]
    return [shown.get(str(one.nargs), "{}").format(name) for one, name in zip(words, names, strict=True)]


def _add_common(subparser: argparse.ArgumentParser, command: Command) -> None:
    """Add the options that every command takes; its help shows those that it heeds."""
    options = subparser.add_argument_group("common options")
    options.add_argument("--workspace", metavar="DIR", help="folder of artifacts/ and docs/ (default: this one)")
    options.add_argument("--checklist", metavar="FILE", help="Markdown list (default: the one in docs/)")
    options.add_argument("--readonly", action="store_true", help="only show; start and change nothing")
    options.add_argument("--theme", metavar="NAME", help="dark, light, contrast, ansi, mono or one of your own")
    options.add_argument(
        "--interval", type=seconds, metavar="S", help="seconds between samples, 0.1 to 60 (default: 1)"
    )
    options.add_argument("--gpus", metavar="0,1", help="use only these GPUs")
    options.add_argument("--runner-python", metavar="PY", help="Python of the runners (default: the first with torch)")
    options.add_argument("--ascii", action=argparse.BooleanOptionalAction, help="use ASCII characters only")
    options.add_argument(
        "--charts",
        choices=["blocks", "braille", "ascii"],
        help="characters of the charts (default: braille)",
    )
    options.add_argument(
        "--mouse",
        action=argparse.BooleanOptionalAction,
        help="use the mouse (default), or leave it to the terminal",
    )
    options.add_argument("--json", action="store_true", help="print JSON")
    for action in options._group_actions:  # argparse has no public name for them
        if not command.shows(action.option_strings[0]):
            action.help = argparse.SUPPRESS


@cache
def value_options() -> frozenset[str]:
    """The options that take a value: `find_command` must not read their value as a command."""
    (commands,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    return frozenset(
        name
        for command in commands.choices.values()
        for action in command._actions
        if action.nargs != 0
        for name in action.option_strings
    )
