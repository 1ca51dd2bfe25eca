"""Whether a load generator's result agrees with itself: stated rates with totals, and a request's times."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.actions.request_records import Record
from llmval_tui.runs.records import Gate, Outcome

TOLERANCE = 0.01  # of a rate that the tool states, and that its totals give


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure that a result states, and the same from its other fields; None: the result lacks one of the two."""

    what: str
    stated: float | None
    computed: float | None
    tolerance: float = TOLERANCE

    @property
    def good(self) -> bool:
        """Whether both are equal, within the tolerance and the rounding to two digits; True if one is missing."""
        if self.stated is None or self.computed is None:
            return True
        return abs(self.stated - self.computed) <= self.tolerance * abs(self.computed) + 0.01


def rate(total: float | None, seconds: float | None) -> float | None:
    """A total per second; None if one of the two is missing or there is no time."""
    return total / seconds if total is not None and seconds is not None and seconds > 0 else None


def claims_gate(claims: Sequence[Claim]) -> Gate | None:
    """Whether the stated figures are those of the other fields; None if there is nothing to compare."""
    known = [claim for claim in claims if claim.stated is not None and claim.computed is not None]
    if not known:
        return None
    wrong = next((claim for claim in known if not claim.good), None)
    shown = wrong or known[0]
    measured = f"{shown.what}: {shown.stated:.6g} stated, {shown.computed:.6g} from the other fields"
    reason = "" if wrong is None else "the file contradicts itself, so its figures are not valid"
    outcome = Outcome.PASS if wrong is None else Outcome.INVALID
    return Gate("stated figures", outcome, measured, f"both are equal within {shown.tolerance:.0%}", reason)


def order_gate(records: Sequence[Record]) -> Gate | None:
    """None if each request was sent, then answered first, then answered whole."""
    done = [record for record in records if record.done]
    backwards = sum(not _in_order(record) for record in done)
    if not backwards:
        return None
    reason = "a first token came before its request was sent, or after its answer's end: no latency of them is valid"
    return Gate("times of requests", Outcome.INVALID, f"{backwards} of {len(done)} run backwards", "none", reason)


def _in_order(record: Record) -> bool:
    first, last = record.first_s, record.last_s
    # Clocks of one process; times were added up in floating point.
    return first is not None and last is not None and record.dispatch_s < first <= last + 1e-6
