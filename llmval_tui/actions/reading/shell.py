"""Lines of shell as an item writes them: prompts, continuation lines, several commands, and what needs a shell."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from llmval_tui.actions.reading.model import WrittenCommand
from llmval_tui.actions.reading.programs import ENDLESS
from llmval_tui.actions.reading.serving import serves
from llmval_tui.checklist.command import DEFAULT_VARIABLES, parse_command
from llmval_tui.checklist.lexer import PLACEHOLDER, RESERVED, STAND_IN, stand_in_name
from llmval_tui.foundation.errors import Refused

PROMPT = re.compile(r"[$#❯]\s+(?=\S)|\$(?=[a-z])")
# The prompt of a terminal: `$ `, `# `, `(venv) $ `, `user@host:~$ `, `[user@host dir]# `.
TERMINAL_PROMPT = re.compile(
    r"(?:\([\w.-]+\)\s*)?(?P<host>\[?[\w.-]+@[\w.-]+[^$#\n]{0,40}?\]?|\[[^\]\n]{1,40}\])?\s*(?P<sign>[$#❯])\s+(?=\S)"
)
_CONTINUED = re.compile(r"[ \t]*\\[ \t]*\n[ \t]*")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_ASSIGNED = re.compile(
    r"(?:^|[;&|\s(])(?:export\s+|local\s+|readonly\s+)?([A-Za-z_][A-Za-z0-9_]*)="
    r"|\bfor\s+(\w+)\s+in\b|\bread\s+(?:-\w+\s+)*(\w+)"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*")
_SHELL_ONLY = re.compile(r"[*?\[{(<>!]|\$\{\w+[:#%/]|\bsource\b|^\s*[.] |^(?:export|cd|set|ulimit|umask|trap)\s")
_ANY_TIME = datetime(2026, 1, 1)
_LEFT_OUT = re.compile(r"(?:^|\s)(?:\.{3}|\[?…\]?)(?=\s|$)|\w…(?=\s|$)")
BLOCK_HINT = "put it into a fenced block, which bash runs as a script"


@dataclass(frozen=True, slots=True)
class Understood:
    """The commands of one written line, or the reason why llmval does not start it."""

    commands: tuple[WrittenCommand, ...] = ()
    refusal: str | None = None  # a whole sentence
    needs_shell: bool = False  # in a fenced block it would run as a script


def joined(text: str) -> str:
    """Continuation lines joined as bash does; other line breaks of a code span are blanks, as Markdown shows them."""
    return " ".join(_CONTINUED.sub(" ", text).split("\n")).strip()


def without_prompt(text: str) -> str:
    return PROMPT.sub("", text, count=1) if PROMPT.match(text) else text


def understand(text: str, line: int, folder: str | None = None) -> Understood:
    """The commands of a line: plain ones, joined by `&&` or `;`, with a `cd FOLDER &&` before them."""
    parts, why = _split(text)
    if why is not None:
        return Understood(refusal=f"“{_short(text)}” has {why}: {BLOCK_HINT}.", needs_shell=True)
    commands: list[WrittenCommand] = []
    for part in parts:
        words = part.split()
        if not words:
            continue
        if words[0] == "cd" and len(words) == 2 and not words[1].startswith(("-", "$", "~")) and part is not parts[-1]:
            folder = _below(folder, words[1].strip("'\""))
            if folder is None:
                return Understood(refusal=f"“{part}” leaves the workspace: give paths inside the workspace.")
            continue
        written = _one(part, line, folder)
        if isinstance(written, str):
            return Understood(refusal=written, needs_shell=_needs_shell(part))
        commands.append(written)
    if not commands:
        return Understood(refusal=f"“{_short(text)}” starts no program: write the command after it.", needs_shell=True)
    return Understood(tuple(commands))


def _one(text: str, line: int, folder: str | None) -> WrittenCommand | str:
    """One plain command, or why it cannot be started."""
    words = text.split()
    if words[0] == "export" and all(_ASSIGNMENT.fullmatch(word) for word in words[1:]):
        return f"“{_short(text)}” sets a variable for no command: write {' '.join(words[1:])} in front of the command."
    if words[0] == "env" and len(words) > 2 and _ASSIGNMENT.fullmatch(words[1]):
        text = text.split(None, 1)[1]
        words = words[1:]
    program = next((word for word in words if not _ASSIGNMENT.fullmatch(word)), "")
    if program in ("bash", "sh", "zsh", "dash", "/bin/bash", "/bin/sh") and re.search(r"\s-[a-z]*c\s", text):
        return f"“{_short(text)}” runs code that no file holds (-c): {BLOCK_HINT}."
    if _LEFT_OUT.search(text):
        return f"“{_short(text)}” leaves words out (“…”): write the whole command."
    try:
        parse_command(
            text,
            now=_ANY_TIME,
            environment=dict.fromkeys(DEFAULT_VARIABLES, "x"),
            values=dict.fromkeys(placeholders(text), "x"),
        )
    except Refused as refusal:
        return f"“{_short(text)}”: {refusal}"
    return WrittenCommand(text, line, folder, placeholders(text))


def placeholders(text: str) -> tuple[str, ...]:
    """The names of the values that somebody must give for this command or script, in order."""
    found: list[tuple[int, str]] = []
    single = [(match.start(), match.end()) for match in re.finditer(r"'[^'\n]*'", _without_double(text))]
    assigned = {name for match in _ASSIGNED.finditer(text) for name in match.groups() if name}
    for match in STAND_IN.finditer(text):
        in_quotes = any(start <= match.start() < end for start, end in single)
        if match[0] != PLACEHOLDER and (match["angle"] or not in_quotes):
            found.append((match.start(), stand_in_name(match)))
    for match in _VARIABLE.finditer(text):
        escaped = text[: match.start()].endswith("\\")
        in_quotes = escaped or any(start <= match.start() < end for start, end in single)
        if match[1] not in DEFAULT_VARIABLES | assigned and not in_quotes:
            found.append((match.start(), match[1]))
    return tuple(dict.fromkeys(name for _, name in sorted(found)))


def _without_double(text: str) -> str:
    """The text with the inside of double quotes blanked out, so that only real single quotes are left."""
    return re.sub(r'"(?:[^"\\]|\\.)*"', lambda match: '"' + "_" * (len(match[0]) - 2) + '"', text)


def _split(text: str) -> tuple[list[str], str | None]:
    """The text at each `&&`, `;` and line break outside of quotes, or the reason why it needs a shell."""
    parts, quote, start, at = [], "", 0, 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\" and quote == '"':
                at += 1
            elif character == quote:
                quote = ""
            elif quote == '"' and (text.startswith("$(", at) or character == "`") and not _is_date(text, at):
                return [], "the output of another command in it"
        elif character in "'\"":
            quote = character
        elif character == "\\":
            at += 1
        elif text.startswith("&&", at) or character in ";\n":
            parts.append(text[start:at].strip())
            at += 1 if text.startswith("&&", at) else 0
            start = at + 1
        elif text.startswith("||", at):
            return [], "a second command for the case that the first one fails (||)"
        elif character == "|" and not re.match(r"\|&?\s*tee\s", text[at:]):
            return [], "a pipe"
        elif character == "&" and not re.match(r"&>", text[at:]) and not text[:at].endswith((">", "|")):
            return [], "a command in the background (&)"
        elif text.startswith("<<", at):
            return [], "a here-document"
        elif text.startswith("$(", at) and _is_date(text, at):
            at = text.index(")", at)
        elif text.startswith("$(", at) or character == "`":
            return [], "the output of another command in it"
        at += 1
    parts.append(text[start:].strip())
    for part in parts:
        if part.split()[:1] and part.split()[0] in RESERVED | {"("}:
            return [], "a loop or another shell statement"
    return [part for part in parts if part], None


def _is_date(text: str, at: int) -> bool:
    return re.match(r"\$\(\s*date\s+(?:-u\s+)?[\"']?\+", text[at:]) is not None


def _needs_shell(text: str) -> bool:
    """Whether bash would take what llmval's own grammar refuses: a pattern of file names, a redirection, a group."""
    plain = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    return (
        re.search(r"[*?\[{(<>!]|\$\{\w+[:#%/]|\bsource\b|^\s*[.] |^export\s|^cd\s|^set\s|^ulimit\s", plain) is not None
    )


