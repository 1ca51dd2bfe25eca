"""The content of a result file in one form for all tools: rows of figures, and the machine."""

from dataclasses import dataclass, field
from typing import Any


class UnsupportedFile(Exception):
    """The analyzer cannot read this file. The message gives the reason and is worded to follow the file's name."""


LARGEST = 1e100  # a greater value is damage, and its sums overflow


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The figures of one phase of one cell (or of another tool's run), and whether they are valid."""

    source: str  # path of the file
    origin: str  # llmval, vllm, trtllm, genai-perf or aiperf
    cell: str
    model: str
    mode: str | None
    batch_size: int | None
    sequence_length: int | None
    phase: str  # prefill, decode or serving
    machine: str
    how: str  # attention and compilation; cells that differ in it are not compared
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
    failed_requests: float | None = None  # failed requests of another tool's run; None: not stated
    gpu_uuids: tuple[str, ...] = ()  # two cards of one kind differ by a few percent

    @property
    def group(self) -> tuple[str, str, str, int | None]:
        """Machine, model, phase, sequence length: best cells and fronts are found within one group."""
        return self.machine, self.model, self.phase, self.sequence_length


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a cell. Figures of different machines or power limits are never compared."""

    id: str
    host: str
    gpus: str
    driver: str | None
    power_limit_w: list[float | None]
    torch: str | None
    date: str
    gpu_set: str | None = None  # hash of the UUIDs of all GPUs of the host (8 hex digits), since hosts may share a name


@dataclass(slots=True)
class InputFile:
    """The content of one input file."""

    path: str
    origin: str
    sha256: str
    rows: list[ResultRow] = field(default_factory=list)
    cell: dict[str, Any] | None = None  # the record, if it is a cell of a sweep
    planned: list[str] = field(default_factory=list)  # cell names, if it is the manifest of a sweep
    machine: Machine | None = None


def number(value: Any, name: str) -> float:
    """Check that a value is a finite number.

    Raises:
        UnsupportedFile: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:  # so no NaN
        raise UnsupportedFile(f"{name} is not a number, or too large for one")
    return float(value)
