"""How long a command shall run: "run `x` for 24 h", "72-hour soak: `x`". The run itself is the measurement."""

import re
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import NUMBER_TEXT, number_of, unit_named
from llmval_tui.actions.criteria.wording.prose import COMMAND, Marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript

_TIME = rf"(?P<number>{NUMBER_TEXT})[\s-]?(?P<unit>(?:s|sec|second|min|minute|h|hr|hour|day)s?)\b"
_FOR = r"(?<!wait )(?<!waits )(?<!asks )(?<!ask )\bfor\s+(?:at least\s+|a full\s+|another\s+|the full\s+)?"
_LASTS = (
    re.compile(rf"{COMMAND}[^.;:\n()\ue000-\ue0ff]*?{_FOR}{_TIME}(?!\s*(?:each|per|of|timeout))", re.IGNORECASE),
    re.compile(rf"{COMMAND}\s+{_TIME}(?=\W*$|\s+(?:without|with no|straight|long)\b)", re.IGNORECASE),
    re.compile(rf"{_FOR}{_TIME}\s*[:,]?\s*(?:(?:run|execute|start)\s*)?{COMMAND}", re.IGNORECASE),
    re.compile(
        rf"{_TIME}\s+(?:soak|burn-?in|stress|endurance|stability)\b[^.;\n\ue000-\ue0ff]{{0,30}}{COMMAND}", re.IGNORECASE
    ),
)
_IN_COMMAND = re.compile(r"\d+(?:\.\d+)?")
_SCALES_S = (1.0, 60.0, 3600.0, 86400.0, 1e-3)


def how_long(words: Marked, commands: "Sequence[WrittenCommand | WrittenScript]") -> list[Criterion]:
    """The least duration of each command that the words give one; none if the command itself has it as a number."""
    found = []
    for match in (match for pattern in _LASTS for match in pattern.finditer(words.text)):
        number, unit = number_of(match["number"]), unit_named(match["unit"])
        at = words.command_near(match[0])
        if number is None or unit is None or at is None or at >= len(commands):
            continue
        seconds = number * unit.factor
        if any(
            float(written) * scale == seconds
            for written in _IN_COMMAND.findall(commands[at].text)
            for scale in _SCALES_S
        ):
            continue
        text = f"{match['number']} {match['unit']}"
        found.append(
            Criterion(text, StatedBy.WORDS, "duration", ">=", number, match["unit"], metric="duration", command=at)
        )
    return found[:1] if len(commands) == 1 else found
