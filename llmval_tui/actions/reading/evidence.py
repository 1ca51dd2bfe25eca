"""The files and folders that an item promises: in its words, and by flags of its commands."""

import re

from llmval_tui.actions.reading.model import WrittenCommand
from llmval_tui.actions.reading.sentences import MARK, prose_of
from llmval_tui.actions.reading.spans import Nature
from llmval_tui.checklist.model import Step

_OUTPUT_FLAG = re.compile(
    r"--?(?:[\w-]*[-_])?(?:out|output|outdir|outfile|result|results|report|reports|artifact|artifacts|save|csv"
    r"|json|xml|log|logs"
    r"|logfile|dump|dest|export)(?:[-_](?:file|path|dir|folder|json|csv|prefix|name|to))*"
)
_INPUT_FLAG = re.compile(r"\b(?:in|input|from|load|config|baseline|compare|model|dataset|data|requests|prompts)\b")
_WRITES = re.compile(
    r"\b(?:save|keep|store|record|log|write|put|capture|archive|drop|leave|collect|export|dump|results?"
    r"|outputs?|logs?|report)\b"
    r"[^.;]*\b(?:to|in|into|under|as|at|below)\s*$|\b(?:writes|leaves|produces|creates|generates)\s*(?:an?\s+"
    r"|the\s+)?$",
    re.IGNORECASE,
)


def promised_files(step: Step, commands: tuple[WrittenCommand, ...]) -> tuple[str, ...]:
    """The promised files and folders, relative to the workspace, besides the ones that a command redirects into."""
    found = [path for command in commands for path in _by_flags(command.text)]
    if commands:
        found += _by_words(step)
    return tuple(dict.fromkeys(found))


def _by_flags(text: str) -> list[str]:
    found = []
    words = [word.strip("\"'") for word in text.split()]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, sign, value = word.partition("=")
        value = value if sign else following
        named = _OUTPUT_FLAG.fullmatch(flag) and not _INPUT_FLAG.search(flag.replace("-", " ").replace("_", " "))
        is_path = re.fullmatch(r"(?![-/~$])[\w./+:-]*/[\w./+:-]*", value) or re.fullmatch(
            r"[\w-]+\.(?:json|csv|xml|log|txt)", value
        )
        if flag.startswith("-") and named and is_path and ".." not in value:
            found.append(value.rstrip("/").removeprefix("./"))
    return found


def _by_words(step: Step) -> list[str]:
    found = []
    for sentence, index, code in prose_of(step).codes():
        before = sentence.between(index).replace(MARK, " ")
        is_path = code.nature is Nature.PATH and not code.text.startswith(("/", "~")) and "<" not in code.text
        if is_path and _WRITES.search(before) and not code.text.endswith(".md") and "/" in code.text:
            found.append(code.text.rstrip("/").removeprefix("./"))
    return found
