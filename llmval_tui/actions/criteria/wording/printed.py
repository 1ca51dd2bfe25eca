"""The output that a console block shows below a prompt: what the command must print."""

import re
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion, StatedBy

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import WrittenCommand
    from llmval_tui.checklist.model import Step

_PROMPT = re.compile(r"\s*(?:\([\w.-]+\)\s*)?(?:[\w.-]+@[\w.-]+[: ]?\S*)?[$#❯]\s+(?P<command>\S.*)")
_CONSOLE = {"console", "shell-session", "terminal", "session", "bash-session", "sh-session", "pycon", "", "text"}
_LEFT_OUT = re.compile(r"^\s*(?:\.\.\.|…|\[\.\.\.\]|\[…\])\s*$")


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
