"""How much a command must be trusted before it starts: not at all, once, or each time."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from shutil import which

from llmval_tui.actions.review.destructive import destructive_reason, destructive_word
from llmval_tui.actions.review.read_only import is_harmless_variable, is_read_only
from llmval_tui.actions.review.wrappers import (
    CONTAINERS,
    SHELLS,
    is_other_wrapper,
    name_of,
    names,
    plain_inner,
    shell_code,
    simple_commands,
)

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*|perl|ruby|node|lua|R|Rscript|julia")
# Output to a disk, or to a setting of the kernel or of a device. /dev/null and its like take any output.
_SYSTEM_FILE = re.compile(
    r""">[>|]?\s*["']?(/(?:proc|sys|etc|boot|dev(?!/(?:null|stdout|stderr|tty|shm|fd)\b))/[^\s;|&"']*)"""
)
_DEEPEST = 8  # wrappers in wrappers


class Trust(IntEnum):
    """What a command needs before it starts."""

    NONE = 0  # it only reads
    ONCE = 1  # it is confirmed once
    EACH_TIME = 2  # it can damage something, so it is confirmed each time


@dataclass(frozen=True, slots=True)
class Needed:
    """The trust that a command needs, and the part of it that decides: `make`, `kubectl delete`."""

    trust: Trust
    because: str


def trust_needed(argv: Sequence[str], workspace: Path) -> Needed:
    """The trust that a command needs. Wrappers are looked through; a path changes nothing about a program."""
    return _of_command(list(argv), workspace, 0)


def trust_needed_by_script(code: str, workspace: Path) -> Needed:
    """The trust that a shell script needs: at least once."""
    needed = _of_code(code, workspace, 0)
    return needed if needed.trust is Trust.EACH_TIME else Needed(Trust.ONCE, "a script")


def at_least_once(needed: Needed, variables: Iterable[str]) -> Needed:
    """The trust that a command needs if these environment variables are set for it."""
    changing = [name for name in variables if not is_harmless_variable(name)]
    if changing and needed.trust is Trust.NONE:
        return Needed(Trust.ONCE, f"{needed.because} with {changing[0]}")
    return needed


def always_asks(argv: Sequence[str]) -> bool:
    """Whether the command asks each time."""
    return trust_needed(argv, Path()).trust is Trust.EACH_TIME


def _of_command(argv: list[str], workspace: Path, depth: int) -> Needed:
    name = name_of(argv[0])
    if depth > _DEEPEST:
        return Needed(Trust.EACH_TIME, f"{name}, with too many wrappers")
    if is_read_only(argv, workspace, which(argv[0])):
        return Needed(Trust.NONE, name)
    if is_other_wrapper(argv):
        return _of_wrapper(argv, workspace, depth)
    if reason := destructive_reason(argv):
        return Needed(Trust.EACH_TIME, reason)
    inner = plain_inner(argv)
    if inner is not None:
        needed = _of_command(inner, workspace, depth + 1)
        assigned = [word.partition("=")[0] for word in argv[1 : len(argv) - len(inner)] if _ASSIGNMENT.fullmatch(word)]
        return at_least_once(needed, assigned)
    code = shell_code(argv)
    if code is not None:
        return _of_code(code, workspace, depth + 1)
    if _PYTHON.fullmatch(name):
        return _of_interpreter(argv)
    if name == "env":
        return _of_wrapper(argv, workspace, depth)
    return Needed(Trust.ONCE, _script_of(argv) if name in SHELLS else name)


def _of_wrapper(argv: list[str], workspace: Path, depth: int) -> Needed:
    """Where the inner program begins depends on options, so each word of the command is taken for its beginning."""
    name = name_of(argv[0])
    for index in range(1, len(argv)):
        word = argv[index]
        if any(character in word for character in " \n;|&`$"):
            inner = _of_code(word, workspace, depth + 1)
            if inner.trust is Trust.EACH_TIME:
                return inner
        elif word and not word.startswith("-"):
            if reason := destructive_reason(argv[index:]):
                return Needed(Trust.EACH_TIME, reason)
            if name_of(word) in SHELLS or _PYTHON.fullmatch(name_of(word)):
                inner = _of_command(argv[index:], workspace, depth + 1)
                if inner.trust is Trust.EACH_TIME:
                    return inner
    if name not in CONTAINERS and name != "find" and (reason := destructive_reason(argv)):
        return Needed(Trust.EACH_TIME, reason)
    return Needed(Trust.ONCE, name)


def _of_code(code: str, workspace: Path, depth: int) -> Needed:
    """Shell code: the worst of its commands and of the files it writes."""
    if target := _SYSTEM_FILE.search(code):
        return Needed(Trust.EACH_TIME, f"a redirection to {target[1]}")
    commands = simple_commands(code)
    if commands is None:
        word = destructive_word(code)
        return Needed(Trust.EACH_TIME, word) if word else Needed(Trust.ONCE, "shell code")
    worst = Needed(Trust.NONE, "shell code")
    for words in commands:
        needed = _of_simple(words, workspace, depth)
        worst = needed if needed.trust > worst.trust else worst
    # Substitutions, variables and redirections do more than the words say.
    if worst.trust is Trust.NONE and any(character in code for character in "$`<>"):
        return Needed(Trust.ONCE, "shell code")
    return worst


_KEYWORDS = names("if then else elif fi for while until do done case esac in function select ! [[ ]] time { }")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=.*", re.DOTALL)


def _of_simple(words: list[str], workspace: Path, depth: int) -> Needed:
    rest = list(words)
    while rest and (rest[0] in _KEYWORDS or _ASSIGNMENT.fullmatch(rest[0]) or set(rest[0]) <= set("<>")):
        rest = rest[1:]
    if not rest:
        return Needed(Trust.NONE, "shell code")
    if rest != words or "$" in rest[0]:
        # After a keyword the program may stand further behind; behind a variable may stand any program.
        found = next((reason for at in range(len(rest)) if (reason := destructive_reason(rest[at:]))), None)
        if found:
            return Needed(Trust.EACH_TIME, found)
        if "$" in rest[0]:
            return Needed(Trust.ONCE, rest[0])
    assigned = [word.partition("=")[0] for word in words[: len(words) - len(rest)] if _ASSIGNMENT.fullmatch(word)]
    return at_least_once(_of_command(rest, workspace, depth + 1), assigned)


def _of_interpreter(argv: list[str]) -> Needed:
    """Python and its like: code in the command, a module (`-m pip`), or a script, whose content is not looked at."""
    name = name_of(argv[0])
    for index, word in enumerate(argv[1:], 1):
        if word in ("-c", "-e", "--eval", "-E"):
            code = " ".join(argv[index + 1 :])
            found = destructive_word(code)
            return (
                Needed(Trust.EACH_TIME, f"{name} {word} with {found}")
                if found
                else Needed(Trust.ONCE, f"{name} {word}")
            )
        if word == "-m" and index + 1 < len(argv):
            reason = destructive_reason(argv[index + 1 :])
            return Needed(Trust.EACH_TIME, f"{name} -m {reason}") if reason else Needed(Trust.ONCE, f"{name} -m")
        if not word.startswith("-"):
            break
    return Needed(Trust.ONCE, _script_of(argv))


_WITH_VALUE = names("-o +o -O +O --init-file --rcfile -W -X -I")  # options of shells and interpreters


def _script_of(argv: Sequence[str]) -> str:
    """The script that a shell or an interpreter runs, as written: `./probe.sh` says more than `bash`."""
    words = iter(argv[1:])
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith(("-", "+")):
            return word
    return name_of(argv[0])
