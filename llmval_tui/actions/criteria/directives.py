"""The keys of an item's llmval comment that say how its command runs: `artifact=`, `timeout=` and `retries=`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.units import number_of, unit_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Step

SERVER, NO_SERVER = "server", "none"  # `server=none`: the item does not rest on the server of its section
NODES, EACH = "nodes", "each"  # `nodes=each`: the item runs on every node of the list
# The keys that every action with a command reads.
COMMAND_KEYS = frozenset({"expect", "artifact", "timeout", "retries", "smoke", "source", NODES, SERVER})
SERVER_KEYS = frozenset({"expect", "artifact", "source", "url", "model", "ready"})  # of an item that starts a server
READY_WITHIN_S = 1800.0  # for a server, from its start to its first completed request, if the item does not say it
_MOST_RETRIES = 20
_LONGEST_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Directives:
    """What the comment says about the run of an item."""

    artifacts: tuple[str, ...] = ()  # files or folders that the run must write, as written
    timeout_s: float | None = None  # for each command; None: no limit
    retries: int = 0  # further attempts after a failure


def stated_directives(step: "Step") -> Directives:
    """The directives of an item.

    Raises:
        Refused: a value cannot be read; the message says what to write.
    """
    stated = step.directives
    artifacts = tuple(path.strip() for path in stated.get("artifact", "").split("\n") if path.strip())
    if "artifact" in stated and not artifacts:
        raise Refused("artifact= names no file: write artifact=artifacts/NAME, or remove it.")
    if stated.get(SERVER, NO_SERVER) != NO_SERVER:
        raise Refused(
            f"server={clean_line(stated[SERVER])} is not understood: write server=none for an item that needs no "
            "server; without it, an item rests on the server that its section started."
        )
    timeout = stated.get("timeout")
    timeout_s = duration_of("timeout", timeout) if timeout is not None else None
    return Directives(artifacts, timeout_s, _retries(stated.get("retries")))


def duration_of(key: str, text: str) -> float:
    """The seconds of `key=90s`, `20min` or `2h`.

    Raises:
        Refused: it is not a duration.
    """
    match = re.fullmatch(r"\s*([\d.,]+)\s*([A-Za-z]*)\s*", text)
    number = number_of(match[1]) if match else None
    unit = unit_named(match[2] or "s") if match else None
    if number is None or unit is None or unit.dimension != "time" or not 0 < number * unit.factor <= _LONGEST_S:
        raise Refused(f"{key}={clean_line(text)} is not a duration up to 30 days: write {key}=90s, 20min or 2h.")
    return number * unit.factor


def _retries(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.strip().isdecimal()) or int(text) > _MOST_RETRIES:
        raise Refused(f"retries={clean_line(text)} is not a number from 0 to {_MOST_RETRIES}: write retries=2.")
    return int(text)
