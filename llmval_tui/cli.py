"""The `llmval` command: parsing and dispatch. Nothing heavy is imported before it is known what was asked."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from llmval_tui import __version__
from llmval_tui.console import stdio
from llmval_tui.foundation.errors import ExitCode, Refused

EPILOG = (
    "exit codes: 0 all passed · 1 something failed · 2 usage or refused · 3 inconclusive or invalid · 130 interrupted"
)
VALUED = {
    "--workspace",
    "--checklist",
    "--theme",
    "--replay",
    "--charts",
    "--interval",
    "--gpus",
    "--runner-python",
    "-o",
    "--output",
    "--format",
    "--every",
}

_BAD_VALUE = re.compile(
    r"argument (?P<option>\S+): invalid (?P<kind>\w+) value: (?P<quote>['\"])(?P<value>.*)(?P=quote)"
)
_KINDS = {"_seconds": "a number of seconds from 0.1 to 60", "int": "a whole number"}


class Parser(argparse.ArgumentParser):
    """argparse, whose complaint is a refusal like any other: one sentence, or JSON where that was asked for."""

    def error(self, message: str) -> NoReturn:
        if bad := _BAD_VALUE.fullmatch(message):  # argparse names the function that did not take it
            message = f"{bad['option']} {bad['value']} is not {_KINDS.get(bad['kind'], bad['kind'])}"
        raise Refused(f"{message}; {self.prog} --help shows what there is.")


class CommandParser(Parser):
    """The parser of one command, whose options may also stand between its words: `run 2.3 --preset smoke 4.2`."""

    _splitting = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        # argparse calls this of the command that was named, and so does parse_known_intermixed_args, for options and
        # for words in turn; asked plainly, it would give all of STEP … the words before the first option only.
        if self._splitting:
            return super().parse_known_args(args, namespace)
        self._splitting = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._splitting = False


def parser(named: str | None = None) -> argparse.ArgumentParser:
    """The command line of one command, or with None the whole of it: making it costs more than parsing.

    `llmval [CHECKLIST]` is the command `open`, see `with_command`.
    """
    common = CommandParser(add_help=False)
    _common(common)
    main = Parser(
        prog="llmval",
        description="Prove that a multi-GPU node can serve LLMs: llmval [CHECKLIST] opens the dashboard.",
        epilog=EPILOG,
    )
    main.add_argument("--version", action="version", version=f"llmval {__version__}")
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, (where, text, arguments) in COMMANDS.items():
        if named in (None, name):
            made = commands.add_parser(name, help=text, description=text, parents=[common], epilog=EPILOG)
            made.set_defaults(where=where)
            arguments(made)
    return main


def _common(common: argparse.ArgumentParser) -> None:
    options = common.add_argument_group("common options")
    options.add_argument("--workspace", metavar="DIR", help="folder of artifacts/ and docs/ (here)")
    options.add_argument("--checklist", metavar="FILE", help="Markdown checklist (docs/llm_validation_checklist.md)")
    options.add_argument("--readonly", action="store_true", help="look, and change nothing")
    options.add_argument(
        "--theme", metavar="NAME", help="dashboard theme: dark, light, contrast, ansi, mono or your own"
    )
    options.add_argument("--interval", type=_seconds, metavar="S", help="seconds between samples (1)")
    options.add_argument("--gpus", metavar="0,1", help="use only these GPUs")
    options.add_argument("--runner-python", metavar="PYTHON", help="interpreter of the runners (the dashboard's own)")
    options.add_argument("--ascii", action=argparse.BooleanOptionalAction, help="draw with ASCII only")
    options.add_argument("--charts", choices=["blocks", "braille", "ascii"], help="what charts are drawn with (blocks)")
    options.add_argument("--mouse", action=argparse.BooleanOptionalAction, help="take the mouse from the terminal")
    options.add_argument("--json", action="store_true", help="answer with JSON")


_PRESET = "smoke: seconds instead of minutes, tiny model; no tick"


def _plan_flags(command: argparse.ArgumentParser, *more: str) -> None:
    command.add_argument(
        "--preset",
        choices=["smoke", *more],
        help=_PRESET + ("; none: as written, whatever config.toml says" if more else ""),
    )
    command.add_argument("--adapt", action="store_true", help="fewer GPUs than the step says: rewrite and record it")


def _nothing(command: argparse.ArgumentParser) -> None:
    """Only the common options."""


def _open(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checklist_file", nargs="?", metavar="CHECKLIST", help="Markdown checklist (docs/llm_validation_checklist.md)"
    )
    command.add_argument("--replay", metavar="RUN", help="play a recorded run (its folder or id), or a telemetry.jsonl")
    _plan_flags(command, "none")  # the file's preset switched off


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("steps", nargs="*", metavar="STEP", help="number (1.2) or text of a step")
    command.add_argument("--section", type=int, metavar="N", help="every open step of section N")
    command.add_argument("--all", action="store_true", help="every open step of the list")
    command.add_argument("--detach", action="store_true", help="return at once; llmval attach watches")
    command.add_argument("--no-tick", action="store_true", help="run and judge only")
    command.add_argument("--dry-run", action="store_true", help="say what each step would do, and do nothing")
    _plan_flags(command)


def _cancel(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", nargs="?", metavar="RUN", help="id of a run, or a part of it (the plan at work)")


def _tick(command: argparse.ArgumentParser) -> None:
    command.add_argument("step", metavar="STEP", help="number (1.2) or text of a step")
    command.add_argument("--note", required=True, metavar="TEXT", help="what backs the tick")


def _accept(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="id of a run, or a part of it")
    command.add_argument("--link", metavar="URL", help="address of the report, of a run that asks for one")


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dir", metavar="DIR", help="the scratch workspace (~/.local/state/llmval/demo)")
    command.add_argument("--headless", action="store_true", help="do the load test and print the table")
    command.add_argument("--reset", action="store_true", help="make the workspace new: without its ticks and runs")


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs", nargs="*", metavar="RUN", help="id of a run, a part of it, or a step's number (each step's newest run)"
    )
    command.add_argument("-o", "--output", metavar="FILE", help="where to (report.html; md and json: standard output)")
    command.add_argument("--format", choices=["html", "md", "json"], help="by the file's ending, else html")


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", metavar="A", help="id of a run, or a part of it; of a paired run RUN:with or RUN:without")
    command.add_argument("b", metavar="B", help="the run that is held against A")
    command.add_argument("--anyway", action="store_true", help="bare figures also of runs that are not comparable")
    command.add_argument("-o", "--output", metavar="FILE", help="where to (standard output)")
    command.add_argument("--format", choices=["text", "md", "html", "json"], help="by the file's ending, else text")


def _watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--every", type=_seconds, default=10.0, metavar="S", help="seconds between progress lines (10)"
    )


def _locate(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=["artifacts", "config", "runners", "themes"])


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 60:
        raise ValueError(text)
    return value


# Each command: the function that does it, below `console/`; what it does, in words; its own arguments.
COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "open": ("dashboard:dashboard", "open the dashboard (what llmval [CHECKLIST] does)", _open),
    "run": ("run:run", "do steps: run, judge, tick, record", _run),
    "status": ("status:status", "how every step stands", _nothing),
    "attach": ("run:attach", "watch the plan that is at work", _nothing),
    "cancel": ("run:cancel", "end a run, or all that is at work", _cancel),
    "tick": ("status:tick", "tick a step on your own word", _tick),
    "accept": ("status:accept", "accept what a run proposes, or give the link it asks for", _accept),
    "verify": ("status:verify", "hash the evidence of every tick again", _nothing),
    "doctor": ("doctor:doctor", "what this node has and lacks", _nothing),
    "demo": ("demo:demo", "the dashboard on a scratch workspace, smoke preset", _demo),
    "report": ("report:report", "one file that shows runs: verdicts, figures, plots, evidence", _report),
    "compare": ("report:compare", "what is better or worse in run B than in run A", _compare),
    "watch": ("watch:watch", "what happens, in plain lines", _watch),
    "locate": ("status:locate", "where things lie", _locate),
}


def with_command(arguments: list[str], commands: Collection[str], valued: set[str]) -> list[str]:
    """The arguments with their command in front: `open` where none is named (`llmval`, `llmval FILE`).

    A command may also follow common options (`llmval --workspace DIR status`); `valued` are the options whose next word
    is their value, so that a folder called `status` is not taken for the command.

    Raises:
        Refused: the word in a command's place is none, is no file either, and is nearly a command.
    """
    skip = False
    for position, word in enumerate(arguments):
        if skip:
            skip = False
        elif word in ("-h", "--help", "--version") and position == 0:
            return arguments
        elif word.startswith("-"):
            skip = word in valued
        elif word in commands:
            return [word, *arguments[:position], *arguments[position + 1 :]]
        else:
            _refuse_slip(word, commands)
            break
    return ["open", *arguments]


def _refuse_slip(word: str, commands: Collection[str]) -> None:
    if os.sep in word or Path(word).exists():
        return
    from difflib import get_close_matches

    if near := get_close_matches(word.casefold(), commands, 1):
        raise Refused(f"there is no command and no file {word!r}: did you mean llmval {near[0]}?")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a refusal becomes one sentence on stderr (or JSON on stdout) and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments  # known also where the rest cannot be parsed
    stdio.tolerate_encoding(as_json=as_json)
    try:
        code = _answer(arguments, as_json)
        stdio.flush()  # here and not at exit, where nobody can say it well that it fails
    except BrokenPipeError:
        # Whoever read our output has gone, perhaps before the end: not a pass. Python must not complain at exit either.
        stdio.detach(sys.stdout, sys.stderr)
        return ExitCode.INTERRUPTED
    except OSError as error:
        what = stdio.describe_write_error(error)
        if what is None:
            raise  # a defect of ours
        stdio.detach(sys.stdout)
        return _refuse(f"{what} cannot be written ({error.strerror}): look at where it goes.", as_json=False)
    return code


def _answer(arguments: list[str], as_json: bool) -> int:
    try:
        words = with_command(arguments, COMMANDS, VALUED)
        options = parser(words[0] if words[0] in COMMANDS else None).parse_args(words)
        screen = options.command == "open" or (options.command == "demo" and sys.stdout.isatty())
        if options.ascii and not screen:  # the dashboard has its own signs
            stdio.ascii_only(as_json=options.json)
        if getattr(options, "checklist_file", None):
            options.checklist = options.checklist_file
        module, _, name = options.where.partition(":")
        function: Callable[[argparse.Namespace], int] = getattr(import_module(f"llmval_tui.console.{module}"), name)
        return int(function(options))
    except SystemExit as done:  # argparse's, after --help or --version
        return int(done.code or 0)
    except Refused as refusal:
        return _refuse(str(refusal), as_json)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.filename is None:
            raise
        why = f"{error.filename} cannot be used ({error.strerror}): check the path, its permissions and the disk."
        return _refuse(why, as_json)


def _refuse(why: str, as_json: bool) -> int:
    if as_json:
        import json

        print(json.dumps({"ok": False, "message": why}))
    else:
        print(f"llmval: {why}", file=sys.stderr)
    return ExitCode.REFUSED
