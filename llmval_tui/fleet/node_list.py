"""Names of nodes as people write them: `n[1-64]`, `a,b`, a file, or `@group` of ClusterShell."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from llmval_tui.foundation.errors import Refused

_MOST = 10_000
_DIGITS = 18  # of a number; Python reads no more than 4,300
# Names become folders and words of command lines: no path, no option, nothing that a shell reads. DNS has the lengths.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_SLOTS = re.compile(r"([^:]+):\d{1,5}")  # `n1:8` of MPI; torchrun's nproc_per_node decides how many ranks a node has
# `slots=8` of a hostfile. One that says how to reach the node (`ansible_host=…`) is for ssh's config.
_OPTION = re.compile(r"(?![a-z_]*(?:host|user|port|addr))[A-Za-z_-]+=\S*")
_HINT = "write it as n[1-4], n1,n2, a file with one name a line (./hosts), or @group"


def parse_nodes(text: str, folder: Path | None = None) -> list[str]:
    """The names in `text`, in their order; a file is relative to `folder`.

    A hostfile may have options after a name (`n1 slots=8`, `n1:8`, `n1 8`), which are not used, and comments after `#`.

    Raises:
        Refused: it is not a list of nodes, names one twice, or its file or group cannot be read.
    """
    text = text.strip()
    if text.startswith("@"):
        return _checked(_group(text), text)
    if "/" in text:
        return _checked(_file(text, folder), text)
    return _checked(expand(text), text)


def expand(text: str) -> list[str]:
    """The names of a hostlist: `n[01-03,7]-ib,m1`; a number keeps its leading zeros, and slots (`n1:8`) are left out.

    Raises:
        Refused: it is not understood.
    """
    names: list[str] = []
    for word in _split(text):
        slots = _SLOTS.fullmatch(word)
        names += _expand_word(slots[1] if slots else word, text, _MOST - len(names))
    return names


def _split(text: str) -> list[str]:
    """The words between commas (or blanks) that are not in brackets."""
    words, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if (character == "," or character.isspace()) and depth == 0:
            words.append(text[start:place])
            start = place + 1
    return [word.strip() for word in (*words, text[start:]) if word.strip()]


def _expand_word(word: str, text: str, most: int) -> list[str]:
    """The names of one word; `most`: how many there may be, which is asked before they are made."""
    match = re.fullmatch(r"([^\[\]]*)\[([^\[\]]*)\](.*)", word, re.DOTALL)
    if match is None:
        if "[" in word or "]" in word:
            raise Refused(f"the node list {_shown(text)} has a bracket too many: {_HINT}.")
        return [word] if most >= 1 else _too_many(text)
    before, ranges, after = match.groups()
    numbers: list[str] = []
    for part in ranges.split(","):
        low, dash, high = part.strip().partition("-")
        high = high if dash else low
        if not (low.isascii() and low.isdecimal() and high.isascii() and high.isdecimal()):
            raise Refused(f"“{_shown(part)}” in the node list {_shown(text)} is not a range of numbers: {_HINT}.")
        if max(len(low), len(high)) > _DIGITS or int(high) - int(low) >= most - len(numbers):
            _too_many(text)
        if int(low) > int(high):
            raise Refused(f"“{part}” in the node list {_shown(text)} is not a range of numbers: {_HINT}.")
        numbers += [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    rests = _expand_word(after, text, most // len(numbers))
    return [f"{before}{number}{rest}" for number in numbers for rest in rests]


def _too_many(text: str) -> NoReturn:
    raise Refused(f"the node list {_shown(text)} has more than {_MOST} names: name fewer.")


def _file(text: str, folder: Path | None) -> list[str]:
    path = (folder or Path()) / Path(text).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Refused(f"the file of nodes {path} cannot be read ({reason}): {_HINT}.") from error
    return [name for line in lines for name in expand(" ".join(_names_of(line)))]


def _names_of(line: str) -> list[str]:
    """The names in a line of a hostfile, without its comment and its options."""
    words = _split(re.sub(r"\s*=\s*", "=", line.partition("#")[0]))
    names = [word for word in words if not _OPTION.fullmatch(word)]
    return names[:1] if len(names) == 2 and names[1].isdecimal() and "," not in line else names


def _group(text: str) -> list[str]:
    nodeset = shutil.which("nodeset") or shutil.which("cluset")
    if nodeset is None:
        raise Refused(f"{_shown(text)} is a group of ClusterShell, which is not installed here: {_HINT}.")
    try:
        done = subprocess.run(
            [nodeset, "-e", text], capture_output=True, timeout=30, stdin=subprocess.DEVNULL, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{nodeset} did not answer for {_shown(text)} ({error}): {_HINT}.") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Refused(f"{nodeset} does not know {_shown(text)} ({last}): {_HINT}.")
    return done.stdout.split()


def _checked(names: Sequence[str], text: str) -> list[str]:
    if not names:
        raise Refused(f"the node list “{_shown(text)}” has no name: {_HINT}.")
    for name in names:
        if not _NAME.fullmatch(name):
            hint = _HINT
            if "@" in name:
                hint = "put the user of a node into ~/.ssh/config, and only its name here"
            elif ":" in name:
                hint = "give an IPv6 address a name in ~/.ssh/config or /etc/hosts, and write that name here"
            raise Refused(f"“{_shown(name)}” in the node list {_shown(text)} is not the name of a node: {hint}.")
    if twice := next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None:
        raise Refused(f"the node list {_shown(text)} names {twice} twice: name each node once.")
    return list(names)


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}…"


def fold(names: Sequence[str]) -> str:
    """A short form of the names, which `expand` reads: `n[1-4],m1`. Only neighbours with one prefix are joined."""
    parts: list[str] = []
    run: list[str] = []

    def close() -> None:
        if len(run) > 2:
            prefix, low = _number(run[0])
            parts.append(f"{prefix}[{low}-{_number(run[-1])[1]}]")
        else:
            parts.extend(run)
        run.clear()

    for name in names:
        if run and not _follows(run[-1], name):
            close()
        run.append(name)
    close()
    return ",".join(parts)


def _number(name: str) -> tuple[str, str]:
    digits = re.search(r"\d*$", name)
    assert digits is not None
    return name[: digits.start()], digits[0]


def _follows(one: str, other: str) -> bool:
    (prefix, low), (same, high) = _number(one), _number(other)
    return bool(low and high) and prefix == same and len(low) <= len(high) and str(int(low) + 1).zfill(len(low)) == high
