"""“All GPUs have the same VBIOS”: one value on every line that nvidia-smi prints for one query."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.expect import parse_expect
from llmval_tui.actions.criteria.model import Criterion, StatedBy

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import WrittenCommand

# "the same as on node 1", "match the release notes": another thing than the lines of this output.
_SAME = re.compile(r"^(?!.*\b(?:as|to|with|match\w*|than|not|and|or)\b)(?!.*\d).*\b(?:same|identical)\b", re.IGNORECASE)
_EACH = re.compile(r"\b(?:all|every|each|both|gpus)\b", re.IGNORECASE)
_ONE_FIELD = re.compile(
    r"(?:sudo\s+)?nvidia-smi\s+(?:--query-gpu=[\w.]+\s+--format=csv,noheader(?:,nounits)?"
    r"|--format=csv,noheader(?:,nounits)?\s+--query-gpu=[\w.]+)"
)


def same_value(one: Criterion, commands: "tuple[WrittenCommand, ...]") -> Criterion | None:
    """The criterion that all lines are the same; None if the words or the command say something else."""
    at = one.command
    if not one.unreadable or at is None or at >= len(commands) or not _ONE_FIELD.fullmatch(commands[at].text.strip()):
        return None
    if not (_SAME.search(one.text) and _EACH.search(one.text)):
        return None
    return replace(parse_expect("distinct stdout /^(.+)$/ == 1", StatedBy.WORDS), text=one.text, command=at)
