"""The table of docs/reliability.md."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One case: its name, and what was wrong; nothing is good."""

    case: str
    wrong: list[str]


@dataclass
class Row:
    """One fault: how many cases were tried and which failed."""

    fault: str
    cases: int = 0
    failed: list[Finding] = field(default_factory=list)
    note: str = ""

    def add(self, finding: Finding) -> None:
        self.cases += 1
        if finding.wrong:
            self.failed.append(finding)

    def __str__(self) -> str:
        return f"| {self.fault} | {self.cases:,} | {len(self.failed)} | {self.note} |"
