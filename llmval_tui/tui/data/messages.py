"""The messages of the dashboard since its start: the newest stands in the row of the keys, `M` lists all."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["information", "warning", "error"]
KEPT = 500
NOTICE_SIGNS = {"information": ("·", "-"), "warning": ("!", "!"), "error": ("✗", "x")}  # the second one in ASCII
NOTICE_ROLES = {"information": "text", "warning": "warn", "error": "bad"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One message."""

    at_s: float  # wall clock
    text: str  # one line
    severity: Severity
    count: int = 1  # how often it was said in a row


@dataclass
class Messages:
    """All messages, and the one that is shown."""

    all: deque[Notice] = field(default_factory=lambda: deque(maxlen=KEPT))
    shown: Notice | None = None
    total: int = 0

    def add(self, notice: Notice) -> None:
        """Show a message. The same one again is counted and not listed twice."""
        last = self.all[-1] if self.all else None
        if last is not None and (last.text, last.severity) == (notice.text, notice.severity):
            notice = Notice(notice.at_s, notice.text, notice.severity, last.count + 1)
            self.all[-1] = notice
        else:
            self.all.append(notice)
            self.total += 1
        self.shown = notice
