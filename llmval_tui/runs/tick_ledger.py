"""`artifacts/runs/ledger.jsonl`: one line for each tick, with whole hashes and what the tick rests on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.files import read_bytes
from llmval_tui.runs.records import Evidence, RestsOn

RUN = "tick"  # by a run
ASKED = "intent"  # a person asked for a tick; written before the box is touched
BY_HAND = "operator"  # a tick by hand is done
WITHDRAWN = "withdrawn"  # a tick by hand that was asked for could not be made, and is not wanted any more


@dataclass(frozen=True, slots=True)
class TickLine:
    """One line of the ledger."""

    section: str
    text: str
    occurrence: int
    kind: str = RUN  # one of the constants above; the oldest lines have none
    checklist: str | None = None  # a `recorded_path`; missing in old lines
    number: str = ""
    utc: str = ""
    host: str = ""
    by: str | None = None  # the user of a tick by hand
    note: str | None = None
    run_id: str | None = None
    evidence: list[Evidence] = field(default_factory=list)
    rests_on: RestsOn | None = None  # None in old lines
    contradicts: str | None = None  # the failed run that a tick by hand contradicts
    item_fingerprint: str | None = None  # fingerprint of the item as it was ticked
    tick_id: str | None = None  # joins the lines of one tick by hand

    @property
    def key(self) -> tuple[str, str, int]:
        return self.section, self.text, self.occurrence


class TickLedger:
    """The lines of the ledger. The file is read again only if it changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable: tuple[str, ...] = ()  # one sentence for each damaged line
        self._stamp: tuple[int, int, int] | None = None
        self._lines: tuple[TickLine, ...] = ()
        self._runs: frozenset[str] = frozenset()

    def lines(self) -> tuple[TickLine, ...]:
        """All lines in order; damaged ones, and a file that cannot be read, are listed in `unreadable` instead."""
        try:
            status = self.path.stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if stamp != self._stamp:
                self._parse(read_bytes(self.path).split(b"\n"))
                self._stamp = stamp
        except (FileNotFoundError, NotADirectoryError):
            self._parse([])
            self._stamp = None
        except OSError as error:
            self._parse([])
            self._stamp = None
            self.unreadable = (f"{self.path} cannot be read ({error.strerror}), so no tick has a record.",)
        return self._lines

    def ticked_by(self, run_id: str) -> bool:
        """Whether this run's tick is recorded."""
        self.lines()
        return run_id in self._runs

    def _parse(self, lines: Iterable[bytes]) -> None:
        found, damaged = [], []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                found.append(decode(TickLine, orjson.loads(line)))
            except (TypeError, AttributeError, ValueError):
                damaged.append(f"{self.path}, line {number} is damaged and cannot be read: a tick may be missing.")
        self._lines, self.unreadable = tuple(found), tuple(damaged)
        self._runs = frozenset(line.run_id for line in found if line.kind == RUN and line.run_id)
