"""One step of the engine as rank 0 decided it, and its form on the wire: a flat tensor of one fixed size.

A fixed size makes it one broadcast a step instead of two (length, then content). It holds no token that the model
itself produced: those stay in the runner's buffer on the device. So rank 0 can decide and send step n+1 while the
device still works at step n, and an engine without host synchronisation needs no other plan than this one.
"""

from dataclasses import dataclass, field

import torch

STEP, IDLE, STOP, TRACE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Admit:
    """A new sequence takes a row of the batch and its pages."""

    row: int
    pages: list[int]


@dataclass(frozen=True, slots=True)
class Prefill:
    """A chunk of a prompt, tokens start … start + len(tokens); `last` chunks give the first output token."""

    row: int
    start: int
    tokens: list[int]
    last: bool


@dataclass(frozen=True, slots=True)
class Decode:
    """One token of a running sequence: the row's last sampled token, at `position`."""

    row: int
    position: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What every rank does next. `code`: of a STOP the exit code to end with, of a TRACE 1 to start and 0 to end it."""

    kind: int = STEP
    admits: list[Admit] = field(default_factory=list)
    decodes: list[Decode] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    code: int = 0

    def encode(self, capacity: int) -> torch.Tensor:
        """Flat int64 [capacity]."""
        flat = [self.kind, self.code, len(self.admits), len(self.decodes), len(self.prefills)]
        for admit in self.admits:
            flat += [admit.row, len(admit.pages), *admit.pages]
        for decode in self.decodes:
            flat += [decode.row, decode.position]
        for prefill in self.prefills:
            flat += [prefill.row, prefill.start, len(prefill.tokens), *prefill.tokens, int(prefill.last)]
        if len(flat) > capacity:
            raise ValueError(f"a plan of {len(flat)} values does not fit the {capacity} that every rank expects")
        flat += [0] * (capacity - len(flat))
        return torch.tensor(flat, dtype=torch.int64)

    @classmethod
    def decode(cls, wire: torch.Tensor) -> "StepPlan":
        """Read back what `encode` made."""
        values = iter(wire.tolist())
        kind, code, admits, decodes, prefills = (next(values) for _ in range(5))

        def take(count: int) -> list[int]:
            return [next(values) for _ in range(count)]

        return cls(
            kind,
            [Admit(next(values), take(next(values))) for _ in range(admits)],
            [Decode(next(values), next(values)) for _ in range(decodes)],
            [Prefill(next(values), next(values), take(next(values)), bool(next(values))) for _ in range(prefills)],
            code,
        )


def capacity_for(*, max_batch: int, chunk: int, pages: int) -> int:
    """Values that the largest plan needs: every row decoding, `chunk` prompt tokens, and all pages admitted at once."""
    return 5 + max_batch * 2 + pages + max_batch * 2 + max_batch * 4 + chunk
