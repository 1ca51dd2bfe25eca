"""Demands that stand around an item's own words: in the heading above, in the item above, in bullets and in tables."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.units import NUMBER_TEXT, UNIT_TEXT
from llmval_tui.actions.criteria.wording.comparisons import comparisons_in, states_a_value
from llmval_tui.actions.criteria.wording.demands import PROCEDURE

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Step

_I = re.IGNORECASE
_MUST = re.compile(
    r"\b(?:must|should|shall|has to|have to|ought to|expect(?:s|ed)?|may not|muss|müssen|soll(?:en|te)?|doit)\b", _I
)
_NONE = re.compile(
    r"\b(?:no|zero|without(?: any)?)\s+(?:[\w-]+\s+)?(?:errors?|failures?|warnings?|xids?|faults?|output)\b", _I
)
# "All of these must pass", "must be green": the exit codes say it.
_ONLY_SUCCESS = re.compile(
    r"\W*(?:(?:all|each|every|both|of|the|these|those|following|below|commands?|checks?|items?|steps?|tests?|boxes|here|in"
    r"|this|section|must|should|shall|has|have|to|be|are|is|expected|pass|passed|succeed|complete|completed|finish|done"
    r"|ticked|checked|green|true|hold|successful(?:ly)?|work|with|exit|code|status|0|zero|before|prior|until|after|\d+"
    r"|requirements?|criteria|acceptance|on|node|nodes|gpu|gpus|for)\b\W*)*",
    _I,
)
_WHEN = re.compile(r"^\W*[\d.]+\s|\b(?:before|prior to|until|after)\b.*$", _I)
# Such a figure is what is wrong, not what must hold: "Troubleshooting: bandwidth below 300 GB/s".
_TROUBLE = re.compile(
    r"\b(?:troubleshoot\w*|trouble|problems?|symptoms?|debug\w*|fix(?:ing|es)?|repair\w*|replac\w*|investigat\w*|analy[sz]\w*"
    r"|degrad\w*|slow|low|poor|bad|broken|fail\w*|faults?|find|search|identify|alerts?|alarms?|incidents?|rma|reject\w*)\b",
    _I,
)
# A bullet that is a name and its value: "CUDA Version 13.0", "MTU: 9000"; or a count: "8 GPUs".
_NAMED_VALUE = re.compile(
    rf"\W*(?!(?:see|step|ticket|issue|takes?|about|since|until|on|in|at|by|for|from|with|owner|page|line|chapter|section)\b)"
    rf"[A-Za-z][\w /.-]{{0,40}}?(?:\s*[:=]\s*|\s+)v?(?:{NUMBER_TEXT}|\d+(?:\.\d+)+)\s?(?P<unit>{UNIT_TEXT})?\W*",
    _I,
)
_EXPECTED = re.compile(
    r"\b(?:expect\w*|should|target|thresholds?|limit|criteri\w+|required|pass(?:es)? if"
    r"|soll\w*|erwart\w*|attendue?|期望|预期)\b",
    _I,
)


def demanded_above(texts: tuple[str, ...], *, has_own: bool) -> Iterator[tuple[str, bool]]:
    """The texts above an item that demand something of every item below them, and whether each may be a mere bound.

    Args:
        has_own: the item states demands of its own, so that a figure above it is that of other items.
    """
    for text in texts:
        plain = " ".join(re.sub(r"[`*_#]+", " ", text).split())
        duty = _WHEN.sub(" ", plain)
        words = _MUST.search(plain) or _NONE.search(plain)
        figures = not has_own and (comparisons_in(plain) or states_a_value(plain))
        if (words or figures) and not _ONLY_SUCCESS.fullmatch(duty) and not PROCEDURE.search(plain):
            yield plain, not words and not _TROUBLE.search(plain)


def is_named_value(text: str) -> bool:
    """Whether a bullet is a value that the output must show."""
    return len(text.split()) <= 8 and _NAMED_VALUE.fullmatch(text) is not None


def cells_expected(step: "Step") -> str | None:
    """The cells of an item's tables beside its commands, if a column is headed by what is expected; None otherwise."""
    cells = [block for block in step.blocks if block.kind == "table"]
    headers = [cell for cell in cells if cell.line == cells[0].line]
    if not any(_EXPECTED.search(cell.text) for cell in headers):
        return None
    values = [
        cell.text for cell in cells if cell not in headers and not any(" " in span.content for span in cell.spans)
    ]
    return "; ".join(value.replace("`", "") for value in values if re.search(r"\w", value)) or None
