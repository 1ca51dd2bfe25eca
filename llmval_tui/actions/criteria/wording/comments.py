"""What the comments of a fenced block demand of its commands: "nvidia-smi -L   # must show 8 GPUs"."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Step

_SHELLS = {"bash", "sh", "shell", "zsh", "console", "shell-session", "terminal", "session", ""}
_LINE = re.compile(r"\s*(?:[$❯]\s+)?(?P<command>[^#\s](?:[^#]|(?<=\S)#)*?)\s+#+\s*(?P<comment>\S.*)")
_VALUE = re.compile(r"(?:→|->|=>|==?)?\s*[\d.,]+(?:\s?[\w/%°]{1,6})?")

# A comment below a command that is nothing but its result: "# 8", "# => 8", "# expect 8 GPUs".
_OWN_LINE = re.compile(
    r"\s*#+\s*(?:(?:→|->|=>|==?|(?:expect(?:ed|s)?(?: output)?|output|should (?:be|print|show|return)"
    r"|must (?:be|print|show|return)|returns|prints)\b:?)\s*(?P<comment>\S.*)"
    r"|(?P<value>[\d.,]+(?:\s?[\w/%°]{1,6})?)\s*)"
)


def commented(step: "Step") -> Iterator[tuple[str, str]]:
    """The command of each commented line, and the line as a text of the item: the command and the comment's words."""
    for block in step.blocks:
        if block.kind != "fence" or block.language.lower() not in _SHELLS:
            continue
        previous = ""
        for line in block.text.splitlines():
            own = _OWN_LINE.fullmatch(line)
            if own is not None and previous and "`" not in line:
                yield previous, f"`{previous}` → {own['comment'] or own['value'].strip()}"
            match = _LINE.fullmatch(line)
            if line.strip() and not line.lstrip().startswith("#"):
                previous = match["command"].strip() if match else line.strip()
            if match is None or "`" in line:
                continue
            comment = match["comment"].strip()
            is_value = _VALUE.fullmatch(comment) or comment.startswith(("→", "->", "=>", "expect"))
            behind = f" → {re.sub(r'^[→=> -]+', '', comment)}" if is_value else f". {comment[:1].upper()}{comment[1:]}"
            command = match["command"].strip()
            yield command, f"`{command}`{behind}"
