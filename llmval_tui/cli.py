"""The `llmval` command: parses the command line and calls the command's function.

Each command's module is imported only when that command runs, so that `llmval status` starts fast.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from llmval_tui import __version__
from llmval_tui.console import stdio
from llmval_tui.console.usage import EXIT_CODES, epilog_of, is_shown
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line

# argparse names the converter function in its message ("invalid _seconds value"); say what the value must be instead.
_BAD_VALUE = re.compile(
    r"argument (?P<option>\S+): invalid (?P<converter>\w+) value: (?P<quote>['\"])(?P<value>.*)(?P=quote)"
)
_EXPECTED = {
    "_seconds": "a number of seconds from 0.1 to 60",
    "int": "a whole number",
    "_count": "a whole number from 1",
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
    for name, (function, text, add_arguments) in COMMANDS.items():
        if command in (None, name):
            subparser = subparsers.add_parser(
                name,
                help=text,
                description=f"{text[0].upper()}{text[1:]}.",
                epilog=epilog_of(name),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            subparser.set_defaults(function=function)
            add_arguments(subparser)
            _common(subparser, name)
            subparser.usage = " ".join(["%(prog)s", "[options]", *_words_of(subparser)])
    return main


def _words_of(subparser: argparse.ArgumentParser) -> list[str]:
    """The words of a command besides its options, as its usage shows them; the options are listed below it."""
    shown = {"*": "[{} …]", "?": "[{}]", "+": "{} …"}
    words = [action for action in subparser._actions if not action.option_strings]
    names = [str(one.metavar or "|".join(one.choices or [one.dest])) for one in words]
    return [shown.get(str(one.nargs), "{}").format(name) for one, name in zip(words, names, strict=True)]


def _common(subparser: argparse.ArgumentParser, command: str) -> None:
    """Add the options that every command takes; its help shows those that it heeds."""
    options = subparser.add_argument_group("common options")
    options.add_argument("--workspace", metavar="DIR", help="folder of artifacts/ and docs/ (default: this one)")
    options.add_argument("--checklist", metavar="FILE", help="Markdown list (default: the one in docs/)")
    options.add_argument("--readonly", action="store_true", help="only show; start and change nothing")
    options.add_argument("--theme", metavar="NAME", help="dark, light, contrast, ansi, mono or one of your own")
    options.add_argument(
        "--interval", type=_seconds, metavar="S", help="seconds between samples, 0.1 to 60 (default: 1)"
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
        if not is_shown(command, action.option_strings[0]):
            action.help = argparse.SUPPRESS


_PRESET = "smoke: seconds instead of minutes; only the demo ticks"


def _plan_flags(command: argparse.ArgumentParser, *more: str) -> None:
    command.add_argument(
        "--preset",
        choices=["smoke", *more],
        help=_PRESET + ("; none: as written" if more else ""),
    )
    command.add_argument(
        "--adapt",
        action="store_true",
        help="fit the command to fewer GPUs, and record the change",
    )


def _no_arguments(command: argparse.ArgumentParser) -> None:
    """For commands that have only the common options."""


def _doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--checkpoint", metavar="DIR", help="also say whether the runners can serve this Hugging Face folder"
    )
    command.add_argument("--nodes", metavar="LIST", help="check these nodes over ssh, and compare them: n[1-64]")


def _status(command: argparse.ArgumentParser) -> None:
    command.add_argument("--nodes", action="store_true", help="also show the nodes of each step's newest run")


def _open(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checklist_file",
        nargs="?",
        metavar="CHECKLIST",
        help="Markdown checklist (default: docs/llm_validation_checklist.md)",
    )
    command.add_argument(
        "--replay",
        metavar="RUN",
        help="play back a recorded run (its id, its folder, or an archive of it) or a telemetry.jsonl",
    )
    _plan_flags(command, "none")  # `none` switches off the preset of config.toml


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("steps", nargs="*", metavar="STEP", help="number (1.2) or text of a step")
    command.add_argument("--section", metavar="N", help="run every unticked step of section N")
    command.add_argument("--all", action="store_true", help="run every unticked step of the checklist")
    command.add_argument("--detach", action="store_true", help="return at once; llmval attach shows the progress")
    command.add_argument("--fail-fast", action="store_true", help="start no further step after one has failed")
    command.add_argument("--no-tick", action="store_true", help="run and judge, but do not tick")
    command.add_argument(
        "--yardstick",
        action="store_true",
        help="then compare the servers with our own engine",
    )
    command.add_argument("--nodes", metavar="LIST", help="run on these nodes: n[1-64], n1,n2, ./hosts or @group")
    command.add_argument(
        "--launcher",
        choices=["slurm", "ssh"],
        help="what starts the nodes (default: slurm if here)",
    )
    command.add_argument(
        "--slurm-option",
        action="append",
        default=[],
        metavar="OPT",
        help="an option of the job: --slurm-option=--partition=gpu",
    )
    command.add_argument("--same-machine", action="store_true", help="allow several nodes on one machine: a deviation")
    command.add_argument("--dry-run", action="store_true", help="print what each step would do; start nothing")
    _value_flag(command)
    command.add_argument(
        "--skip-unreviewed", action="store_true", help="leave out the steps that have an open question"
    )
    command.add_argument(
        "--confirm",
        action="append",
        default=[],
        metavar="CODE",
        help="answer the question with this code by yes, once",
    )
    _plan_flags(command)


def _value_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="the value of a placeholder such as <NAME>"
    )


def _review(command: argparse.ArgumentParser) -> None:
    command.add_argument("checklist_file", nargs="?", metavar="LIST", help="Markdown checklist")
    _value_flag(command)
    command.add_argument(
        "--answer",
        action="append",
        default=[],
        metavar="CODE=DECISION",
        help="answer the open question with this code: run, manual or skip",
    )
    command.add_argument(
        "--again", action="append", default=[], metavar="STEP", help="forget the answer of this step and ask anew"
    )
    command.add_argument(
        "--write", action="store_true", help="put the answers into the list as comments, not into the file beside it"
    )


def _cancel(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "run", nargs="?", metavar="RUN", help="run id or a part of it (default: everything that is running)"
    )


def _tick(command: argparse.ArgumentParser) -> None:
    command.add_argument("step", metavar="STEP", help="number (1.2) or text of a step")
    command.add_argument("--note", required=True, metavar="TEXT", help="why the step is done; kept in docs/TODO.md")


def _accept(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="run id or a part of it")
    command.add_argument("--link", metavar="URL", help="link to your report, if the run asks for one")


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dir", metavar="DIR", help="workspace of the demo (default: ~/.local/state/llmval/demo)")
    command.add_argument("--headless", action="store_true", help="no dashboard: run the load test and print the table")
    command.add_argument(
        "--reset", action="store_true", help="start over: delete the runs of the demo and restore its documents"
    )


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run id, a part of it, or a step number; a folder or an archive (default: the newest run of each step)",
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", help="output file (default: report.html; all others go to standard output)"
    )
    command.add_argument(
        "--format",
        choices=["html", "md", "json", "junit", "prometheus"],
        help="default: from the file's suffix (.html, .md, .json, .xml, .prom), else html",
    )


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "a",
        metavar="A",
        help="run id, folder or archive (of several runs: ARCHIVE:RUN); half of a paired run: RUN:with, RUN:without",
    )
    command.add_argument("b", metavar="B", help="the run to compare with A")
    command.add_argument(
        "--anyway", action="store_true", help="show the figures, without a verdict, if the runs are not comparable"
    )
    command.add_argument("-o", "--output", metavar="FILE", help="output file (default: standard output)")
    command.add_argument(
        "--format", choices=["text", "md", "html", "json"], help="default: from the file's suffix, else text"
    )


def _watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run id, folder or archive; an ended run is told from its records (default: all that is running)",
    )
    command.add_argument(
        "--every", type=_seconds, default=10.0, metavar="S", help="seconds between progress lines (default: 10)"
    )


def _fleet(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "run", nargs="?", metavar="RUN", help="run id or a part of it (default: the newest run on several nodes)"
    )
    command.add_argument("--figure", metavar="NAME", help="compare the nodes by this figure, such as ttft_sched_p99_ms")
    command.add_argument("--nodes", metavar="LIST", help="without a run: watch these nodes, such as n[1-64]")
    command.add_argument(
        "--exporter",
        metavar="URL",
        help="dcgm-exporter of each node: http://{node}:9400/metrics, or http://localhost:9400/metrics by ssh",
    )


def _new(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="which list; without it, their names are printed")
    command.add_argument(
        "-o", "--output", metavar="FILE", help="where in the workspace (default: NAME.md, or the operator's path)"
    )


def _completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell that reads the script")
    command.set_defaults(make_parser=parser)  # of all commands


def _help(command: argparse.ArgumentParser) -> None:
    command.add_argument("topic", nargs="?", metavar="TOPIC", help="a topic or a command; without it, all are listed")
    command.set_defaults(make_parser=parser)


def _locate(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=["artifacts", "config", "runners", "themes"], help="the folder to print")


def _verify(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs", nargs="*", metavar="RUN", help="run id, folder or archive (default: the evidence of every tick)"
    )
    command.add_argument(
        "--signers",
        metavar="FILE",
        help="one of these must have signed: allowed signers, see ssh-keygen(1) (default: allowed_signers beside "
        "config.toml, if it exists)",
    )


def _sources(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="run id, folder or archive (default: the runs of the workspace)"
    )
    command.add_argument("--item", metavar="STEP", help="only runs of this step: its number, or a part of its text")


def _runs(command: argparse.ArgumentParser) -> None:
    _sources(command)
    command.add_argument(
        "--outcome", choices=["pass", "fail", "inconclusive", "invalid", "none"], help="only these; none: not judged"
    )
    command.add_argument("--host", metavar="NAME", help="only runs of this host")
    command.add_argument("--since", metavar="DATE", help="only runs since this date or time (UTC)")
    command.add_argument("--last", type=_count, metavar="N", help="only the newest N")


def _history(command: argparse.ArgumentParser) -> None:
    command.add_argument("metric", nargs="?", metavar="METRIC", help="its name or a part of it (default: list them)")
    _sources(command)


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="*", metavar="RUN", help="run id, a part of it, or a step number (its newest)")
    command.add_argument("--all", action="store_true", help="every run that has ended, and the record of all ticks")
    command.add_argument("-o", "--output", metavar="FILE", help="the archive (default: llmval-HOST-TIME.zip)")
    command.add_argument("--sign", metavar="KEY", help="sign the manifest with this SSH key, by ssh-keygen -Y sign")
    command.add_argument("--dry-run", action="store_true", help="say what the archive would hold; write nothing")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 60:
        raise ValueError(text)
    return value


class CommandSpec(NamedTuple):
    """One command of `llmval`."""

    function: str  # "module:function" in `llmval_tui.console`
    text: str  # for --help
    add_arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS = {
    "open": CommandSpec("dashboard:dashboard", "open the dashboard (the same as llmval [CHECKLIST])", _open),
    "run": CommandSpec("run:run", "run steps: execute, judge, tick, record", _run),
    "review": CommandSpec("review:review", "answer what items ask before their first run", _review),
    "status": CommandSpec("status:status", "show the state of every step", _status),
    "fleet": CommandSpec("fleet:fleet", "show all nodes of a run on one screen", _fleet),
    "attach": CommandSpec("attach:attach", "watch the running plan", _no_arguments),
    "cancel": CommandSpec("attach:cancel", "stop one run, or everything that is running", _cancel),
    "tick": CommandSpec("status:tick", "tick a step yourself, with a note", _tick),
    "accept": CommandSpec("status:accept", "accept the change that a run proposes, or give the link it needs", _accept),
    "verify": CommandSpec(
        "verify:verify", "check that the evidence of every tick, or of an archive, is unchanged", _verify
    ),
    "doctor": CommandSpec("doctor:doctor", "check what this node has and what is missing", _doctor),
    "new": CommandSpec("new:new", "write a ready list and its documents into the workspace", _new),
    "demo": CommandSpec("demo:demo", "open the dashboard on a demo workspace with a tiny model", _demo),
    "report": CommandSpec("report:report", "write runs into one file: verdicts, figures, plots, evidence", _report),
    "compare": CommandSpec("report:compare", "show what is better or worse in run B than in run A", _compare),
    "runs": CommandSpec("runs:runs", "list the runs: item, when, duration, outcome, figures", _runs),
    "history": CommandSpec("runs:history", "plot a metric over runs and hosts", _history),
    "export": CommandSpec("export:export", "write runs into one archive, to be verified anywhere", _export),
    "watch": CommandSpec("watch:watch", "print what happens as plain lines, for pipes and screen readers", _watch),
    "locate": CommandSpec("status:locate", "print where a folder of llmval is", _locate),
    "completion": CommandSpec("completion:completion", "print the completion script of a shell", _completion),
    "help": CommandSpec("topics:help_topic", "explain a topic or a command", _help),
}


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


def find_command(
    arguments: list[str], commands: Collection[str], value_options: Callable[[], Collection[str]]
) -> list[str]:
    """Move the command to the front of the arguments, or put `open` there if none is given (`llmval`, `llmval FILE`).

    A command may follow common options (`llmval --workspace DIR status`). The word after one of `value_options()` is
    its value, so a folder called `status` is not taken for the command.

    Raises:
        Refused: the first word is neither a command nor a file, but looks like a misspelt command.
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


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code. A refusal is one sentence on stderr (JSON on stdout) and code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments  # before parsing: a usage error must be JSON as well
    with stdio.clean_output(as_json=as_json):
        return _run_and_flush(arguments, as_json)


def _run_and_flush(arguments: list[str], as_json: bool) -> int:
    stdio.tolerate_encoding(as_json=as_json)
    try:
        code = _run_command(arguments, as_json)
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


def _run_command(arguments: list[str], as_json: bool) -> int:
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