def _below(folder: str | None, name: str) -> str | None:
    """The folder `name` seen from `folder`, relative to the workspace; None if it lies outside."""
    if name.startswith("/"):
        return None
    parts: list[str] = []
    for part in [*(folder or "").split("/"), *name.split("/")]:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


def in_folder(command: WrittenCommand, folder: str) -> WrittenCommand:
    """The command in a folder that the item's words name, unless it has one already."""
    return (
        command if command.folder is not None else replace(command, folder=folder.strip("/").removeprefix("./") or ".")
    )


@cache
def _endless_by_program() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in ENDLESS:
        found.setdefault(entry.split()[0], []).append(entry)
    return found


def is_endless(text: str) -> bool:
    """Whether the command starts a server, follows a file, or waits for a person: it does not end by itself."""
    words = [word for word in text.split() if not _ASSIGNMENT.fullmatch(word)]
    while words and words[0] in ("sudo", "nohup", "time", "exec", "numactl", "nice", "env"):
        words = words[1:]
        while words and words[0].startswith("-"):
            words = words[1:]
    if not words:
        return False
    words[0] = re.sub(r"^python[\d.]*$", "python", words[0].rsplit("/", 1)[-1])
    flags = [word for word in words[1:] if word.startswith("-")]
    named = _without_flags(words)
    for entry in _endless_by_program().get(words[0], ()):
        begin, _, absent = entry.partition(" | ")
        wanted = begin.split()
        names = [word for word in wanted if not word.startswith("-")]
        options = [word for word in wanted[1:] if word.startswith("-")]
        if wanted[:2] == ["python", "-m"]:
            matches = words[:2] == ["python", "-m"] and len(words) > 2 and words[2].startswith(wanted[2])
        else:
            matches = named[: len(names)] == names and all(
                any(flag == option or flag.startswith(f"{option}=") for flag in flags) for option in options
            )
        if len(wanted) == 1 and words[0] in ("bash", "sh") and len(words) > 1:
            continue  # it runs a script
        if matches and not (absent and any(word.startswith(flag) for flag in absent.split() for word in words[1:])):
            return True
    return (words[0] == "ssh" and len(named) == 2) or serves(words)


_WITH_VALUE = ("-n", "--namespace", "--context", "-c", "--kubeconfig", "-p", "-i", "-l", "-o", "-F", "-J")


def _without_flags(words: list[str]) -> list[str]:
    """The program and its words that are no flags, as far as they can be told from the values of flags."""
    found: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-") and found:
            skip = word in _WITH_VALUE
        else:
            found.append(word)
    return found


def _short(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
