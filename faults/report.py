"""The cases that were tried: counted in rows, kept in a file, printed as the table of docs/reliability.md."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Finding:
    """One case: its name, what was wrong (nothing is good), and in one or two words what happened."""

    case: str
    wrong: list[str]
    seen: str = ""


def sources() -> str:
    """A digest of the code that is tried: results of other code do not count."""
    digest = hashlib.sha256()
    for room in ("llmval_tui", "faults", "tests/helpers"):
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Record:
    """A file with one JSON line for each case, so that a run of hours can be stopped and taken up again.

    A case that passed with the same code is not tried again. One that failed is: a deadline that a loaded machine
    missed must be met once; the table says how many cases passed only then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.code = sources()
        self.findings: dict[str, dict[str, Finding]] = {}  # by fault, then by case: the last try of each
        self.repeated: Counter[str] = Counter()  # by fault: cases that were tried again after they had failed
        self.notes: dict[str, str] = {}
        for line in self._lines():
            if line["code"] != self.code:
                continue
            if "note" in line:
                self.notes[line["fault"]] = line["note"]
            else:
                self._keep(line["fault"], Finding(line["case"], line["wrong"], line["seen"]))

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        if not data.endswith(b"\n"):  # cut by a kill: the next line must not grow on it
            with self.path.open("a") as file:
                file.write("\n")
        for line in data.splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # cut by a kill; its case is tried again
                continue

    def _keep(self, fault: str, finding: Finding) -> None:
        before = self.findings.setdefault(fault, {}).get(finding.case)
        self.repeated[fault] += before is not None and bool(before.wrong)
        self.findings[fault][finding.case] = finding

    def add(self, fault: str, finding: Finding) -> None:
        self._keep(fault, finding)
        self._write(fault=fault, case=finding.case, wrong=finding.wrong, seen=finding.seen)

    def note(self, fault: str, note: str) -> None:
        self._write(fault=fault, note=note)

    def _write(self, **line: object) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:  # one write: several processes may use one file
            file.write(json.dumps({"code": self.code, "utc": time.strftime("%FT%TZ", time.gmtime()), **line}) + "\n")


@dataclass
class Row:
    """One fault: how many cases were tried and which failed."""

    name: str
    fault: str
    record: Record | None = None
    findings: dict[str, Finding] = field(default_factory=dict)
    note: str = ""

    def tried(self, case: str) -> bool:
        """Whether this case has passed before, as the record says; then it is counted and need not be tried."""
        known = self.record.findings.get(self.name, {}).get(case) if self.record else None
        if known is None or known.wrong:
            return False
        self.findings[case] = known
        return True

    def add(self, finding: Finding) -> None:
        self.findings[finding.case] = finding
        if self.record is not None:
            self.record.add(self.name, finding)

    def close(self) -> None:
        """The fault is tried: keep its note, or take the one of the time when its cases were tried."""
        if self.record is not None and self.note:
            self.record.note(self.name, self.note)
        elif self.record is not None:
            self.note = self.record.notes.get(self.name, "")

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings.values() if finding.wrong]

    def __str__(self) -> str:
        seen = Counter(finding.seen for finding in self.findings.values() if finding.seen)
        notes = [self.note, ", ".join(f"{count:,} {what}" for what, count in sorted(seen.items()))]
        if self.record is not None and (again := self.record.repeated[self.name]):
            notes.append(f"{again} failed and were tried again")
        note = "; ".join(note for note in notes if note)
        return f"| {self.fault} | {len(self.findings):,} | {len(self.failed)} | {note} |"
