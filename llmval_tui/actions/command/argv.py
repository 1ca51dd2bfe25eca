"""Argument lists: parse a command, and read and rewrite its flags, without a shell."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from llmval_tui.foundation.errors import Refused

# The flags of torch.distributed.run without a value (torch 2.11 and 2.13); all others take one.
_TORCHRUN_SWITCHES = {"--standalone", "--module", "-m", "--no-python", "--run-path", "--virtual-local-rank"}
_PYTHON_WITH_VALUE = {"-X", "-W", "--check-hash-based-pycs"}
_INLINE_CODE = {"python": re.compile(r"-[bBdEiIOqsSuvx]*c"), "bash": re.compile(r"-[a-zA-Z]*c")}
_REPORTS = {"--version", "-V", "-VV", "--help", "-h"}
_PYTHON = re.compile(r"python(?:\d(?:\.\d+)?)?")


@dataclass(frozen=True, slots=True)
class ParsedArgv:
    """The parts of a command; `launcher` is torchrun, python, bash or exec (the program itself)."""

    launcher: str
    program: str  # the first word, as written
    options: tuple[str, ...]  # options of the launcher, before the script
    script: str | None  # None: a Python module (`-m name`, kept in `options`), or the program itself
    arguments: tuple[str, ...]  # arguments of the script

    def with_script(self, script: str) -> "ParsedArgv":
        return replace(self, script=script)


def parse_argv(words: list[str]) -> ParsedArgv:
    """Split a command into its parts.

    Raises:
        Refused: it is empty, or an interpreter without a script, module or code.
    """
    if not words:
        raise Refused("the code span holds no command: write the command to run between the backticks.")
    program, rest = words[0], words[1:]
    name = PurePosixPath(program).name
    if name == "torchrun":
        return _split("torchrun", program, rest, _torchrun_value)
    if _PYTHON.fullmatch(name):
        if rest[:3] and _module(rest) == "torch.distributed.run":
            return _split("torchrun", program, rest[2:], _torchrun_value)
        return _split("python", program, rest, lambda word: word in _PYTHON_WITH_VALUE)
    if name in ("bash", "sh"):
        return _split("bash", program, rest, lambda word: word in ("-o", "-O"))
    if program.endswith(".py"):
        return ParsedArgv("python", "python", (), program, tuple(rest))
    if program.endswith(".sh"):
        return ParsedArgv("bash", "bash", (), program, tuple(rest))
    return ParsedArgv("exec", program, (), None, tuple(rest))


def _module(rest: list[str]) -> str | None:
    return rest[1] if rest[0] == "-m" and len(rest) > 1 else None


def _torchrun_value(word: str) -> bool:
    return word.replace("_", "-") not in _TORCHRUN_SWITCHES


def _split(launcher: str, program: str, rest: list[str], takes_value: Callable[[str], bool]) -> ParsedArgv:
    if rest and set(rest) <= _REPORTS:
        return ParsedArgv("exec", program, (), None, tuple(rest))
    index = 0
    while index < len(rest) and rest[index].startswith("-") and rest[index] != "--":
        word = rest[index]
        if launcher in _INLINE_CODE and _INLINE_CODE[launcher].fullmatch(word):
            if index + 1 >= len(rest):
                raise Refused(f"{program} {word} needs code after it.")
            return ParsedArgv(launcher, program, tuple(rest[: index + 2]), None, tuple(rest[index + 2 :]))
        if word in ("-m", "--module"):
            if launcher == "bash":
                break
            if index + 1 >= len(rest):
                raise Refused(f"{word} needs the name of a Python module after it.")
            if launcher == "python":
                return ParsedArgv(launcher, program, tuple(rest[: index + 2]), None, tuple(rest[index + 2 :]))
        index += 2 if "=" not in word and takes_value(word) else 1
    if index < len(rest) and rest[index] == "--":
        index += 1
    if index >= len(rest):
        raise Refused(f"{program} has no script to run: name one after its flags.")
    options = tuple(rest[:index])
    if launcher == "torchrun" and {"-m", "--module"} & set(options):
        return ParsedArgv(launcher, program, (*options, rest[index]), None, tuple(rest[index + 1 :]))
    return ParsedArgv(launcher, program, options, rest[index], tuple(rest[index + 1 :]))


def same_flag(word: str, name: str) -> bool:
    """Whether `word` is the flag `name`, with or without `=value`; `-` and `_` inside the name are equal."""
    return word.startswith("-") and word.partition("=")[0].replace("_", "-") == name


def value_of(arguments: tuple[str, ...], name: str) -> str | None:
    """The value of a flag, the last one if it is given twice; None if it is not given or has no value."""
    found = None
    for index, word in enumerate(arguments):
        if same_flag(word, name):
            if "=" in word:
                found = word.partition("=")[2]
            elif index + 1 < len(arguments) and not arguments[index + 1].startswith("--"):
                found = arguments[index + 1]
    return found


def with_value(arguments: tuple[str, ...], name: str, value: str, *, add: bool = True) -> tuple[str, ...]:
    """The arguments with every value of a flag replaced; an absent flag is appended unless `add` is False."""
    result: list[str] = []
    seen = False
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if not same_flag(word, name):
            result.append(word)
        elif "=" in word:
            result.append(f"{word.partition('=')[0]}={value}")
            seen = True
        else:
            result += [word, value]
            seen = True
            index += 1
        index += 1
    if not seen and add:
        result += [name, value]
    return tuple(result)


def without(arguments: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The arguments without a flag and all of its values."""
    result: list[str] = []
    skipping = False
    for word in arguments:
        if same_flag(word, name):
            skipping = "=" not in word
        elif not skipping or word.startswith("--"):
            skipping = False
            result.append(word)
    return tuple(result)


def values_of(arguments: tuple[str, ...], name: str) -> list[str]:
    """The values of a flag with `nargs="+"` of argparse; [] if it is not given."""
    found: list[str] = []
    for index, word in enumerate(arguments):
        if same_flag(word, name):
            found = [word.partition("=")[2]] if "=" in word else []
            for following in arguments[index + 1 :] if "=" not in word else ():
                if following.startswith("--"):
                    break
                found.append(following)
    return found


def with_values(arguments: tuple[str, ...], name: str, values: list[str]) -> tuple[str, ...]:
    """The arguments with all values of a flag replaced, at its first position; appended if it is absent."""
    result: list[str] = []
    placed = skipping = False
    for word in arguments:
        if same_flag(word, name):
            result += [] if placed else [name, *values]
            placed, skipping = True, "=" not in word
        elif not skipping or word.startswith("--"):
            skipping = False
            result.append(word)
    return tuple(result if placed else [*result, name, *values])
