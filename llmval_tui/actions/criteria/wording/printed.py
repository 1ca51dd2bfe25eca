"""The output that a block shows: below a prompt of a console, or below “Expected output:”."""

import re
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.wording.demands import unreadable

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript
    from llmval_tui.checklist.model import Step

_PROMPT = re.compile(r"\s*(?:\([\w.-]+\)\s*)?(?:[\w.-]+@[\w.-]+[: ]?\S*)?[$#❯]\s+(?P<command>\S.*)")
_CONSOLE = {"console", "shell-session", "terminal", "session", "bash-session", "sh-session", "pycon", "", "text"}
_LEFT_OUT = re.compile(r"^\s*(?:\.\.\.|…|\[\.\.\.\]|\[…\])\s*$")

# What announces the output of a command, and no command.
_OUTPUT_LEAD = re.compile(
    r"^\W*(?:(?:the|an?|its|this)\s+)*(?:expected|sample|example|typical)?\s*(?:outputs?|results?|responses?|answers?)"
    r"(?:\s+(?:is|are|should be|must be|looks? like|as follows|follows|below))*\W*$"
    r"|\bexpected\s+(?:outputs?|results?|responses?)\W*$"
    r"|\b(?:looks? like|should (?:now )?see|you see|expect(?:ed)?)\s*[:：]\W*$",
    re.IGNORECASE,
)
ANNOUNCES_OUTPUT = re.compile(
    r"\bexpected\s+(?:outputs?|results?|responses?)"
    r"(?:\s+(?:is|are|should be|looks? like|as follows|follows|below))*\W*$|^\W*expect(?:ed)?\W*$",
    re.IGNORECASE,
)
# A line that stands for others: "GPU 0: <name>", "…", "xxx".
_STANDS_FOR = re.compile(r"\.\.\.|…|<[^<>]+>|\bx{2,}\b|\*{2,}", re.IGNORECASE)


def is_output_lead(text: str) -> bool:
    """Whether the words above a block say that it is what a command prints: "Expected output:"."""
    return _OUTPUT_LEAD.search(text) is not None


def expected_outputs(
    step: "Step", commands: "tuple[WrittenCommand, ...]", script: "WrittenScript | None"
) -> list[Criterion]:
    """One criterion for each block below “Expected output:”: a number alone is the output, lines must occur in order.

    It speaks of the last command above it; if it stands above all, of the only one.
    """
    found = []
    lead = ""
    for block in step.blocks:
        if block.kind != "fence":
            lead = block.text.strip().splitlines()[-1] if block.text.strip() else ""
            continue
        lines = [line.strip() for line in block.text.splitlines() if line.strip()]
        if not is_output_lead(re.split(r"(?<=[.!?])\s", lead)[-1]) or any(_PROMPT.match(line) for line in lines):
            continue
        lead = ""
        above = [at for at, command in enumerate(commands) if command.line < block.line]
        at = above[-1] if above else 0 if len(commands) == 1 else None
        known = [line for line in lines if not _STANDS_FOR.search(line)]
        if not known or (at is None and script is None):
            found.append(unreadable("Expected output", at))
            continue
        number = _number(known[0]) if len(lines) == 1 else None
        comparison, bound = ("==", number) if number is not None else ("contains", "\n".join(known))
        shown = " / ".join(known)
        found.append(Criterion(shown, StatedBy.WORDS, "stdout", comparison, bound, command=at))
    return found


def printed_claims(step: "Step", commands: "tuple[WrittenCommand, ...]") -> list[Criterion]:
    """One criterion for each command of a console block that shows its output.

    One line must be the whole output. Several lines are usually a sample, so they must occur in this order.
    """
    found = []
    known = [_squeezed(command.text) for command in commands]
    for block in step.blocks:
        if block.kind != "fence" or block.language.lower() not in _CONSOLE:
            continue
        for command, output in _prompts(block.text):
            lines = [line.rstrip() for line in output if line.strip() and not _LEFT_OUT.match(line)]
            if not lines:
                continue
            left_out = len(lines) < len([line for line in output if line.strip()])
            squeezed = _squeezed(command)
            position = next((at for at, text in enumerate(known) if text == squeezed), None)
            whole = len(lines) == 1 and not left_out
            text = lines[0].strip() if whole else "\n".join(line.strip() for line in lines)
            number = _number(text) if whole else None
            found.append(
                Criterion(
                    text,
                    StatedBy.WORDS,
                    "stdout",
                    "==" if whole else "contains",
                    number if number is not None else text,
                    command=position,
                )
            )
    return found


def _prompts(code: str) -> list[tuple[str, list[str]]]:
    """The commands of a block with the lines below each; [] if it has no prompt."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in code.splitlines():
        prompt = _PROMPT.match(line)
        if continued and found:
            text = found[-1][0].removesuffix("\\") + re.sub(r"^\s*>\s?", "", line)
            found[-1] = (text, found[-1][1])
            continued = line.rstrip().endswith("\\")
        elif prompt:
            found.append((prompt["command"].rstrip(), []))
            continued = line.rstrip().endswith("\\")
        elif found:
            found[-1][1].append(line)
    return found


def _squeezed(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(?:\.\d+)?", text) else None
