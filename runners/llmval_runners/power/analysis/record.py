"""What a result file says, in one form: a phase of a cell, or another tool's run."""

from dataclasses import dataclass, field
from typing import Any


class NotUnderstood(Exception):
    """A file that is no result the analyzer reads. The message says what it lacks; the caller names the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: figures of one phase of one cell (or of another tool's run), and whether they may be believed."""

    source: str  # path of the file
    origin: str  # llmval, vllm or aiperf
    cell: str
    model: str
    mode: str | None
    batch_size: int | None
    sequence_length: int | None
    phase: str  # prefill, decode or serving
    machine: str
    how: str  # attention and compilation: cells that differ in it are not compared
    valid: bool
    status: str
    reasons: list[str]
    tokens_per_s: float | None
    power_w: float | None
    tokens_per_joule: float | None
    joules_per_token: float | None
    tokens_per_joule_net: float | None = None
    joules_per_token_net: float | None = None
    cv_percent: float | None = None
    disagreement_percent: float | None = None
    mfu: float | None = None
    mbu: float | None = None
    window_s: float | None = None
    baseline_grade: bool = False
    gpu_uuids: tuple[str, ...] = ()  # the cards themselves: two of one kind differ by a few percent

    @property
    def group(self) -> tuple[str, str, str, int | None]:
        """Cells among which a best one and a front make sense."""
        return self.machine, self.model, self.phase, self.sequence_length


@dataclass(frozen=True, slots=True)
class Machine:
    """Where cells were measured. Figures of two machines, or of two power limits, are never compared."""

    id: str
    host: str
    gpus: str
    driver: str | None
    power_limit_w: list[float | None]
    torch: str | None
    date: str
    gpu_set: str | None = None  # 8 hex digits for the UUIDs of all the host's GPUs: hosts may share a name


@dataclass(slots=True)
class Read:
    """What one file gave."""

    path: str
    origin: str
    sha256: str
    entries: list[Entry] = field(default_factory=list)
    cell: dict[str, Any] | None = None  # the record of one of our cells
    planned: list[str] = field(default_factory=list)  # cells that a sweep's manifest names
    machine: Machine | None = None


def number(value: Any, what: str) -> float:
    """A finite number.

    Raises:
        NotUnderstood: it is none.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or value in (float("inf"), float("-inf"))
    ):
        raise NotUnderstood(f"{what} is not a number")
    return float(value)
