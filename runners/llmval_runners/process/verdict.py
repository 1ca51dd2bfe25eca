"""The verdict of a run: one word with its reason, and the exit code. Every record has it under `verdict`."""

from dataclasses import asdict, dataclass
from typing import Any

from llmval_runners.process.errors import UNDECIDED_EXIT


@dataclass(frozen=True, slots=True)
class Verdict:
    """`word`: ok, failed, overloaded, invalid, inconclusive, not found, hang, timeout, or ended early."""

    word: str
    reason: str
    exit_code: int

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ended_early(why: str) -> Verdict:
    """The verdict of a run that a signal or an error ended. Its exit code is that of the signal or the error."""
    return Verdict("ended early", why, UNDECIDED_EXIT)


def exit_code_of(verdict: Verdict, *, judged_by_llmval: bool) -> int:
    """The exit code of a run that has measured. llmval judges a complete record itself, and needs only to know that
    the runner has written it: then 0.
    """
    return 0 if judged_by_llmval else verdict.exit_code
