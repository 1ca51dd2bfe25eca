"""Fenced blocks: the commands between prompts, comments and printed output, or a script for a shell."""

import re
from dataclasses import dataclass

from llmval_tui.actions.criteria.wording.printed import is_output_lead
from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript
from llmval_tui.actions.reading.sentences import Code, Sentence
from llmval_tui.actions.reading.shell import TERMINAL_PROMPT, placeholders, understand
from llmval_tui.actions.reading.spans import Nature, nature_of

_SHELLS = ("bash", "sh", "shell", "zsh", "ksh", "dash", "fish")
_TERMINALS = ("console", "shell-session", "shellsession", "session", "terminal", "sh-session", "bash-session", "con")
_EXPECTED = re.compile(
    r"\b(?:expected|outputs?|results?|looks? like|prints?|shows?|returns?|answers?|should see|you see|response"
    r"|sample)\b"
    r"[^.;]*[:：]?\s*$",
    re.I,
)
_COMMENT = re.compile(r"\s*#")
# A script that decides by itself: its comments speak of its branches.
_CONTROL = re.compile(r"^\s*(?:if|for|while|until|case)\b|\|\||&&", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    """What a fenced block asks for."""

    commands: tuple[WrittenCommand, ...] = ()
    script: WrittenScript | None = None
    refusal: str | None = None
    unclear: str | None = None  # why a person must say what it is
    comments: tuple[str, ...] = ()  # what its comments say
    is_data: bool = False  # a configuration, a listing, printed output


def read_fence(code: Code, sentence: Sentence) -> Fence:
    """The commands of a fenced block."""
    language = code.block.language.lower().strip("{}.")
    lines = code.text.splitlines()
    prompts = [TERMINAL_PROMPT.match(line) for line in lines]
    has_dollar = any(prompt and prompt["sign"] != "#" for prompt in prompts)
    is_terminal = language in _TERMINALS or has_dollar
    if is_output_lead(sentence.lead) and not is_terminal:
        return Fence(is_data=True)
    if _EXPECTED.search(sentence.lead) and not is_terminal and language not in _SHELLS:
        if not language and _all_commands(lines):
            return Fence(unclear="The block may be a command or its output: begin it with ```bash if it is to run.")
        return Fence(is_data=True)
    if language and language not in (*_SHELLS, *_TERMINALS):
        if language in ("python", "py", "perl", "ruby", "powershell", "ps1", "bat", "cmd", "makefile", "sql"):
            return Fence(unclear=f"The block is {language}: put it into a file and name the command that runs it.")
        return Fence(is_data=True)
    if is_terminal:
        taken, why = _typed(lines, code.line, has_dollar)
        if why is not None:
            return Fence(unclear=why)
        if not taken:
            return Fence(unclear="The block shows a terminal without a prompt: mark what to run with “$ ”.")
        return _understood(taken, code, language)
    body = [(line, code.line + number) for number, line in enumerate(lines)]
    if not language and not _all_commands(lines):
        has_some = any(nature_of(line) is Nature.COMMAND for line in lines if line.strip())
        return Fence(unclear="The block has no language: begin it with ```bash if it is to run.", is_data=not has_some)
    return _understood(body, code, language)


def _typed(lines: list[str], first: int, has_dollar: bool) -> tuple[list[tuple[str, int]], str | None]:
    """The lines after a prompt, with their continuation lines; or why they cannot be told apart."""
    taken: list[tuple[str, int]] = []
    continued = False
    for number, line in enumerate(lines):
        prompt = TERMINAL_PROMPT.match(line)
        if continued:
            taken.append((re.sub(r"^>\s?", "", line), first + number))
        elif prompt is not None and not (has_dollar and prompt["sign"] == "#" and not prompt["host"]):
            if prompt["host"]:
                return [], f"The block was typed on a certain machine (“{prompt['host'].strip()}”): say where it runs."
            taken.append((line[prompt.end() :], first + number))
        else:
            continue
        continued = line.rstrip().endswith("\\")
    return taken, None


def _all_commands(lines: list[str]) -> bool:
    """Whether every line of a block without a language looks like a command."""
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    plain = [line for line in text.split("\n") if line.strip() and not _COMMENT.match(line)]
    return bool(plain) and all(nature_of(line) is Nature.COMMAND for line in plain)


def _understood(body: list[tuple[str, int]], code: Code, language: str) -> Fence:
    """Plain commands, one a line; else the whole block as a script."""
    commands: list[WrittenCommand] = []
    folder = None
    needs_shell = False
    refusal = None
    comments = tuple(comment for text, _ in body if (comment := comment_of(text)))
    pending, start = "", 0
    for text, line in body:
        if not pending and (not text.strip() or _COMMENT.match(text)):
            continue
        start = start if pending else line
        pending += text
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        written, pending = _without_comment(pending.strip()), ""
        moved = re.fullmatch(r"cd\s+([\w./-]+)", written)
        if moved and not moved[1].startswith(("/", "..", "-")):
            folder = f"{folder}/{moved[1]}".strip("/") if folder else moved[1].rstrip("/")
            continue
        found = understand(written, start, folder)
        if found.refusal is not None:
            needs_shell, refusal = needs_shell or found.needs_shell, refusal or found.refusal
        commands += found.commands
    if refusal is None and commands:
        return Fence(commands=tuple(commands), comments=comments)
    script = "\n".join(text for text, _ in body).strip("\n") + "\n"
    first = body[0][1] if body else code.line
    if needs_shell:
        written_script = WrittenScript(script, first, language or "bash", placeholders(script))
        return Fence(script=written_script, comments=() if _CONTROL.search(script) else comments)
    return Fence(refusal=refusal) if refusal else Fence(is_data=True)


def comment_of(line: str) -> str:
    """The words of a line's comment; "" if it has none."""
    if _COMMENT.match(line):
        return "" if line.lstrip().startswith("#!") else line.lstrip().lstrip("#").strip()
    return line[len(_without_comment(line)) :].lstrip(" \t#").strip()


def _without_comment(text: str) -> str:
    """The line without a comment at its end."""
    quote = ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and at and text[at - 1] in " \t":
            return text[:at].rstrip()
    return text
